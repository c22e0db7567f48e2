"""The published heuristic filters on real texts, beside datatrove's: how fast, and do both drop the same?

    .venv/bin/pip install 'datatrove==0.10.1' regex spacy    # into an environment that may be thrown away
    .venv/bin/python benchmarks/heuristic_filters.py [--data ../shared/data] [--pieces 300] [--rounds 5]

Gopher's quality and repetition rules, C4 and FineWeb, with the texts of `llama-factory-demos/c4_demo.jsonl.gz` (300
pages of raw C4) and pieces of classic books and Python's enhancement proposals, their line ends written as newlines.
One thread each, in turns; told are documents a second of the median round, and the median ratio with its lowest and
highest. lmworks measures everything; datatrove stops at the first rule of a filter that drops. Its words are those of
spaCy, cut once for all filters. As most of its time goes into them, it is measured with the tokens of lmworks in their
place too ("datatrove, our words"): what is left of the ratio is that of the rules.

Then what both say: datatrove with its own words, and with those of lmworks, where all that differs is the rules. On the
side of lmworks with the thresholds and denominators of datatrove (`datatrove_…`), and with those of the
papers. Each difference with the first reason and examples.
"""

import argparse
import gzip
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import comparison, texts

from lmworks.corpus.taggers.heuristics import C4, FINEWEB, GOPHER, PRESETS
from lmworks.corpus.taggers.repetition import REPETITION
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import tokens

TAGGERS: Mapping[str, Tagger] = {"gopher": GOPHER, "gopher_repetition": REPETITION, "c4": C4, "fineweb": FINEWEB}
OURS: Mapping[str, Sequence[str]] = {
    "gopher": ("datatrove_gopher", "gopher"),
    "gopher_repetition": ("gopher_repetition",),
    "c4": ("datatrove_c4", "c4"),
    "fineweb": ("datatrove_fineweb", "fineweb"),
}
# What datatrove measures otherwise: it divides by tokens, in which punctuation counts, looks for placeholders and
# brackets in the lines that C4's rules leave, and its code of FineWeb allows a tenth of the paper's repetition.
OF_DATATROVE: Mapping[str, Mapping[str, tuple[str, float | None]]] = {
    "gopher": {f"{name}_word_{kind}": (f"{name}_token_{kind}", None) for name, kind in (
        ("hash", "ratio"), ("ellipsis", "ratio"), ("alphabetic", "share")
    )},
    "c4": {name: (f"kept_{name}", None) for name in ("lorem_ipsum", "curly_brackets")},
    "fineweb": {"fineweb_duplicate_character_share": ("fineweb_duplicate_character_share", 0.01)},
}  # fmt: skip
EXAMPLES = 3
Measures = Mapping[str, Mapping[str, float]]  # of each rule set, in one document
Reasons = Mapping[str, str]  # rule set → the first reason to drop; "" keeps
SPACY, OUR_WORDS = "datatrove", "datatrove, our words"


@dataclass(frozen=True, slots=True)
class Piece:
    """A document of the benchmark."""

    id: str
    text: str


Judge = Callable[[Piece], Reasons]


def read_pieces(data: Path, pieces: int, characters: int) -> dict[str, list[Piece]]:
    """For each source its documents; of long texts as many pieces as asked for, evenly out of all."""
    rows = gzip.decompress((data / "llama-factory-demos" / "c4_demo.jsonl.gz").read_bytes()).decode().splitlines()
    pages = [Piece(f"c4/{number}", json.loads(row)["text"]) for number, row in enumerate(rows)]
    books = {name: text.replace("\r\n", "\n") for name, text in texts.books(data).items()}
    long = {"books": books, "peps": texts.proposals(data)}
    cuts = {name: [piece for each in found.items() for piece in cut(*each, characters)] for name, found in long.items()}
    return {"c4": pages, **{name: evenly(each, pieces) for name, each in cuts.items()}}


def cut(title: str, text: str, characters: int) -> Iterator[Piece]:
    """Pieces of so many characters or some more, that end at blank lines; the rest of the text is left."""
    held: list[str] = []
    number = size = 0
    for paragraph in text.split("\n\n"):
        held.append(paragraph)
        size += len(paragraph) + 2
        if size >= characters:
            yield Piece(f"{title}/{number}", "\n\n".join(held))
            held, number, size = [], number + 1, 0


def evenly(pieces: Sequence[Piece], number: int) -> list[Piece]:
    number = min(number, len(pieces))
    return [pieces[place * len(pieces) // number] for place in range(number)]


def load_datatrove() -> Judge:
    """All filters on one document. Exits with a message where datatrove is missing."""
    try:
        from datatrove.data import Document
        from datatrove.pipeline.filters.c4_filters import C4QualityFilter
        from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
        from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
        from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
        from datatrove.utils.text import split_into_words

        split_into_words("spaCy reads its rules of English now.")
    except ImportError as error:
        raise SystemExit(f"{error}: pip install 'datatrove==0.10.1' regex spacy") from error
    filters: dict[str, Any] = {  # that of C4 last, since it changes the document
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher": GopherQualityFilter(),
        "fineweb": FineWebQualityFilter(),
        "c4": C4QualityFilter(),
    }

    def judge(piece: Piece) -> Reasons:
        document = Document(text=piece.text, id=piece.id)
        verdicts = {name: each.filter(document) for name, each in filters.items()}
        return {name: "" if verdict is True else verdict[1] for name, verdict in verdicts.items()}

    return judge


def with_our_words(judge: Judge) -> Judge:
    """datatrove's filters, with the tokens of lmworks in place of spaCy's."""
    from datatrove.pipeline.filters import fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter

    modules: list[Any] = [fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter]

    def judge_so(piece: Piece) -> Reasons:
        held = [module.split_into_words for module in modules]
        found = tokens(piece.text)
        for module in modules:
            module.split_into_words = lambda text, language: found if text is piece.text else tokens(text)
        try:
            return judge(piece)
        finally:
            for module, function in zip(modules, held, strict=True):
                module.split_into_words = function

    return judge_so


def measure(piece: Piece) -> Measures:
    text = Text(piece.text, language="en")
    return {name: tagger.tag(text).scores for name, tagger in TAGGERS.items()}


def measure_as_datatrove(piece: Piece) -> Measures:
    """The same, and what datatrove measures in place of some."""
    text, measures = Text(piece.text, language="en"), measure(piece)
    number = max(len(text.tokens), 1)
    cut = {(span.start, span.end) for span in C4.tag(text).spans if span.rule != "c4.citation"}
    kept, end = piece.text, len(piece.text)
    for start, end in sorted(cut, reverse=True):
        kept = kept[:start] + kept[end:]
    return {
        **measures,
        "gopher": {
            **measures["gopher"],
            "hash_token_ratio": piece.text.count("#") / number,
            "ellipsis_token_ratio": (piece.text.count("...") + piece.text.count("…")) / number,
            "alphabetic_token_share": sum(any(map(str.isalpha, word)) for word in text.words) / number,
        },
        "c4": {
            **measures["c4"],
            "kept_lorem_ipsum": kept.lower().count("lorem ipsum"),
            "kept_curly_brackets": kept.count("{"),
        },
    }


def first_reason(preset: str, measures: Mapping[str, float]) -> str:
    """The first measure beyond its threshold, with its value; "" where all are within."""
    rules = preset.removeprefix("datatrove_")
    others = OF_DATATROVE[rules] if rules != preset else {}
    for name, at_least, at_most in PRESETS[rules]:  # type: ignore[index]
        if name in others:
            name, at_most = others[name][0], others[name][1] or at_most
        value = measures.get(name)
        if value is None:
            continue
        if (at_least is not None and value < at_least) or (at_most is not None and value > at_most):
            return f"{name} {'below' if at_least is not None and value < at_least else 'above'}"
    return ""


def compare_speed(pieces: Mapping[str, Sequence[Piece]], judges: Mapping[str, Judge], rounds: int) -> None:
    contenders: Mapping[str, Callable[[Piece], object]] = {"lmworks": measure, **judges}
    measured = comparison.Measurements()
    for round_, names in comparison.in_turns(list(contenders), rounds + 1):
        for source, each in pieces.items():
            for name in names:
                began = time.perf_counter()
                for piece in each:
                    contenders[name](piece)
                if round_:  # the first one warms up
                    measured.add(name, f"{source}, documents/s", len(each) / (time.perf_counter() - began))
    print(comparison.table(measured.values, [(name, "lmworks") for name in judges]))


def compare_verdicts(name: str, pieces: Mapping[str, Sequence[Piece]], judge: Judge) -> None:
    everything = [piece for each in pieces.values() for piece in each]
    ours = [measure_as_datatrove(piece) for piece in everything]
    theirs = [judge(piece) for piece in everything]
    print(f"lmworks and {name}")
    header = ("preset", "both keep", "both drop", "only ours drops", "only theirs drops", "the same")
    print(f"{header[0]:<20}" + "".join(f"{each:>19}" for each in header[1:]))
    differences: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for rules, presets in OURS.items():
        for preset in presets:
            counts: Counter[tuple[bool, bool]] = Counter()
            for piece, measures, reasons in zip(everything, ours, theirs, strict=True):
                own, other = first_reason(preset, measures[rules]), reasons[rules]
                counts[bool(own), bool(other)] += 1
                if bool(own) != bool(other):
                    differences[preset, "ours" if own else "theirs", own or other].append(piece.id)
            cells = [counts[False, False], counts[True, True], counts[True, False], counts[False, True]]
            same = (cells[0] + cells[1]) / len(everything)
            print(f"{preset:<20}" + "".join(f"{cell:>19,}" for cell in cells) + f"{same:>19.2%}")
    print("\nwhere only one drops: preset, which, its first reason, how often, examples")
    for (preset, which, reason), ids in differences.items():
        print(f"  {preset:<18} {which:<7} {reason:<42} {len(ids):>4}  {', '.join(ids[:EXAMPLES])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=texts.DATA)
    parser.add_argument("--pieces", type=int, default=300, help="of books, and of proposals")
    parser.add_argument("--characters", type=int, default=3_000, help="in a piece, about")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    judge = load_datatrove()
    judges = {SPACY: judge, OUR_WORDS: with_our_words(judge)}
    pieces = read_pieces(options.data, options.pieces, options.characters)
    sizes = {source: sum(len(piece.text) for piece in each) / 1e6 for source, each in pieces.items()}
    print(", ".join(f"{source}: {len(each)} documents of {sizes[source]:.1f} MB" for source, each in pieces.items()))
    compare_speed(pieces, judges, options.rounds)
    for name, each in judges.items():
        compare_verdicts(name, pieces, each)
        print()


if __name__ == "__main__":
    main()
