"""Lint of an evaluation set: what makes its scores wrong, and what it does not ask.

duplicates     items whose questions are the same, or nearly (Jaccard of words, cosine of embeddings)
conflicts      the same question with another answer; choices that repeat; an answer that is none of the choices
gold           quotes that stand in no document, or that do not hold the answer
leakage        items that named training data holds (`corpus/dedup/decontamination.py`)
coverage       documents and logged questions that no item comes near, in embedding space
difficulty     how many systems of past runs answer each item: one that all or none answers tells nothing apart
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmworks.artefact import hash_file
from lmworks.corpus.dedup.decontamination import EvaluationItem, Overlap, read_items
from lmworks.corpus.dedup.hashes import words
from lmworks.corpus.documents import DocumentStore
from lmworks.evaluate.question_set import GoldQuestion, find_quote, read_gold
from lmworks.records import Document
from lmworks.report import Figure, Section, Table, histogram
from lmworks.statistics.intervals import wilson_interval

if TYPE_CHECKING:
    from lmworks.generate.text_embedding import TextEncoder

NEAR_WORDS = 0.8  # Jaccard similarity of the words of two questions that are nearly the same
NEAR_COSINE = 0.95  # of their embeddings
UNCOVERED = 0.5  # cosine of a logged question or document to the nearest item, below which no item asks such a thing
FEW_WORDS = 5
SHOWN = 20  # findings of a kind in the report

ADVICE: Mapping[str, str] = {
    "duplicate": "drop all but one: they count twice, and intervals come out too narrow",
    "near-duplicate": "drop one, or give both the same cluster",
    "label conflict": "decide which answer is right",
    "repeated choice": "two choices are the same text: rewrite one",
    "answer not a choice": "the answer is none of the choices: mend the row",
    "no answer": "give it an answer, or say that it is unanswerable",
    "no such document": "mend the uri: no document is called so",
    "quote not found": "copy the quote from the document as it is now",
    "answer outside gold": "the quote does not hold the answer: quote the place that does",
    "leaked": "drop it, or drop the document from the training data",
}


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str  # one of `ADVICE`
    items: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Items of a file, and of a gold file (`question_set.py`) also the places that answer them, by the item's id."""

    path: Path
    items: tuple[EvaluationItem, ...]
    gold: Mapping[str, GoldQuestion] = field(default_factory=dict)


def read_set(path: Path) -> EvaluationSet:
    """A gold file, or any file that `read_items` reads; errors as theirs, with the line."""
    items = read_items(path)
    if not items:
        raise ValueError(f"{path} holds no items")
    first = path.read_text("utf-8").lstrip()[:4096].split("\n")[0] if path.suffix == ".jsonl" else ""
    if '"gold"' not in first:
        return EvaluationSet(path, tuple(items))
    gold = {question.id: question for question in read_gold(path)}
    rows = [EvaluationItem(one.id, one.question, (one.answer,) if one.answer else ()) for one in gold.values()]
    return EvaluationSet(path, tuple(rows), gold)


# ---------------------------------------------------------------------------------------------------------------------
# Findings


def find_duplicates(items: Sequence[EvaluationItem], vectors: np.ndarray | None = None) -> Iterator[Finding]:
    """Items with the same text, and pairs that are nearly so; `vectors` (items, width) of length 1 find paraphrases.

    Every pair is compared, a block of rows at a time.
    """
    from scipy.sparse import csr_array

    by_text: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        by_text[tuple(map(plain_text, (item.question, *sorted(item.choices))))].append(number)
    for same in by_text.values():
        if len(same) > 1:
            answers = {tuple(sorted(map(plain_text, items[number].answers))) for number in same}
            kind = "duplicate" if len(answers) == 1 else "label conflict"
            yield Finding(kind, tuple(items[number].id for number in same), items[same[0]].question)
    heads = [same[0] for same in by_text.values()]
    vocabulary: dict[str, int] = defaultdict(lambda: len(vocabulary))
    cells = [(row, vocabulary[word]) for row, head in enumerate(heads) for word in {*words(items[head].text)}]
    places = tuple(np.array(cells, dtype=np.int64).reshape(-1, 2).T)
    bags = csr_array((np.ones(len(cells)), places), shape=(len(heads), len(vocabulary) + 1))
    sizes = bags.sum(axis=1)
    for start in range(0, len(heads), 512):
        shared = (bags[start : start + 512] @ bags.T).toarray()  # (rows, heads)
        near = shared / np.maximum(sizes[start : start + 512, None] + sizes - shared, 1) >= NEAR_WORDS
        if vectors is not None:
            near |= vectors[heads[start : start + 512]] @ vectors[heads].T >= NEAR_COSINE
        for row, other in np.argwhere(np.triu(near, start + 1)):
            one, two = items[heads[start + row]], items[heads[other]]
            yield Finding("near-duplicate", (one.id, two.id), f"{one.question} / {two.question}")


def find_label_errors(evaluation_set: EvaluationSet) -> Iterator[Finding]:
    for item in evaluation_set.items:
        plain = [plain_text(choice) for choice in item.choices]
        if repeated := [choice for choice, count in Counter(plain).items() if count > 1]:
            yield Finding("repeated choice", (item.id,), repeated[0])
        if plain and item.answers and not {plain_text(answer) for answer in item.answers} & set(plain):
            yield Finding("answer not a choice", (item.id,), f"{item.answers[0]} is none of {', '.join(item.choices)}")
        if not item.answers and not evaluation_set.gold:
            yield Finding("no answer", (item.id,), item.question)


def find_gold_errors(gold: Iterable[GoldQuestion], documents: Mapping[str, Sequence[Document]]) -> Iterator[Finding]:
    """Quotes against `documents`, by uri: one that is found is enough.

    An answer stands in the quotes when more than half of its words do; a longer one says it in words of its own, and
    more than a quarter is enough.
    """
    for question in gold:
        here = [(one, document) for one in question.gold for document in documents.get(one.uri, ())]
        if question.gold and not here:
            yield Finding("no such document", (question.id,), ", ".join(one.uri for one in question.gold))
        elif question.gold and not any(find_quote(document, one.quote) for one, document in here):
            yield Finding("quote not found", (question.id,), f"{here[0][0].uri}: {here[0][0].quote}")
        wanted = set(words(question.answer))
        missing = wanted - {word for one in question.gold for word in words(one.quote)}
        if question.gold and wanted and len(missing) >= (0.5 if len(wanted) <= FEW_WORDS else 0.75) * len(wanted):
            detail = f'"{question.answer}": the quotes lack {", ".join(sorted(missing))}'
            yield Finding("answer outside gold", (question.id,), detail)


def find_leaks(items: Sequence[EvaluationItem], texts: Iterable[str]) -> Iterator[Finding]:
    """Items whose question a training text holds by half or more of its words, in runs of thirteen."""
    from lmworks.corpus.dedup.decontamination import find_overlaps, index_items

    leaked: dict[str, Overlap] = {}
    found = (overlap for overlap in find_overlaps(index_items(items), texts) if overlap.share >= 0.5)
    for overlap in sorted(found, key=lambda overlap: -overlap.share):
        if leaked.setdefault(overlap.item, overlap) is overlap:
            detail = f"{overlap.share:.0%} of its words stand in document {overlap.document}: {overlap.matched}"
            yield Finding("leaked", (overlap.item,), detail)


def training_texts(folder: Path, tokenizer: str = "") -> Iterator[str]:
    """Texts of an artefact's or a workspace's documents, or of token shards, which `tokenizer` decodes.

    FileNotFoundError for a folder that holds neither; ValueError for shards of another vocabulary.
    """
    from lmworks.corpus.documents import made_folder
    from lmworks.data.token_dataset import INDEX, TokenDataset

    if (found := made_folder(folder)) is not None:
        yield from (document.text for document in DocumentStore(found))
        return
    shards = next((path.parent for path in (folder / INDEX, *folder.glob(f"*/{INDEX}")) if path.is_file()), None)
    if shards is None:
        raise FileNotFoundError(f"{folder} holds neither documents nor token shards, as data.tokenize writes them")
    from lmworks.model.tokenizer_lookup import find_tokenizer

    if not tokenizer:
        raise ValueError(f"{folder} holds token shards: name the --tokenizer that they were made with")
    reader, dataset = find_tokenizer(tokenizer).tokenizer, TokenDataset(shards)
    if reader.hash != dataset.index.vocabulary:
        raise ValueError(f"{folder} was made with another vocabulary than that of {tokenizer}")
    for start, end in pairwise(dataset.offsets.tolist()):
        yield reader.decode(dataset.read(start, end).tolist())


# ---------------------------------------------------------------------------------------------------------------------
# Sections


def card(evaluation_set: EvaluationSet, findings: Sequence[Finding]) -> Section:
    """Size, kinds, lengths, and how many items are without a finding."""
    items, gold = evaluation_set.items, evaluation_set.gold.values()
    lengths = [len(words(item.question)) for item in items]
    flawed = {item for finding in findings for item in finding.items}
    low, high = wilson_interval(len(flawed), len(items))
    kinds = Counter((one.split, one.kind or "-") for one in gold)
    of_gold = [
        ("unanswerable", f"{sum(not one.answerable for one in gold):,}"),
        ("split and kind", ", ".join(f"{split} {kind}: {n}" for (split, kind), n in sorted(kinds.items()))),
    ]
    rows = (
        ("items", f"{len(items):,}"),
        ("content", hash_file(evaluation_set.path)[:12]),
        *(of_gold if gold else ()),
        ("words of a question", f"median {np.median(lengths):.0f}, {min(lengths)} to {max(lengths)}"),
        ("with choices", f"{sum(bool(item.choices) for item in items):,}"),
        ("with an answer", f"{sum(bool(item.answers) for item in items):,}"),
        ("with a finding", f"{len(flawed) / len(items):.3f} [{low:.3f}, {high:.3f}]"),
        ("95 % interval of an accuracy of 0.5", f"± {0.98 / np.sqrt(len(items)):.3f}"),
    )
    return Section(f"Card of {evaluation_set.path.name}", "", (Table(("", "value"), rows),))


def findings_section(findings: Sequence[Finding], advice: Mapping[str, str] = ADVICE) -> Section:
    counts = Counter(finding.kind for finding in findings)
    tables = [Table(("finding", "number", "what to do"), tuple((k, n, advice[k]) for k, n in counts.most_common()))]
    for kind, n in counts.items():
        rows = tuple((", ".join(one.items[:4]), one.detail[:200]) for one in findings if one.kind == kind)
        tables.append(Table(("items", "detail"), rows[:SHOWN], f"{kind}, {min(n, SHOWN)} of {n}"))
    return Section("Findings", "" if counts else "None.", tuple(tables) if counts else ())


def coverage_section(vectors: np.ndarray, encoder: "TextEncoder", asked: Mapping[str, Sequence[str]]) -> Section:
    """Nearness of the items, `vectors` (items, width), to other texts: `asked` maps a name of some to them."""
    tables, figures = [], []
    for name, texts in asked.items():
        if not texts:
            continue
        theirs = encoder.encode(list(texts), "query")  # (texts, width)
        near = np.concatenate([(theirs[i : i + 512] @ vectors.T).max(axis=1) for i in range(0, len(texts), 512)])
        drawn = histogram(near.tolist(), x="cosine to the nearest item", y=name, marks={"not covered": UNCOVERED})
        share = f"{np.mean(near >= UNCOVERED):.0%} of {len(texts):,}"
        figures.append(Figure(drawn, f"{name}: {share} have an item at {UNCOVERED} or nearer."))
        groups = _groups(theirs, np.flatnonzero(near < UNCOVERED))
        if rows := tuple((" ".join(texts[place].split())[:120], count) for place, count in groups[:SHOWN]):
            caption = f"{name} that no item comes near: the largest groups, each by its most typical text"
            tables.append(Table(("text", "such texts"), rows, caption))
    text = "" if figures else "Not measured: name --documents or a --log that the items should cover."
    return Section("Coverage", text, tuple(tables), tuple(figures))


def difficulty_section(values: Mapping[str, Sequence[float]]) -> Section:
    """Mean value of each item over past runs, item -> one value a run."""
    means = {item: float(np.mean(one)) for item, one in values.items()}
    runs = max(len(one) for one in values.values())
    same = sum(len(set(one)) == 1 for one in values.values()) / len(values)
    text = f"{len(values):,} items in {runs} run{'s' if runs > 1 else ''}; mean {np.mean([*means.values()]):.3f}."
    if runs > 1:
        text += f" {same:.0%} have the same value in every run, and tell none of them apart."
    hardest = Table(
        ("item", "mean value"),
        tuple((item, f"{means[item]:.3f}") for item in sorted(means, key=means.__getitem__)[:SHOWN]),
        "The hardest",
    )
    drawn = histogram([*means.values()], x="mean value of an item", y="items", bins=20)
    return Section("Difficulty", text, (hardest,), (Figure(drawn, "Spread of difficulty"),))


def _groups(vectors: np.ndarray, places: np.ndarray, near: float = 0.6) -> list[tuple[int, int]]:
    """Texts that are alike, largest group first: (the one with the most others near it, their number)."""
    groups: list[tuple[int, int]] = []
    places = places[:2000]
    while len(places):
        alike = vectors[places] @ vectors[places].T >= near
        head = int(alike.sum(axis=1).argmax())
        groups.append((int(places[head]), int(alike[head].sum())))
        places = places[~alike[head]]
    return groups


def plain_text(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
