"""The encoder of an index, and a reranker: what retrieval asks of models."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lmworks.generate.protocol import Role


class Encoder(Protocol):
    """Text encoder of an index: vectors of texts and of their tokens, and a name for all that shapes them.

    `max_tokens` is the longest text that is read whole, special tokens not counted. `TextEncoder` is one.
    """

    @property
    def width(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def max_tokens(self) -> int: ...

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, rows of length 1."""
        ...

    def encode_both(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, list[np.ndarray]]:
        """Vectors of `encode`, and for each text (tokens, width) float32, rows of length 1, of its tokens."""
        ...

    def token_offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text (tokens, 2): where in it the tokens of `encode_both` begin and end."""
        ...

    def token_sample(self) -> np.ndarray:
        """(many, width) float32: token vectors that depend on the encoder alone, to fit a projection on."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]: ...


class Reranker(Protocol):
    """Reader of a question and a passage as one text; a `CrossEncoder` with one label is one."""

    def relevance(self, question: str, passages: Sequence[str]) -> np.ndarray:
        """(passages,) logits that each answers the question."""
        ...
