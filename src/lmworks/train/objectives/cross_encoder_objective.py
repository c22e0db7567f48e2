"""Cross-encoders: two texts in, one head out (Devlin et al. 2019, section 4; Nogueira & Cho 2019). Each head has a
shape of rows to learn from, in JSON lines, and a loss.

reader     {"question": ..., "context": ..., "answers": {"text": [...], "answer_start": [...]}}, as SQuAD's; no answer:
           empty lists. -log p(start) - log p(end) over the places of the pair, place 0 standing for "no answer"
reranker   {"anchor": ..., "positive": ..., "negatives": [...]}: a question, and passages that answer it or do not;
           where more than one does, "positives": [...] names them all. -log σ(s) of a passage that answers, -log σ(-s)
           of one that does not
verifier   {"premise": ..., "hypothesis": ..., "label": "entailment" | "neutral" | "contradiction"}. -log p(label)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.data.conversations import columns_of, rows_of
from lmworks.data.token_groups import GroupBatch, TokenGroup, TokenGroups, join_groups
from lmworks.data.training_rows import pair_of
from lmworks.model.transformer import Transformer
from lmworks.records import TextPair
from lmworks.tokenizer.text_pair import JoinedPair, join_pairs
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, rows_by_length

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


def read_rows(files: Sequence[Path], task: Task) -> list[Row]:
    """All rows of the files. ValueError for a row of another shape, for an answer that does not stand where it is said
    to, both with the row, and for rows of one class alone, from which nothing is learned."""
    parse = {"reader": _reading, "reranker": _ranked, "verifier": _entailment}[task]
    rows: list[Row] = [parse(fields, where) for path in files for where, fields in rows_of(path)]
    answers = {"answered" if row.answers else "without an answer" for row in rows if isinstance(row, Reading)}
    classes = answers | {f"of the label {row.label}" for row in rows if isinstance(row, Entailment)}
    if len(classes) == 1:
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
    joined = iter(join_pairs(tokenizer, [pair for texts in pairs for pair in texts], length))
    groups, cut = [], 0
    for row, texts in zip(rows, pairs, strict=True):
        inputs = [next(joined) for _ in texts]
        cut += sum(not pair.whole for pair in inputs)
        groups.append(TokenGroup([pair.ids for pair in inputs], columns=_columns(row, inputs)))
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
        inside = [index for index, (left, right) in enumerate(pair.offsets) if left < end and right > start]
        if inside and pair.offsets[inside[-1]][1] >= end:
            return pair.start + inside[0], pair.start + inside[-1]
    return 0, 0


@dataclass(frozen=True, slots=True, eq=False)
class PairExamples:
    """Pairs of texts, (groups, size, length) as in `GroupBatch`, and their columns, (groups, size) float32."""

    ids: Tensor
    attention_mask: Tensor
    columns: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class CrossEncoding(Objective[PairExamples]):
    """The loss of a head on pairs of texts, a target each.

    The metric `accuracy` is the share of pairs whose span, relevance (s > 0) or label is right.
    """

    task: Task

    def examples(self, batch: GroupBatch, seed: int) -> PairExamples:
        return PairExamples(batch.ids, batch.attention_mask, batch.columns)

    def counts(self, examples: PairExamples) -> Mapping[str, int]:
        return {self.task: int(examples.attention_mask.any(-1).sum())}

    def losses(self, model: Transformer, examples: PairExamples) -> Mapping[str, Loss]:
        present = examples.attention_mask.any(-1)  # (groups, size)
        ids, mask = examples.ids[present], examples.attention_mask[present]  # (pairs, length)
        columns = {name: values[present] for name, values in examples.columns.items()}  # (pairs,)
        losses, right = [], []
        for rows, longest in rows_by_length(mask.sum(-1)):
            real = mask[rows, :longest]
            output = model(ids[rows, :longest], attention_mask=real).float()
            loss, correct = self._loss(output, real, {name: values[rows] for name, values in columns.items()})
            losses.append(loss)
            right.append(correct)
        nats = torch.cat(losses)
        return {self.task: Loss(nats.sum(), len(nats), {"accuracy": torch.cat(right).sum()})}

    def _loss(self, output: Tensor, mask: Tensor, columns: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The nats of each pair and whether it is right, (pairs,); `output` is what the model's head gives."""
        if self.task == "reader":
            logits = output.masked_fill(~mask[..., None], -torch.inf)  # (pairs, length, 2)
            targets = torch.stack((columns["start"], columns["end"]), dim=-1).long()  # (pairs, 2)
            nats = F.cross_entropy(logits, targets, reduction="none").sum(-1)
            return nats, (logits.argmax(1) == targets).all(-1)
        if self.task == "reranker":
            score = output.squeeze(-1)
            nats = F.binary_cross_entropy_with_logits(score, columns["label"], reduction="none")
            return nats, (score > 0) == (columns["label"] > 0)
        targets = columns["label"].long()
        return F.cross_entropy(output, targets, reduction="none"), output.argmax(-1) == targets


# ---------------------------------------------------------------------------------------------------------------------
# From JSON


def _columns_of(record: Any, where: str, names: Sequence[str]) -> Mapping[str, Any]:
    row = columns_of(record, where)
    if not set(names) <= row.keys():
        raise ValueError(f"{where}: a row needs {', '.join(names)}; got {', '.join(row)}")
    for name in names[:2]:
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f"{where}: {name} must be a text that is not empty")
    return row


def _reading(record: Any, where: str) -> Reading:
    row = _columns_of(record, where, ("question", "context", "answers"))
    answers = row["answers"] if isinstance(row["answers"], Mapping) else {}
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise ValueError(f'{where}: answers are {{"text": [...], "answer_start": [...]}}, as many of each')
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(start, int) or not text or row["context"][start : start + len(text)] != text:
            raise ValueError(f"{where}: the answer {text!r:.60} does not stand at {start} of the context")
    spans = tuple((start, start + len(text)) for text, start in zip(texts, starts, strict=True))
    return Reading(row["question"], row["context"], spans)


def _ranked(record: Any, where: str) -> Ranking:
    row = pair_of(Ranking, record, where)
    if not all(map(str.strip, row.positives)) or set(row.right) & set(row.negatives):
        raise ValueError(f"{where}: positives are texts that are not empty, and no negatives")
    return row


def _entailment(record: Any, where: str) -> Entailment:
    row = _columns_of(record, where, ("premise", "hypothesis", "label"))
    if row["label"] not in LABELS:
        raise ValueError(f"{where}: label is one of {', '.join(LABELS)}, got {row['label']!r}")
    return Entailment(row["premise"], row["hypothesis"], row["label"])
