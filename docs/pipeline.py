"""Draws docs/pipeline.svg, what the devices of a pipeline do when, from the schedules that training follows.

python docs/pipeline.py
"""

from pathlib import Path

from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.pipeline_schedule import schedules, timeline

DEVICES, MICRO_BATCHES = 4, 8
DRAWN = [
    ("GPipe: all forwards, then all backwards", ParallelConfig(pipeline=DEVICES, schedule="gpipe")),
    ("1F1B: the same time, and at most 4 micro-batches kept", ParallelConfig(pipeline=DEVICES)),
    ("interleaved 1F1B: 2 chunks on each device, half the waiting", ParallelConfig(pipeline=DEVICES, chunks=2)),
]
UNIT, ROW, LEFT, BAND = 14, 24, 76, 150  # of a forward of one chunk of two; a device; before the rows; a timeline


def draw() -> str:
    parts, whole = [], 0
    for band, (title, config) in enumerate(DRAWN):
        top = band * BAND
        scale = 2 // config.chunks  # all devices do the same work in all
        timed = timeline(schedules(config, MICRO_BATCHES), forward=scale, backward=2 * scale)
        parts.append(f'<text x="0" y="{top + 14}" class="h">{title}</text>')
        end = 0
        for rank, mine in enumerate(timed):
            y = top + 26 + rank * ROW
            parts.append(f'<text x="0" y="{y + 16}" class="d">device {rank}</text>')
            for start, (kind, micro_batch, chunk) in mine:
                width = (scale if kind == "forward" else 2 * scale) * UNIT
                x = LEFT + start * UNIT
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{width}" height="{ROW - 2}" class="{kind[0]}{chunk}"/>'
                    f'<text x="{x + width / 2:g}" y="{y + 15}" class="n">{micro_batch}</text>'
                )
                end = max(end, x + width)
        works = MICRO_BATCHES * config.chunks * 3 * scale * UNIT
        lost = f"waits {(end - LEFT - works) / works:.1%} of the time it works"
        parts.append(f'<text x="{end + 10}" y="{top + 26 + 2 * ROW + 4}" class="d">{lost}</text>')
        whole = max(whole, end)
    width, height = whole + 210, len(DRAWN) * BAND + 20
    legend = [("f0", "forward"), ("b0", "backward"), ("f1", "forward, second chunk"), ("b1", "backward, second chunk")]
    for number, (style, meaning) in enumerate(legend):
        x, y = LEFT + number * 190, len(DRAWN) * BAND - 4
        parts.append(f'<rect x="{x}" y="{y}" width="{UNIT}" height="{UNIT}" class="{style}"/>')
        parts.append(f'<text x="{x + UNIT + 6}" y="{y + 12}" class="d">{meaning}</text>')
    style = (
        ".f0{fill:#b9dcea}.f1{fill:#0b6e8f}.b0{fill:#f5d9a8}.b1{fill:#b97a12}rect{stroke:#fff}"
        ".h{font:600 14px system-ui,sans-serif;fill:#1c2024}.d{font:12px system-ui,sans-serif;fill:#60646c}"
        ".n{font:11px system-ui,sans-serif;fill:#1c2024;text-anchor:middle}.f1+.n,.b1+.n{fill:#fff}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {width + 16} {height + 16}" role="img" '
        f'aria-label="Three schedules of a pipeline"><style>{style}</style>'
        f'<rect x="-8" y="-8" width="{width + 16}" height="{height + 16}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_name("pipeline.svg").write_text(draw(), "utf-8")
