"""ln p(continuation | context) under a language model, with each shared context computed once.

Continuations of one context are packed behind it into one row and masked from each other, so that they share the
context's keys and values without a copy and need no padding:

    ids        c0 c1 c2  a0 a1 a2  b0 b1        context c, continuations a and b
    positions   0  1  2   3  4  5   3  4        each continuation goes on where the context ended
    branch      0  0  0   1  1  1   2  2        a token sees branch 0 and its own branch, up to itself

Rows of similar length share a forward. Logits are computed only where a continuation token is predicted, a bounded
number of positions at a time, and normalised only for the token that is scored (logit minus logsumexp).

The work comes in parts, so that whoever shares the machine with it can do something else in between.
"""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from lmworks.generate.protocol import Score
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer

ROW_TOKENS = 512  # continuation tokens packed behind one context: attention costs length² for each row
BATCH_TOKENS = 2048  # tokens of one forward, padding included
LOGIT_POSITIONS = 256  # positions whose logits are held at once: 256 x 49152 float32 are 48 MiB


@dataclass(slots=True)
class _Row:
    """A context and the continuations packed behind it, and which prediction belongs to which score."""

    ids: list[int]
    positions: list[int]
    branches: list[int]
    predictors: list[int] = field(default_factory=list)  # place in the row whose logits predict ...
    targets: list[int] = field(default_factory=list)  # ... this token
    pairs: list[int] = field(default_factory=list)  # ... of this pair

    def append(self, pair: int, context_length: int, continuation: Sequence[int]) -> None:
        """Pack one continuation; its last token is predicted but predicts nothing, so it is not part of the row."""
        start = len(self.ids)
        inputs = continuation[:-1]
        self.ids.extend(inputs)
        self.positions.extend(range(context_length, context_length + len(inputs)))
        self.branches.extend([self.branches[-1] + 1] * len(inputs))
        self.predictors.extend([context_length - 1, *range(start, start + len(inputs))])
        self.targets.extend(continuation)
        self.pairs.extend([pair] * len(continuation))


class _PackedAttention:
    """The model's cache protocol without a cache: keys and values pass through, the mask separates continuations."""

    def __init__(self, positions: Tensor, branches: Tensor) -> None:
        self.positions = self.key_positions = positions  # (batch, length)
        query, key = branches[:, :, None], branches[:, None, :]
        causal = torch.ones_like(branches[0].expand(branches.shape[1], -1), dtype=torch.bool).tril()
        self.mask = (((key == 0) | (key == query)) & causal)[:, None]  # (batch, 1, length, length), True = may attend

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value


def document_start(tokenizer: Tokenizer) -> int:
    """The id of the token after which a document starts: `<|endoftext|>` where there is one, else BOS, else EOS.

    GPT-2's successors put `<|endoftext|>` between the documents of pre-training, and keep it when chat tuning makes
    BOS the token that opens a turn (SmolLM2-Instruct: `<|im_start|>`), after which no document ever starts. LLaMA's
    relatives put BOS there. ValueError when the tokenizer has none of the three.
    """
    for token in (tokenizer.special_ids.get("<|endoftext|>"), tokenizer.bos_id, tokenizer.eos_id):
        if token is not None:
            return token
    raise ValueError("this tokenizer has no token that starts a document: give a context that is not empty")


def score(
    model: Transformer,
    context_ids: Sequence[Sequence[int]],
    continuation_ids: Sequence[Sequence[int]],
    document_start: int,
    max_length: int,
) -> list[Score]:
    """ln p of each token of each continuation, given its context; one `Score` for each pair.

    An empty context stands for the start of a document: it is replaced by the single token `document_start`. Other
    contexts are taken as they are, without an added token. An empty continuation scores as the empty product: no
    tokens, total 0.

    Equal contexts are computed once for every `ROW_TOKENS` tokens of continuation. Raises ValueError, before any work,
    when the two lists differ in length or a pair is longer than `max_length` tokens.
    """
    parts = score_in_parts(model, context_ids, continuation_ids, document_start, max_length)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


@torch.inference_mode()
def score_in_parts(
    model: Transformer,
    context_ids: Sequence[Sequence[int]],
    continuation_ids: Sequence[Sequence[int]],
    document_start: int,
    max_length: int,
) -> Generator[None, None, list[Score]]:
    """`score`, which is returned at the end, with a pause after each part of the work.

    A part is a forward over at most `BATCH_TOKENS` tokens (or one row), or the logits of `LOGIT_POSITIONS` positions.
    The weights must not change in a pause.
    """
    if len(context_ids) != len(continuation_ids):
        raise ValueError(f"{len(context_ids)} contexts for {len(continuation_ids)} continuations: give one for each")
    contexts = [tuple(context) or (document_start,) for context in context_ids]
    for pair, (context, continuation) in enumerate(zip(contexts, continuation_ids, strict=True)):
        if len(context) + len(continuation) > max_length:
            raise ValueError(
                f"pair {pair} has {len(context)} + {len(continuation)} tokens, the limit of this model is "
                f"{max_length}: shorten the context"
            )
    scores: list[list[float]] = [[] for _ in contexts]
    for batch in _batches(_pack(contexts, continuation_ids)):
        scored = yield from _score_batch(model, batch)
        for row, values in zip(batch, scored, strict=True):
            for pair, value in zip(row.pairs, values, strict=True):
                scores[pair].append(value)
    return [Score(tuple(values)) for values in scores]


def _pack(contexts: Sequence[tuple[int, ...]], continuations: Sequence[Sequence[int]]) -> list[_Row]:
    """Rows of one context each, with at most `ROW_TOKENS` tokens of continuation (or one continuation)."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for pair, context in enumerate(contexts):
        if continuations[pair]:
            groups[context].append(pair)
    rows: list[_Row] = []
    for context, pairs in groups.items():
        row: _Row | None = None
        for pair in pairs:
            continuation = continuations[pair]
            if row is None or len(row.ids) + len(continuation) - 1 > len(context) + ROW_TOKENS:
                row = _Row(list(context), list(range(len(context))), [0] * len(context))
                rows.append(row)
            row.append(pair, len(context), continuation)
    return rows


def _batches(rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows, longest first, in batches of at most `BATCH_TOKENS` padded tokens (or one row)."""
    rows = sorted(rows, key=lambda row: -len(row.ids))
    start = 0
    while start < len(rows):
        count = max(1, BATCH_TOKENS // len(rows[start].ids))
        yield rows[start : start + count]
        start += count


def _score_batch(model: Transformer, rows: list[_Row]) -> Generator[None, None, list[list[float]]]:
    """For each row, ln p of its targets, in the order they were packed."""
    device = next(model.parameters()).device
    ids, positions, branches = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(getattr(row, name)) for row in rows], batch_first=True, padding_value=padding
        ).to(device)
        for name, padding in (
            ("ids", 0),
            ("positions", 0),
            ("branches", -1),
        )  # padding sees branch 0 and itself: harmless
    )
    hidden = model.hidden(ids, cache=_PackedAttention(positions, branches))  # (batch, length, width)
    batch = torch.tensor([index for index, row in enumerate(rows) for _ in row.predictors], device=device)
    places = torch.tensor([place for row in rows for place in row.predictors], device=device)
    targets = torch.tensor([target for row in rows for target in row.targets], device=device)
    yield
    values = (yield from _log_probabilities(model, hidden[batch, places], targets)).tolist()
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(row.targets))
    return [values[start:end] for start, end in pairwise(ends)]


def _log_probabilities(model: Transformer, hidden: Tensor, targets: Tensor) -> Generator[None, None, Tensor]:
    """ln p of each target from the hidden state that predicts it: (n, width), (n,) -> (n,) float32."""
    parts = []
    for start in range(0, len(targets), LOGIT_POSITIONS):
        logits = model.logits(hidden[start : start + LOGIT_POSITIONS]).float()  # (positions, vocabulary)
        target = targets[start : start + LOGIT_POSITIONS, None]
        parts.append(logits.gather(1, target).squeeze(1) - logits.logsumexp(1))
        del logits  # they are large, and a pause may be long
        yield
    return torch.cat(parts)
