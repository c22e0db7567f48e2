"""Draws docs/flow.svg, the picture of the README: how a question finds its answer, and what each step hands on.

python docs/flow.py
"""

from pathlib import Path

STEPS = [
    ("documents", "files → text with\nits immutable hash", "data/"),
    ("chunks", "spans of that text,\none section each", "retrieve/"),
    ("index", "vectors + BM25\nin one folder", "retrieve/"),
    ("passages", "two legs fused,\nfilters before top-k", "retrieve/"),
    ("sentences", "each a span, ranked by\ncalibrated relevance", "ground/"),
    ("answer", "quotes proven,\nor “I don't know”", "ground/"),
]
BELOW = [
    ("one model core", "LLaMA and BERT from the same blocks; reads GGUF and Hugging Face folders", "model/"),
    ("one engine", "generate, stream, score, embed: continuous batching over one cache", "generate/"),
    ("one evaluation", "gold questions, two baselines, intervals on every number", "evaluate/"),
    ("one server", "pages for people and OpenAI's API for programs; limits, keys, metrics", "serve/"),
    ("one log", "every interaction, committed before its answer is acknowledged; it can be replayed", "monitor/"),
    ("one lineage", "answer → span → document → weights → settings → evaluation", "artefact.py"),
]
WIDTH, BOX, GAP = 1080, 160, 24


def box(x: int, y: int, width: int, height: int, title: str, lines: list[str], place: str) -> str:
    body = "".join(f'<text x="{x + 16}" y="{y + 52 + 18 * i}" class="t">{line}</text>' for i, line in enumerate(lines))
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" class="b"/>'
        f'<text x="{x + 16}" y="{y + 28}" class="h">{title}</text>{body}'
        f'<text x="{x + width - 16}" y="{y + height - 12}" class="p" text-anchor="end">{place}</text>'
    )


def draw() -> str:
    parts = []
    for i, (title, text, place) in enumerate(STEPS):
        x = i * (BOX + GAP)
        parts.append(box(x, 0, BOX, 120, title, text.split("\n"), place))
        if i:
            parts.append(f'<path d="M{x - GAP + 4} 60h{GAP - 10}m-5 -4l5 4l-5 4" class="a"/>')
    for i, (title, text, place) in enumerate(BELOW):
        parts.append(box(0, 152 + i * 80, WIDTH, 68, title, [text], place))
    style = (
        ".b{fill:#f6f7f9;stroke:#d0d5dd}.h{font:600 16px system-ui,sans-serif;fill:#0b6e8f}"
        ".t{font:13px system-ui,sans-serif;fill:#1c2024}.p{font:12px ui-monospace,monospace;fill:#60646c}"
        ".a{fill:none;stroke:#60646c;stroke-width:1.6}"
    )
    height = 152 + len(BELOW) * 80
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {WIDTH + 16} {height + 8}" role="img" '
        f'aria-label="From documents to a grounded answer"><style>{style}</style>'
        f'<rect x="-8" y="-8" width="{WIDTH + 16}" height="{height + 8}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_name("flow.svg").write_text(draw(), "utf-8")
