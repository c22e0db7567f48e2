"""Make src/lmworks/evaluate/wordnet.txt.gz, the synonyms that METEOR looks up, from the files of WordNet 3.0.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb FOLDER
    .venv/bin/python docs/wordnet.py FOLDER/usr/share/wordnet

Of each synset the words without a space are kept, in the case that WordNet gives them. A word that no such synset has
besides itself stands alone, because it may be the base form of an inflected one.
"""

import argparse
import gzip
import re
from pathlib import Path

from lmworks.evaluate.wordnet import FILE

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def synsets(path: Path) -> list[list[str]]:
    """The single words of each synset of a data file (wndb(5WN)): offset, file, type, hexadecimal number of words,
    then each word with its number. Adjectives have markers such as "(p)"."""
    rows = [line.split(" ") for line in path.read_text("ascii").split("\n") if line and not line.startswith(" ")]
    words = [[re.sub(r"\(.*\)$", "", word) for word in row[4 : 4 + 2 * int(row[3], 16) : 2]] for row in rows]
    return [[word for word in synset if "_" not in word] for synset in words]


def lines(folder: Path) -> list[str]:
    found = []
    for part, name in PARTS.items():
        several = [words for words in synsets(folder / f"data.{name}") if len(words) > 1]
        alone = {words[0] for words in synsets(folder / f"data.{name}") if len(words) == 1}
        alone -= {word for words in several for word in words}
        irregular = [line.split() for line in (folder / f"{name}.exc").read_text("ascii").splitlines()]
        found += [f"{part} {' '.join(words)}" for words in [*sorted(several), *([word] for word in sorted(alone))]]
        found += [
            f"!{part} {' '.join(word for word in row if '_' not in word)}" for row in irregular if "_" not in row[0]
        ]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    text = "\n".join(lines(parser.parse_args().folder)) + "\n"
    FILE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{FILE}: {text.count(chr(10)):,} lines, {FILE.stat().st_size:,} bytes")
