"""Texts to vectors with an embedding checkpoint: tokenise, batch by length, pool, normalise.

The pooled and normalised vectors are the model's own output (its `PoolHead`); what is added here is everything around
the forward that decides whether two vectors are comparable: the prefix of each role, the length limit and the
batching. Sentence-BERT (Reimers & Gurevych, 2019, section 3) is the reference for encoders of this kind.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from lmworks.generate.protocol import ContextLengthError, Role, UnsupportedError
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import PoolHead

_ROLES: tuple[Role, ...] = ("query", "passage")


class TextEncoder:
    """Encodes texts with one embedding checkpoint.

    `prefixes` are put before the texts of a role, as E5 and its successors ask for ("query: ", "passage: "); the
    default is none. `batch_tokens` bounds the tokens of one forward, padding included, and so its memory; it changes
    no vector. `truncated` counts the texts that were cut at `max_length` tokens since the encoder was made: the
    caller reports it.
    """

    def __init__(
        self, checkpoint: Checkpoint, prefixes: Mapping[Role, str] | None = None, batch_tokens: int = 4096
    ) -> None:
        if not isinstance(checkpoint.config.head, PoolHead):
            raise UnsupportedError(
                f"{checkpoint.source} is no embedding model: it has no pooling head; load one such as all-minilm-l6-v2"
            )
        self.model = checkpoint.model.eval()
        self.tokenizer = checkpoint.required_tokenizer
        self.width = checkpoint.config.embedding.width
        self.max_length = checkpoint.max_length
        self.batch_tokens = batch_tokens
        self.prefixes: dict[Role, str] = {role: (prefixes or {}).get(role, "") for role in _ROLES}
        self.truncated = 0
        self.fingerprint = self._fingerprint(checkpoint.fingerprint)

    def _fingerprint(self, checkpoint: str) -> str:
        """SHA-256 of all that shapes a vector; the checkpoint's own covers weights, config, tokenizer and pooling."""
        parts = {
            "checkpoint": checkpoint,
            "prefixes": self.prefixes,
            "width": self.width,
            "max_length": self.max_length,
            "dtype": str(next(self.model.parameters()).dtype),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, each row of length 1, in the order of the texts.

        A text's vector depends on the text and the role alone; padding and batch neighbours move it by rounding only
        (below 1e-6 in float32). Raises ValueError for an unknown role.
        """
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for rows, ids, mask in self._padded(texts, role):
            pooled = self.model(ids, attention_mask=mask)  # (batch, width)
            vectors[rows] = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def encode_tokens(self, texts: Sequence[str], role: Role) -> list[np.ndarray]:
        """For each text (tokens, width) float32: the last hidden state of its tokens, each row of length 1.

        Special tokens are left out. For `retrieve.late_interaction`. Raises ValueError for an unknown role.
        """
        special = torch.tensor(sorted(self.tokenizer.special_ids.values()))
        result: list[np.ndarray] = [np.zeros((0, self.width), dtype=np.float32)] * len(texts)
        for rows, ids, mask in self._padded(texts, role):
            hidden = self.model.hidden(ids, attention_mask=mask)  # (batch, length, width)
            vectors = torch.nn.functional.normalize(hidden.float(), dim=-1).cpu()
            wanted = mask.cpu() & ~torch.isin(ids.cpu(), special)
            for row, one, keep in zip(rows, vectors, wanted, strict=True):
                result[row] = one[keep].numpy()
        return result

    def count_uncut(self, texts: Sequence[str], role: Role) -> list[int]:
        """Tokens that are read of each text; ContextLengthError where `encode` would cut one."""
        framed = [self.prefixes[role] + text for text in texts]
        lengths = [len(ids) for ids in self.tokenizer.encode_batch(framed, special=True)]
        longest = max(lengths, default=0)
        if longest > self.max_length:
            which = f"text {lengths.index(longest)}" if len(texts) > 1 else "the text"
            raise ContextLengthError(
                f"{which} has {longest} tokens, this model's maximum context length is {self.max_length}: send it in "
                "parts, or shorten it"
            )
        return lengths

    def _padded(self, texts: Sequence[str], role: Role) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Batches of (row numbers, ids, mask), ids and mask (batch, length) on the model's device."""
        if role not in self.prefixes:
            raise ValueError(f"unknown role {role!r}: expected one of {', '.join(_ROLES)}")
        sequences = self._token_ids([self.prefixes[role] + text for text in texts])
        device = next(self.model.parameters()).device
        for rows in self._batches(sequences):
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(sequences[row]) for row in rows], batch_first=True)
            lengths = torch.tensor([len(sequences[row]) for row in rows])
            mask = torch.arange(ids.shape[1]) < lengths[:, None]
            yield rows, ids.to(device), mask.to(device)

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with the special tokens around them; a text that is too long loses its end, never a special token."""
        sequences, cut = self.tokenizer.encode_truncated(texts, self.max_length)
        self.truncated += cut
        return sequences

    def _batches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Row numbers, longest first, in batches of at most `batch_tokens` padded tokens (or one row)."""
        order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
        start = 0
        while start < len(order):
            rows = max(1, self.batch_tokens // max(1, len(sequences[order[start]])))
            yield order[start : start + rows]
            start += rows
