"""Finding personal data: precision, recall and F1 by type on presidio-research's synthetic sentences, and the speed.

    .venv/bin/python benchmarks/pii.py [--data FOLDER] [--at-least 0.5] [--examples 3] [--rounds 5]

The sentences (`presidio-pii/synth_dataset_v2.json.gz`, MIT, beside the checkout in `shared/data`) carry the place and
type of what was filled into templates. A marked place is found when a find of its type covers half of it or more; a
find is right when places of its type make up half of it or more. F1 is over both together. "Covered" is of all
characters of the places those that any find takes out, whatever it took them for. Web addresses are counted at any
score, since plain ones are below the threshold on purpose.

Sentences of one template are alike: intervals (95 %, bootstrap) are over templates, whose number is n. Speed is that of
one process over the sentences, where something is found in most, and over the classic books, where hardly anything is.
"""

import argparse
import gzip
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders.texts import DATA, books

from lmworks.data.annotate.pii.scan import find_personal_data
from lmworks.data.annotation import Mark
from lmworks.statistics import proportion_score

FILE = Path("presidio-pii") / "synth_dataset_v2.json.gz"
SOUGHT = {
    "EMAIL_ADDRESS": ("pii.email",),
    "PHONE_NUMBER": ("pii.phone",),
    "CREDIT_CARD": ("pii.card",),
    "IBAN_CODE": ("pii.iban",),
    "IP_ADDRESS": ("pii.ip", "pii.ip_special"),
    "US_SSN": ("pii.ssn",),
    "DOMAIN_NAME": ("pii.url", "pii.profile"),
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


def finds(text: str, at_least: float) -> list[Mark]:
    """What is found at the threshold, and web addresses at any score."""
    urls = [mark for mark in find_personal_data(text, 0.0) if mark.rule in SOUGHT["DOMAIN_NAME"]]
    return [mark for mark in find_personal_data(text, at_least) if mark.rule not in SOUGHT["DOMAIN_NAME"]] + urls


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


def outcome(sentence: Sentence, marks: Sequence[Mark], kind: str) -> Outcome:
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
        print(f"  {name:10} {proportion_score(parts, wholes, signature)}")


def show(title: str, sentences: Sequence[Sentence], places: Sequence[Sequence[Place]], number: int) -> None:
    for sentence, of_sentence in zip(sentences, places, strict=True):
        for start, end in of_sentence:
            if number <= 0:
                return
            number -= 1
            around = sentence.text[max(0, start - 30) : start], sentence.text[start:end], sentence.text[end : end + 15]
            print(f"  {title}: " + "|".join(around).replace("\n", "⏎"))


def speed(name: str, texts: Sequence[str], rounds: int) -> None:
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    rates = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for text in texts:
            find_personal_data(text)
        rates.append(megabytes / (time.perf_counter() - begun))
    print(
        f"{name}: {megabytes:.1f} MB, {statistics.median(rates):.1f} MB a second ({min(rates):.1f} to {max(rates):.1f})"
    )


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
    counts = Counter({kind: 0 for kind in SOUGHT})
    for sentence in sentences:
        counts.update({kind: len(places) for kind, places in sentence.places.items()})
    others = [f"{kind} {count}" for kind, count in counts.most_common() if kind not in SOUGHT]
    print(f"\nnot looked for: {', '.join(others)}")
    sought = {rule for rules in SOUGHT.values() for rule in rules}
    unasked = Counter(mark.rule for found in marks for mark in found if mark.rule not in sought)
    print(f"found and not among the types: {dict(unasked) or 'nothing'}\n")
    if options.rounds > 0:
        speed("sentences", [sentence.text for sentence in sentences], options.rounds)
        speed("books", list(books(options.data).values()), options.rounds)


if __name__ == "__main__":
    main()
