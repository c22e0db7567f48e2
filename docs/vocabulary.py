"""Draws docs/vocabulary.svg: what the same sentences cost in nineteen languages, from the numbers of a report.

lmworks tokenizer report ... --reference eng --json numbers.json
python docs/vocabulary.py numbers.json
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from lmworks.report import heat_map


def main() -> None:
    rows: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for row in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        if row["measure"] == "parity":
            rows[row["text"]][row["vocabulary"]] = row["value"]
    ordered = dict(sorted(rows.items(), key=lambda item: max(item[1].values())))
    Path(__file__).with_suffix(".svg").write_text(heat_map(ordered, label="tokens per token of eng"), "utf-8")


main()
