"""A messy mixture with known defects through lmworks: of each class what was caught, what was missed, what went
wrongly.

    .venv/bin/python benchmarks/messy_mixture.py OUT [--data ../shared/data] [--samples 3] [--manuals FOLDER ...]

Some 1,400 documents: pages of newspapers and of manuals, raw web text and junk, books as scanners leave them, mail,
logs of a chat, source code with other people's, generated, minified and copied files, proposals in several versions,
texts in twenty languages, personal data, items of evaluation sets, and files that are broken or made to harm. What is
wrong with each was planted, or is known because people marked what is right, so the truth is known (`OUT/truth.jsonl`).

The mixture is cleaned by one recipe with the default policy (`OUT/planted.toml`), and so are the same documents without
the defects (`OUT/originals.toml`). Told of each class: how many defects were planted, caught and missed; how many words
of harmless text there are in the originals, and how many of them went; and the share of harmless words that went beside
the defects. A word that a change touches counts with its neighbours where fewer than four words in a row are left of
them. Everything is measured by comparing texts. The table is written to `OUT/scores.json` too.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from contenders.manuals import find_manuals
from contenders.texts import DATA
from mixture.books import plant_books
from mixture.broken import plant_broken
from mixture.cleaned import build, write_recipe
from mixture.code import plant_code
from mixture.languages import plant_languages
from mixture.personal import plant_personal
from mixture.planting import ORIGINALS, PLANTED, Mixture
from mixture.scoring import Row, score, table
from mixture.talk import plant_talk
from mixture.versions import plant_evaluation, plant_versions
from mixture.web import plant_web


def plant(folder: Path, data: Path, manuals: Sequence[Path], seed: int) -> Mixture:
    """Both halves of the mixture, in a new folder, and the truth about them."""
    mixture = Mixture(folder, seed)
    plant_books(mixture, data)
    plant_web(mixture, data, manuals)
    plant_talk(mixture, data)
    plant_code(mixture)
    plant_versions(mixture, data)
    plant_evaluation(mixture, data)
    plant_languages(mixture, data)
    plant_personal(mixture, data)
    plant_broken(mixture)
    mixture.save_truth()
    return mixture


def show(rows: dict[str, Row]) -> None:
    for kind, row in sorted(rows.items()):
        for title, samples in (("missed", row.missed), ("wrong", row.wrong)):
            for sample in samples:
                print(f"  {kind}, {title}: {sample}".encode("utf-8", "backslashreplace").decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder, or one that this script made")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--manuals", type=Path, nargs="*", help="folders of manuals in HTML; left out: what is on this machine"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--samples", type=int, default=0, help="of what was missed and of what went wrongly, each class"
    )
    options = parser.parse_args()
    out = options.out.resolve()
    for half in (PLANTED, ORIGINALS):
        shutil.rmtree(out / half, ignore_errors=True)
        shutil.rmtree(out / f"{half}-workspace", ignore_errors=True)
    began = time.perf_counter()
    mixture = plant(out, options.data, options.manuals or find_manuals(), options.seed)
    halves = {half: build(write_recipe(mixture, half)) for half in (PLANTED, ORIGINALS)}
    rows = score(mixture.defects, mixture.harmless, halves, options.samples)
    print(table(rows))
    show(rows)
    for note in mixture.notes:
        print(note)
    documents = {half: len(cleaned.texts) for half, cleaned in halves.items()}
    seconds = {half: round(cleaned.seconds, 1) for half, cleaned in halves.items()}
    print(
        f"documents that stay: {documents}; seconds of the builds: {seconds}; in all {time.perf_counter() - began:.0f}"
    )
    scores = {
        kind: {
            "planted": row.planted, "caught": row.caught,
            "harmless_words": row.harmless[ORIGINALS], "taken": row.taken[ORIGINALS],
            "harmless_words_beside": row.harmless[PLANTED], "taken_beside": row.taken[PLANTED],
        }
        for kind, row in sorted(rows.items())
    }  # fmt: skip
    told = {"seed": options.seed, "python": sys.version.split()[0], "notes": mixture.notes, "classes": scores}
    (out / "scores.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
