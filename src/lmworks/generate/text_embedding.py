"""Texts to vectors with an embedding checkpoint: tokenise, batch by length, pool, normalise.

The pooled and normalised vectors are the model's own output (its `PoolHead`); what is added here is everything around
the forward that decides whether two vectors are comparable: the prefix of each role, the length limit and the
batching. Sentence-BERT (Reimers & Gurevych, 2019, section 3) is the reference for encoders of this kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from lmworks.generate.encoder_states import SequenceEncoder, WeightFormat, map_states
from lmworks.generate.protocol import ContextLengthError, Role, UnsupportedError
from lmworks.kernels.program import Program
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import PoolHead
from lmworks.model.transformer import Transformer, sharing_copy

_ROLES: tuple[Role, ...] = ("query", "passage")


class TextEncoder(SequenceEncoder):
    """Encodes texts with one embedding checkpoint.

    prefixes    put before the texts of a role, as E5 and its successors ask for ("query: ", "passage: "); default:
                none.
    max_length  tokens at which a text is cut; `truncated` counts these.
    """

    def __init__(
        self, checkpoint: Checkpoint, prefixes: Mapping[Role, str] | None = None, weights: WeightFormat = "auto"
    ) -> None:
        if not isinstance(checkpoint.config.head, PoolHead):
            raise UnsupportedError(
                f"{checkpoint.source} is no embedding model: it has no pooling head; load one such as all-minilm-l6-v2"
            )
        self.width, self.max_length = checkpoint.config.embedding.width, checkpoint.max_length
        self.prefixes: dict[Role, str] = {role: (prefixes or {}).get(role, "") for role in _ROLES}
        shaping = {"prefixes": self.prefixes, "width": self.width, "max_length": self.max_length}
        super().__init__(checkpoint, weights, **shaping)
        self._pooling = checkpoint.config.head.pooling
        self._checkpoint = replace(checkpoint)  # without the model that is made of it, whose floats need not stay
        self.tokenizer = checkpoint.required_tokenizer
        stack = checkpoint.config.encoder or checkpoint.config.decoder
        self.layers = len(stack.blocks) if stack else 0
        before, after = checkpoint.required_tokenizer.frame
        self.frame = self._before, self._after = len(before), len(after)
        self.context_length = checkpoint.config.context_length

    def in_float32(self) -> "TextEncoder":
        """The encoder of the same checkpoint and prefixes with float32 weights: this one where it has them."""
        return self if self.weights == "float32" else TextEncoder(self._checkpoint, self.prefixes, weights="float32")

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, each row of length 1, in the order of the texts.

        A text's vector depends on the text and the role alone: in the fused kernels its bits are the same whatever
        shares its batch, elsewhere padding and neighbours move it by rounding (below 1e-6 in float32). Raises
        ValueError for an unknown role.
        """
        return self._vectors(self._sequences(texts, role), lambda row, states: None)

    def encode_both(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, list[np.ndarray]]:
        """`encode`, and in the same forward for each text (tokens, width) float32: the last hidden state of its tokens,
        each row of length 1.

        The tokens of the text itself, cut at `max_length`: neither those that the tokenizer puts around it nor those of
        the role's prefix. For `retrieve.late_interaction`.
        """
        sequences = self._sequences(texts, role)
        ends = [len(ids) - self._after for ids in sequences]
        starts = [self._before] * len(sequences)
        if self._prefix(role):
            starts = [end - len(offsets) for end, offsets in zip(ends, self.token_offsets(texts, role), strict=True)]
        tokens = [np.zeros((0, self.width), np.float32)] * len(sequences)

        def keep(row: int, states: np.ndarray) -> None:
            tokens[row] = _normalised(states[starts[row] : ends[row]])

        return self._vectors(sequences, keep), tokens

    def _sequences(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """The ids of each text; one that is too long loses its end, never a special token."""
        sequences, cut = self.tokenizer.encode_truncated([self._prefix(role) + text for text in texts], self.max_length)
        self.truncated += cut
        return sequences

    def _vectors(self, sequences: Sequence[Sequence[int]], seen: Callable[[int, np.ndarray], None]) -> np.ndarray:
        """(sequences, width), rows of length 1, pooled as `model.heads.pool` does; `seen` gets the states as well."""
        vectors = np.zeros((len(sequences), self.width), np.float32)

        def pool(row: int, states: np.ndarray) -> None:
            seen(row, states)
            if self._pooling == "mean":
                pooled = np.add.reduceat(states, [0]) / np.array([len(states)])  # (1, width) float64
            else:
                pooled = states[:1] if self._pooling == "cls" else states[-1:]
            vectors[row] = _normalised(pooled)[0]

        map_states(self.model, sequences, pool)
        return vectors

    def framed_tokens(self, texts: Sequence[str], layer: int) -> list[tuple[list[int], np.ndarray]]:
        """For each text its token ids, those that the tokenizer puts around it included, and (tokens, width) float32:
        their hidden states behind the first `layer` blocks, each row of length 1. No prefix; a text is cut where the
        model's positions end, which `truncated` counts. ValueError for a layer that there is not.
        """
        if not 0 <= layer <= self.layers:
            raise ValueError(f"the model has layers 0 (the embedding) to {self.layers}, not {layer}")
        sequences, cut = self.tokenizer.encode_truncated(list(texts), self.context_length)
        self.truncated += cut
        nothing = np.zeros((0, self.width), np.float32)
        states = map_states(first_layers(self.model, layer), sequences, lambda _, rows: _normalised(rows))
        return [(ids, states.get(row, nothing)) for row, ids in enumerate(sequences)]

    def token_offsets(self, texts: Sequence[str], role: Role = "passage") -> list[np.ndarray]:
        """For each text (tokens, 2) int32: the characters [start, end) of each token that `encode_both` gives."""
        prefix = self._prefix(role)
        room = self.max_length - self._before - self._after
        framed, result = [prefix + text for text in texts], []
        for encoding in self.tokenizer.backend.encode_batch(framed, add_special_tokens=False):
            offsets = np.array(encoding.offsets[:room], np.int32).reshape(-1, 2) - len(prefix)
            first = int((offsets[:, 1] <= 0).sum()) if prefix else 0
            result.append(offsets[first:].clip(min=0))
        return result

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        return [len(ids) for ids in self.tokenizer.encode_batch(texts)]

    @property
    def max_tokens(self) -> int:
        """The longest passage that is read whole, in tokens without special ones."""
        return self.max_length - self._before - self._after - len(self.tokenizer.encode(self.prefixes["passage"]))

    def token_sample(self, sequences: int = 32, length: int = 128) -> np.ndarray:
        """(sequences * length, width) float32, rows of length 1: last hidden states of random tokens."""
        shape = (sequences, min(length, self.max_length))
        ids = torch.randint(self.tokenizer.vocabulary_size, shape, generator=torch.Generator().manual_seed(0))
        states = map_states(self.model, ids.tolist(), lambda _, rows: rows)
        return _normalised(np.concatenate([states[row] for row in range(sequences)]))

    def count_uncut(self, texts: Sequence[str], role: Role) -> list[int]:
        """Tokens that are read of each text; ContextLengthError where `encode` would cut one."""
        framed = [self._prefix(role) + text for text in texts]
        lengths = [len(ids) for ids in self.tokenizer.encode_batch(framed, special=True)]
        longest = max(lengths, default=0)
        if longest > self.max_length:
            which = f"text {lengths.index(longest)}" if len(texts) > 1 else "the text"
            raise ContextLengthError(
                f"{which} has {longest} tokens, this model's maximum context length is {self.max_length}: send it in "
                "parts, or shorten it"
            )
        return lengths

    def _prefix(self, role: Role) -> str:
        if role not in self.prefixes:
            raise ValueError(f"unknown role {role!r}: expected one of {', '.join(_ROLES)}")
        return self.prefixes[role]


def first_layers(model: Program | Transformer, layers: int) -> Program | Transformer:
    """The model without the blocks behind the first `layers`, sharing its weights: its last hidden states are those
    that the next block would have read."""
    if isinstance(model, Program):
        if layers == len(model.layers):
            return model
        following = model.layers[layers]  # where norms come last, each stands before the block behind its own
        norm = following.attention_norm if following.in_place else None
        return replace(model, layers=model.layers[:layers], final_norm=norm)
    shorter = sharing_copy(model)
    stack = shorter.encoder or shorter.decoder
    assert stack is not None
    if layers < len(stack.blocks):
        stack.blocks, stack.norm = stack.blocks[:layers], None
    return shorter


def _normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12)
