"""Batches of pairs in an order that is arithmetic, as `loader.py` has them of token shards.

    step → places of its pairs in the run → epoch and place in it → pair (`order.py`) → its tokens

A run that goes on at step s needs to be told s and nothing else.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.config import from_mapping, to_mapping
from lmworks.data.config import PairLoaderConfig
from lmworks.data.order import Permutation
from lmworks.data.pair_batching import PairBatch, pad
from lmworks.records import TextPair
from lmworks.tokenizer.model_input import encode_framed
from lmworks.tokenizer.tokenizer import Tokenizer

_TOGETHER = 4096  # pairs that go to the tokenizer, and its threads, at once


@dataclass(frozen=True, slots=True)
class PairStream:
    """What decides which batches there are and in which order, but for their number; `pairs` is a digest of their
    tokens."""

    pairs: str
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class PairLoaderState:
    """`step` is the next to be given out."""

    step: int
    stream: PairStream


class PairLoader:
    """Iterates over the batches of a run, from `state` on, as rank `rank` of `world_size`.

    All texts become tokens at once, four bytes each; a text of more than `config.length` of them loses its end, and
    `cut` counts those. A batch of rank r holds the pairs r·batch // W to (r + 1)·batch // W - 1 of the global one, with
    the hard negatives of these: what other ranks hold is no negative of theirs. The last step of a run without `steps`
    may be smaller.

    pairs  how many there are; texts  with negatives; cut  of these
    steps  of the run; step  the next to be given out

    `state` is what `state()` gave. A run may go on with more steps or fewer; all else must be as it was.

    ValueError for no pair at all, a batch of more pairs than there are or of fewer than ranks, a rank outside the
    world, a state that is damaged or of another stream.
    """

    stall_share = 0.0  # a batch is made in less time than it takes to hand it over

    def __init__(
        self,
        config: PairLoaderConfig,
        pairs: Sequence[TextPair],
        tokenizer: Tokenizer,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank!r} is outside a world of {world_size!r}")
        if not pairs:
            raise ValueError("there are no pairs to learn from")
        if not world_size <= config.batch <= len(pairs):
            raise ValueError(
                f"a batch of {config.batch} pairs, of {len(pairs):,} for {world_size} ranks: set batch to a number "
                f"between {world_size} and {len(pairs):,}"
            )
        self.config, self.rank, self.world_size, self.pairs = config, rank, world_size, len(pairs)
        self._tokens, self._ends, self.cut = _tokenize(pairs, tokenizer, config.length)
        counts = np.array([2 + len(pair.negatives) for pair in pairs])
        self._first = np.cumsum([0, *counts])  # (pairs + 1,): the number of each pair's first text
        self.texts = int(self._first[-1])
        shape = hashlib.sha256(self._tokens.tobytes() + self._ends.tobytes() + self._first.tobytes())
        self._stream = PairStream(shape.hexdigest(), config.batch, config.seed)
        self._total = self.pairs if config.steps is None else config.steps * config.batch
        self.steps = -(-self._total // config.batch)
        if self._rows(self.steps - 1) < world_size:
            raise ValueError(f"the last step holds {self._rows(self.steps - 1)} pairs, fewer than ranks: set steps")
        self.step = 0
        if state is not None:
            self.restore(state)

    def batch(self, step: int) -> PairBatch:
        """This rank's pairs of any step: the same whenever it is asked for. IndexError for a step outside the run."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        first, rows = step * self.config.batch, self._rows(step)
        lower, upper = (first + rows * rank // self.world_size for rank in (self.rank, self.rank + 1))
        texts = [range(self._first[pair], self._first[pair + 1]) for pair in self._shown(lower, upper)]
        queries = [self._text(own[0]) for own in texts]
        documents = [self._text(own[1]) for own in texts]
        negatives = [self._text(text) for own in texts for text in own[2:]]
        return PairBatch(*pad(queries), *pad([*documents, *negatives]))

    def _rows(self, step: int) -> int:
        return min(self.config.batch, self._total - step * self.config.batch)

    def _shown(self, lower: int, upper: int) -> list[int]:
        """The pairs at these places of the run, each epoch of which has an order of its own."""
        epochs, places = np.divmod(np.arange(lower, upper), self.pairs)
        shown = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            shown[here] = Permutation(self.pairs, f"{self.config.seed} {epoch} pairs")(places[here])
        return shown.tolist()

    def _text(self, number: int) -> list[int]:
        start = self._ends[number - 1] if number else 0
        return self._tokens[start : self._ends[number]].tolist()

    def __iter__(self) -> "PairLoader":
        return self

    def __next__(self) -> PairBatch:
        if self.step >= self.steps:
            raise StopIteration
        self.step += 1
        return self.batch(self.step - 1)

    def seek(self, step: int) -> None:
        """Give out step `step` next, whatever came before; IndexError for one outside the run."""
        if not 0 <= step <= self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        self.step = step

    def state(self) -> dict[str, Any]:
        """Where the run stands, as JSON: `PairLoaderState`."""
        return to_mapping(PairLoaderState(self.step, self._stream))

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved; returns the next step. ValueErrors leave the loader where it was."""
        saved = from_mapping(PairLoaderState, state, ["state"])
        for name, was, now in (
            (name, getattr(saved.stream, name), getattr(self._stream, name)) for name in PairStream.__slots__
        ):
            if was != now:
                raise ValueError(f"the saved position is one in another stream of pairs: {name} was {was}, is {now}")
        if not 0 <= saved.step <= self.steps:
            raise ValueError(f"the saved position is step {saved.step} of a run of {self.steps}")
        self.step = saved.step
        return saved.step


def _tokenize(
    pairs: Sequence[TextPair], tokenizer: Tokenizer, length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """The ids of all texts one behind the other, (tokens,), where each text ends, (texts,), and how many were cut."""
    tokens, lengths, cut = [], [], 0
    for start in range(0, len(pairs), _TOGETHER):
        some = pairs[start : start + _TOGETHER]
        texts = [text for pair in some for text in (pair.anchor, pair.positive, *pair.negatives)]
        rows, shortened = encode_framed(tokenizer, texts, length)
        if not all(rows):
            raise ValueError(f"a text has no token in this vocabulary: {texts[[len(r) for r in rows].index(0)][:60]!r}")
        tokens.append(np.array([token for row in rows for token in row], np.int32))
        lengths += [len(row) for row in rows]
        cut += shortened
    return np.concatenate(tokens), np.cumsum(lengths), cut
