"""Draws docs/vocabulary.svg: what the same sentences cost in nineteen languages, from the numbers of a report.

lmworks tokenizer report ... --reference eng --json numbers.json
python docs/vocabulary.py numbers.json
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lmworks.report import as_svg, new_axes


def main() -> None:
    rows: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for row in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        if row["measure"] == "parity":
            rows[row["text"]][row["vocabulary"]] = row["value"]
    ordered = dict(sorted(rows.items(), key=lambda item: max(item[1].values())))
    Path(__file__).with_suffix(".svg").write_text(heat_map(ordered, label="tokens per token of eng"), "utf-8")


def heat_map(rows: Mapping[str, Mapping[str, float]], *, label: str) -> str:
    """SVG of a matrix, `rows[row][column]`: each cell has its number and a colour from light (low) to dark (high)."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = np.array([[row.get(column, np.nan) for column in columns] for row in rows.values()])
    figure, axes = new_axes("", "", height=1.1 + 0.26 * len(rows))
    image = axes.imshow(table, cmap="YlGnBu", aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            ink = "#ffffff" if value > middle else "#1c2024"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    figure.colorbar(image, label=label, shrink=min(1.0, 4.0 / (1.1 + 0.26 * len(rows))))
    return as_svg(figure)


main()
