"""Finding personal data: precision, recall and F1 by type on presidio-research's synthetic sentences, and the speed.

    .venv/bin/pip install presidio-analyzer==2.2.366    # an oracle, into an environment that may be thrown away
    .venv/bin/python benchmarks/pii.py [--data FOLDER] [--at-least 0.5] [--examples 3] [--rounds 5]

The sentences (`presidio-pii/synth_dataset_v2.json.gz`, MIT, beside the checkout in `shared/data`) carry the place and
type of what was filled into templates. A marked place is found when a find of its type covers half of it or more; a
find is right when places of its type make up half of it or more. F1 is over both together. "Covered" is of all
characters of the places those that any find takes out, whatever it took them for. Web addresses are counted at any
score, since plain ones are below the threshold on purpose.

Beside it, where it is installed, presidio-analyzer with its own recognisers of patterns and of context: a blank model
of spaCy cuts the words, each of which is its own lemma, since a trained one would have to be fetched; the types counted
here need none. It is told at its own threshold, which is 0, and at that of lmworks.

Sentences of one template are alike: intervals (95 %, bootstrap) are over templates, whose number is n. Speed is that of
one process over the sentences, where something is found in most, and over the classic books, where hardly anything is;
lmworks and presidio in turns.
"""

import argparse
import gzip
import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders import comparison
from contenders.texts import DATA, books

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.statistics import ratio_score

FILE = Path("presidio-pii") / "synth_dataset_v2.json.gz"
SOUGHT = {
    "EMAIL_ADDRESS": ("pii.email",),
    "PHONE_NUMBER": ("pii.phone",),
    "CREDIT_CARD": ("pii.card",),
    "IBAN_CODE": ("pii.iban",),
    "IP_ADDRESS": ("pii.ip", "pii.ip_special"),
    "US_SSN": ("pii.ssn",),
    "DOMAIN_NAME": ("pii.url",),
}

Place = tuple[int, int]  # half-open, code points


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    template: int
    places: dict[str, list[Place]]  # by type


def read_sentences(data: Path) -> list[Sentence]:
    """FileNotFoundError names what is missing."""
    if not (data / FILE).is_file():
        raise FileNotFoundError(f"there is no {data / FILE}: name the folder of the data with --data")
    sentences = []
    for row in json.loads(gzip.decompress((data / FILE).read_bytes())):
        places: dict[str, list[Place]] = defaultdict(list)
        for span in row["spans"]:
            places[span["entity_type"]].append((span["start_position"], span["end_position"]))
        sentences.append(Sentence(row["full_text"], row["template_id"], dict(places)))
    return sentences


def finds(text: str, at_least: float) -> list[TaggedSpan]:
    """What is found at the threshold, and web addresses at any score."""
    urls = [mark for mark in find_personal_data(text, 0.0) if mark.rule in SOUGHT["DOMAIN_NAME"]]
    return [mark for mark in find_personal_data(text, at_least) if mark.rule not in SOUGHT["DOMAIN_NAME"]] + urls


Find = Callable[[str, float], Sequence[TaggedSpan]]  # of a text, at a threshold


def load_presidio() -> Find | None:
    """What presidio finds, under the rules of lmworks that are sought for the same type; None where it is missing."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
        from spacy.language import Language
    except ImportError:
        return None
    logging.disable(logging.ERROR)  # it asks the network for a list of domains, and goes on with its own

    @Language.component("own_lemmas")
    def own_lemmas(document):  # type: ignore[no-untyped-def]
        for token in document:
            token.lemma_ = token.lower_
        return document

    with tempfile.TemporaryDirectory() as folder:
        blank = spacy.blank("en")
        blank.max_length = 10**8
        blank.add_pipe("own_lemmas")
        blank.to_disk(folder)
        engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": folder}])
        analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    types = {"URL" if kind == "DOMAIN_NAME" else kind: rules[0] for kind, rules in SOUGHT.items()}

    def find(text: str, at_least: float) -> list[TaggedSpan]:
        found = analyzer.analyze(text, language="en", entities=list(types), score_threshold=at_least)
        return [TaggedSpan(types[each.entity_type], each.start, each.end, each.score) for each in found]

    return find


def characters_in(place: Place, others: Sequence[Place]) -> int:
    """How many characters of a place lie in others, which may overlap."""
    return len({at for start, end in others for at in range(max(start, place[0]), min(end, place[1]))})


def mostly_in(place: Place, others: Sequence[Place]) -> bool:
    return 2 * characters_in(place, others) >= place[1] - place[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one type in one sentence: places that were found and not, finds that are right and not, and characters of
    places, all and covered."""

    found: list[Place]
    missed: list[Place]
    right: list[Place]
    wrong: list[Place]
    characters: int
    covered: int


def outcome(sentence: Sentence, marks: Sequence[TaggedSpan], kind: str) -> Outcome:
    places = sentence.places.get(kind, [])
    everything = [(mark.start, mark.end) for mark in marks]
    of_kind = [(mark.start, mark.end) for mark in marks if mark.rule in SOUGHT[kind]]
    return Outcome(
        found=[place for place in places if mostly_in(place, of_kind)],
        missed=[place for place in places if not mostly_in(place, of_kind)],
        right=[find for find in of_kind if mostly_in(find, places)],
        wrong=[find for find in of_kind if not mostly_in(find, places)],
        characters=sum(end - start for start, end in places),
        covered=sum(characters_in(place, everything) for place in places),
    )


def by_template(sentences: Sequence[Sentence], outcomes: Sequence[Outcome]) -> Iterator[tuple[int, ...]]:
    """Sums over the sentences of each template: found, places, right, finds, covered, characters."""
    sums: dict[int, list[int]] = defaultdict(lambda: [0] * 6)
    for sentence, each in zip(sentences, outcomes, strict=True):
        numbers = (
            len(each.found), len(each.found) + len(each.missed), len(each.right), len(each.right) + len(each.wrong),
            each.covered, each.characters,
        )  # fmt: skip
        sums[sentence.template] = [a + b for a, b in zip(sums[sentence.template], numbers, strict=True)]
    yield from map(tuple, sums.values())


def report(kind: str, sentences: Sequence[Sentence], outcomes: Sequence[Outcome], at_least: float) -> None:
    found, places, right, all_finds, covered, characters = zip(*by_template(sentences, outcomes), strict=True)
    print(f"\n{kind} ({', '.join(SOUGHT[kind])}): {sum(places)} places, {sum(all_finds)} finds")
    both = [a + b for a, b in zip(found, right, strict=True)], [a + b for a, b in zip(places, all_finds, strict=True)]
    ratios = {
        "precision": (right, all_finds), "recall": (found, places), "F1": both, "covered": (covered, characters)
    }  # fmt: skip
    for name, (parts, wholes) in ratios.items():
        signature = {"metric": name, "type": kind, "data": FILE.name, "at_least": at_least}
        print(f"  {name:10} {ratio_score(parts, wholes, signature, proportion=True)}")


def show(title: str, sentences: Sequence[Sentence], places: Sequence[Sequence[Place]], number: int) -> None:
    for sentence, of_sentence in zip(sentences, places, strict=True):
        for start, end in of_sentence:
            if number <= 0:
                return
            number -= 1
            around = sentence.text[max(0, start - 30) : start], sentence.text[start:end], sentence.text[end : end + 15]
            print(f"  {title}: " + "|".join(around).replace("\n", "⏎"))


def compare_speed(texts: dict[str, Sequence[str]], presidio: Find | None, rounds: int) -> None:
    finders: dict[str, Find] = {"lmworks": find_personal_data} | ({"presidio": presidio} if presidio else {})
    measured = comparison.Measurements()
    for round_, names in comparison.in_turns(list(finders), rounds + 1):
        for source, each in texts.items():
            kilobytes = sum(len(text.encode()) for text in each) / 1e3
            for name in names:
                began = time.perf_counter()
                for text in each:
                    finders[name](text, 0.5)
                if round_:  # the first one warms up
                    measured.add(name, f"{source}, kB/s", kilobytes / (time.perf_counter() - began))
    print(comparison.table(measured.values, [("presidio" if presidio else "lmworks", "lmworks")]))


def overview(sentences: Sequence[Sentence], finders: dict[str, Find]) -> None:
    """Precision, recall and F1 of each type, over all places and finds, beside each other."""
    print(f"\n{'precision/recall/F1':<22}" + "".join(f"{name:>24}" for name in finders))
    found = {name: [find(sentence.text, 0.0) for sentence in sentences] for name, find in finders.items()}
    for kind in SOUGHT:
        cells = []
        for marks in found.values():
            all_of = [outcome(sentence, each, kind) for sentence, each in zip(sentences, marks, strict=True)]
            right, wrong = (sum(len(getattr(each, part)) for each in all_of) for part in ("right", "wrong"))
            hits, missed = (sum(len(getattr(each, part)) for each in all_of) for part in ("found", "missed"))
            precision, recall = right / max(1, right + wrong), hits / max(1, hits + missed)
            both = (right + hits) / max(1, right + wrong + hits + missed)
            cells.append(f"{precision:.3f} / {recall:.3f} / {both:.3f}")
        print(f"{kind:<22}" + "".join(f"{cell:>24}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--at-least", type=float, default=0.5)
    parser.add_argument("--examples", type=int, default=3, help="of what was missed and what is wrong, for each type")
    parser.add_argument("--rounds", type=int, default=5, help="of the measurement of speed; 0 leaves it out")
    options = parser.parse_args()
    sentences = read_sentences(options.data)
    marks = [finds(sentence.text, options.at_least) for sentence in sentences]
    print(f"{len(sentences):,} sentences of {len({sentence.template for sentence in sentences})} templates")
    for kind in SOUGHT:
        outcomes = [outcome(sentence, found, kind) for sentence, found in zip(sentences, marks, strict=True)]
        report(kind, sentences, outcomes, options.at_least)
        show("missed", sentences, [each.missed for each in outcomes], options.examples)
        show("wrong", sentences, [each.wrong for each in outcomes], options.examples)
    counts = Counter(dict.fromkeys(SOUGHT, 0))
    for sentence in sentences:
        counts.update({kind: len(places) for kind, places in sentence.places.items()})
    others = [f"{kind} {count}" for kind, count in counts.most_common() if kind not in SOUGHT]
    print(f"\nnot looked for: {', '.join(others)}")
    sought = {rule for rules in SOUGHT.values() for rule in rules}
    unasked = Counter(mark.rule for found in marks for mark in found if mark.rule not in sought)
    print(f"found and not among the types: {dict(unasked) or 'nothing'}\n")
    presidio = load_presidio()
    finders: dict[str, Find] = {"lmworks": lambda text, _: finds(text, options.at_least)}
    if presidio is None:
        print("presidio-analyzer is not installed: nothing to compare with")
    else:
        finders |= {
            "presidio, 0": lambda text, _: presidio(text, 0.0),
            f"presidio, {options.at_least:g}": lambda text, _: presidio(text, options.at_least),
        }
    overview(sentences, finders)
    print()
    if options.rounds > 0:
        pages = [text[:20_000] for text in books(options.data).values()]
        compare_speed({"sentences": [each.text for each in sentences], "books": pages}, presidio, options.rounds)


if __name__ == "__main__":
    main()
