"""Ranges of activations: how far what comes into each layer reaches, and which channels reach much further than the
others, which is what makes 8-bit activations lossy (Dettmers et al. 2022, "LLM.int8()", section 4).
"""

from collections.abc import Mapping

from lmworks.compress.block_calibration import InputStatistics
from lmworks.report import Figure, Section, Table, as_svg, new_axes

OUTLIER = 6.0  # a channel reaches so many times as far as the median channel of its layer
_SHOWN = 8  # layers


def outlier_channels(statistics: InputStatistics) -> list[int]:
    """The numbers of the channels whose largest magnitude is `OUTLIER` times the median of all channels', furthest
    first."""
    largest = statistics.largest
    found = (largest > OUTLIER * largest.median()).nonzero()[:, 0]
    return found[largest[found].argsort(descending=True)].tolist()


def ranges_section(inputs: Mapping[str, InputStatistics]) -> Section:
    """The layers whose inputs reach furthest beyond their root mean square, and a figure of all channels of the first
    of these."""
    reach = {name: float(own.largest.max() / own.mean_square.mean().sqrt()) for name, own in inputs.items()}
    worst, rows = sorted(reach, key=reach.__getitem__, reverse=True)[:_SHOWN], []
    for name in worst:
        largest, found = inputs[name].largest, outlier_channels(inputs[name])
        shown = ", ".join([*map(str, found[:6]), *(["…"] if len(found) > 6 else [])])
        rows.append((name, float(largest.max()), reach[name], len(found), len(largest), shown or "none"))
    columns = ("layer", "largest |x|", "times the root mean square", "outliers", "channels", "which, furthest first")
    text = (
        f"What comes into the linear layers on the calibration text. An outlier channel reaches more than "
        f"{OUTLIER:g} times as far as the median channel of its layer; `--method smoothquant` moves its range into the "
        "weights."
    )
    figure, axes = new_axes("channel", "largest |x|")
    largest = inputs[worst[0]].largest.tolist()
    axes.bar(range(len(largest)), largest, width=1.0, color="#0b6e8f")
    drawn = Figure(as_svg(figure), f"The range of each input channel of {worst[0]}")
    return Section("Activations", text, (Table(columns, tuple(rows), "The layers of the widest range"),), (drawn,))
