"""Rows that cross-encoders learn from, in JSON lines: one shape for each head.

reader     {"question": ..., "context": ..., "answers": {"text": [...], "answer_start": [...]}}, as SQuAD's; no answer:
           empty lists
reranker   {"anchor": ..., "positive": ..., "negatives": [...]}: a question, and passages that answer it or do not;
           where more than one does, "positives": [...] names them all
verifier   {"premise": ..., "hypothesis": ..., "label": "entailment" | "neutral" | "contradiction"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lmworks.data.conversations import columns_of, rows_of
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.data.training_rows import pair_of
from lmworks.records import TextPair
from lmworks.tokenizer.text_pair import JoinedPair, join_pairs
from lmworks.tokenizer.tokenizer import Tokenizer

Label = Literal["entailment", "neutral", "contradiction"]
LABELS: tuple[Label, ...] = get_args(Label)
Task = Literal["reader", "reranker", "verifier"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A question on a context, and the answers' (start, end) in it; empty: the context does not answer it."""

    question: str
    context: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Entailment:
    """Whether the premise entails the hypothesis."""

    premise: str
    hypothesis: str
    label: Label


@dataclass(frozen=True, slots=True)
class Ranking(TextPair):
    """A question, a passage that answers it, others that do not, and in `positives` more that do."""

    positives: tuple[str, ...] = ()

    @property
    def right(self) -> tuple[str, ...]:
        """All passages that answer, each once."""
        return tuple(dict.fromkeys((self.positive, *self.positives)))


Row = Reading | Ranking | Entailment


def parse_rows(files: Sequence[Path], task: Task) -> list[Row]:
    """All rows of the files. ValueError for a row of another shape, and for an answer that does not stand where it is
    said to; it names the row."""
    parse = {"reader": _reading, "reranker": _ranked, "verifier": _entailment}[task]
    return [parse(found, where) for path in files for where, found in rows_of(path)]


def read_rows(files: Sequence[Path], task: Task) -> list[Row]:
    """`parse_rows` to learn from: ValueError, too, for rows of one class alone."""
    rows = parse_rows(files, task)
    classes = {_class_of(row) for row in rows}
    if rows and len(classes) < 2 and task != "reranker":
        raise ValueError(f"all {len(rows):,} rows are {classes.pop()}: a {task} learns from rows of more than one kind")
    if task == "reranker" and not any(row.negatives for row in rows if isinstance(row, Ranking)):
        raise ValueError("no row has negatives: a reranker learns what does not answer, too (lmworks train --help)")
    return rows


def group_of(row: Row) -> str:
    """The key that a row shares with others like it: all of one question, passage or premise are held out together."""
    return row.context if isinstance(row, Reading) else row.anchor if isinstance(row, Ranking) else row.premise


def row_groups(rows: Sequence[Row], tokenizer: Tokenizer, length: int) -> TokenGroups:
    """A group for each row: its pairs of texts, with the column `start` and `end` (places of the answer's first and
    last token; 0, [CLS]: none) or `label`. `TokenGroups.cut` counts pairs that lost an end; an answer in it is none."""
    pairs = [_pairs_of(row) for row in rows]
    joined = iter(join_pairs(tokenizer, [pair for own in pairs for pair in own], length))
    groups, cut = [], 0
    for row, own in zip(rows, pairs, strict=True):
        found = [next(joined) for _ in own]
        cut += sum(not pair.whole for pair in found)
        groups.append(TokenGroup([pair.ids for pair in found], columns=_columns(row, found)))
    return join_groups(groups, cut)


def _pairs_of(row: Row) -> list[tuple[str, str]]:
    match row:
        case Reading():
            return [(row.question, row.context)]
        case Ranking():
            return [(row.anchor, text) for text in (*row.right, *row.negatives)]
        case Entailment():
            return [(row.premise, row.hypothesis)]


def _columns(row: Row, pairs: Sequence[JoinedPair]) -> Mapping[str, Sequence[float]]:
    match row:
        case Reading():
            start, end = _places(pairs[0], row.answers)
            return {"start": [start], "end": [end]}
        case Ranking():
            return {"label": [*(1.0 for _ in row.right), *(0.0 for _ in row.negatives)]}
        case Entailment():
            return {"label": [float(LABELS.index(row.label))]}


def _places(pair: JoinedPair, answers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The places of the first answer that is read whole."""
    for start, end in answers:
        inside = [place for place, (left, right) in enumerate(pair.offsets) if left < end and right > start]
        if inside and pair.offsets[inside[-1]][1] >= end:
            return pair.start + inside[0], pair.start + inside[-1]
    return 0, 0


def _class_of(row: Row) -> str:
    match row:
        case Reading():
            return "answered" if row.answers else "without an answer"
        case Entailment():
            return f"of the label {row.label}"
        case Ranking():
            return "pairs"


# ---------------------------------------------------------------------------------------------------------------------
# From JSON


def _columns_of(found: Any, where: str, names: Sequence[str]) -> Mapping[str, Any]:
    row = columns_of(found, where)
    if not set(names) <= row.keys():
        raise ValueError(f"{where}: a row needs {', '.join(names)}; got {', '.join(row)}")
    for name in names[:2]:
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f"{where}: {name} must be a text that is not empty")
    return row


def _reading(found: Any, where: str) -> Reading:
    row = _columns_of(found, where, ("question", "context", "answers"))
    answers = row["answers"] if isinstance(row["answers"], Mapping) else {}
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise ValueError(f'{where}: answers are {{"text": [...], "answer_start": [...]}}, as many of each')
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(start, int) or not text or row["context"][start : start + len(text)] != text:
            raise ValueError(f"{where}: the answer {text!r:.60} does not stand at {start} of the context")
    spans = tuple((start, start + len(text)) for text, start in zip(texts, starts, strict=True))
    return Reading(row["question"], row["context"], spans)


def _ranked(found: Any, where: str) -> Ranking:
    row = pair_of(Ranking, found, where)
    if not all(map(str.strip, row.positives)) or set(row.right) & set(row.negatives):
        raise ValueError(f"{where}: positives are texts that are not empty, and no negatives")
    return row


def _entailment(found: Any, where: str) -> Entailment:
    row = _columns_of(found, where, ("premise", "hypothesis", "label"))
    if row["label"] not in LABELS:
        raise ValueError(f"{where}: label is one of {', '.join(LABELS)}, got {row['label']!r}")
    return Entailment(row["premise"], row["hypothesis"], row["label"])
