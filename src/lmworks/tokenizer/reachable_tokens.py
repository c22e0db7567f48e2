"""Which tokens of a vocabulary a text can become, and which rows of its embedding look as if never trained.

Land & Bartolo 2024 ("Fishing for Magikarp", section 3.1) call a token unreachable when the text it stands for is
encoded as something else. Some of those are reached all the same, inside other text: pieces that only continue a word
(WordPiece's `##ing`), or that no word begins with. So the text is tried in contexts as well.

For BPE more is known than a search can tell: if a token occurs in the encoding of any word, the merges that make it
run inside its own letters alone, and its letters by themselves are encoded as that token. A token whose letters are
not is never reached, whatever stands around it.

Rows of tokens that no text becomes are moved by weight decay and by the softmax's push alone, all in the same way. A
token that text reaches, but whose row resembles theirs, has hardly been seen in training, and a model that reads it
does anything (section 3.2). The resemblance points at candidates; only prompting with each proves one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmworks.tokenizer.split_special_tokens import CONTEXTS
from lmworks.tokenizer.token_bytes import is_utf8, token_names, token_texts, unknown_ids
from lmworks.tokenizer.tokenizer import Tokenizer

SHARE = 0.02  # the paper prompts with the lowest 2 % of the tokens
Kind = Literal["text", "in context", "part of a character", "special", "unreachable", "no token"]
KINDS: dict[Kind, str] = {
    "text": "its own text is encoded as this token",
    "in context": "reached inside other text only",
    "part of a character": "bytes that are no whole characters; text reaches them together with others",
    "special": "never made from text; placed by the chat template or around a text",
    "unreachable": "no text becomes this token",
    "no token": "an id below the largest one that has no token",
}
# Bytes that complete those of a token to UTF-8, if anything does: continuation bytes have other bounds after E0, ED, F0
# and F4 than elsewhere.
_HEADS = (b"", b"\xc3", b"\xe0", b"\xe1", b"\xed", b"\xe1\x80", b"\xf0", b"\xf1", b"\xf4", b"\xf1\x80", b"\xf1\x80\x80")
_TAILS = (b"", b"\x80", b"\xa0", b"\x80\x80", b"\xa0\x80", b"\x90\x80", b"\x80\x80\x80", b"\x90\x80\x80")


@dataclass(frozen=True)
class Reachability:
    """`kinds[id]` for every id; `reasons[id]` why an unreachable one is, and `becomes[id]` what its text is instead."""

    kinds: tuple[Kind, ...]
    reasons: dict[int, str]
    becomes: dict[int, tuple[int, ...]]

    def ids(self, *kinds: Kind) -> np.ndarray:
        """The ids of these kinds, int64."""
        return np.array([index for index, kind in enumerate(self.kinds) if kind in kinds], dtype=np.int64)


def reachability(tokenizer: Tokenizer) -> Reachability:
    """Sorts every id of a vocabulary into a kind, by encoding the text of its token, alone and in contexts."""
    names, texts = token_names(tokenizer), token_texts(tokenizer)
    special = {*tokenizer.special_ids.values(), *unknown_ids(tokenizer)}
    special |= {index for index, name in enumerate(names) if name in tokenizer.roles.values()}
    kinds: list[Kind] = ["unreachable"] * len(names)
    reasons: dict[int, str] = {}
    waiting: dict[int, str] = {}
    for index, (name, text) in enumerate(zip(names, texts, strict=True)):
        if name is None or index in special:
            kinds[index] = "no token" if name is None else "special"
        elif isinstance(text, str):
            waiting[index] = text
        elif not any(is_utf8(head + text + tail) for head in _HEADS for tail in _TAILS):
            reasons[index] = "no UTF-8 text holds its bytes"
        elif not _merges_to_itself(tokenizer, name):
            reasons[index] = "its merges lead elsewhere"
        else:
            kinds[index] = "part of a character"
    becomes = dict(zip(waiting, _encode(tokenizer, waiting.values()), strict=True))
    for index in [index for index, ids in becomes.items() if ids == (index,)]:
        kinds[index] = "text"
        del waiting[index], becomes[index]
    for index in waiting:
        proven = not _merges_to_itself(tokenizer, names[index] or "")
        reasons[index] = "its merges lead elsewhere" if proven else "no context reached it"
    added = {index for index, token in tokenizer.backend.get_added_tokens_decoder().items() if not token.special}
    open_ = {i: text for i, text in waiting.items() if i in added or reasons[i] != "its merges lead elsewhere"}
    for index in _reached_in_context(tokenizer, open_):
        kinds[index] = "in context"
        del becomes[index], reasons[index]
    return Reachability(tuple(kinds), reasons, becomes)


def _reached_in_context(tokenizer: Tokenizer, waiting: Mapping[int, str]) -> set[int]:
    left, reached = dict(waiting), set()
    for before, after in CONTEXTS:
        # A space at the beginning of a token may be one that the tokenizer puts there (SentencePiece).
        around = [(i, f"{before}{text}{after}") for i, text in left.items()]
        around += [(i, f"{before}{text[1:]}{after}") for i, text in left.items() if text.startswith(" ")]
        encoded = _encode(tokenizer, [text for _, text in around])
        reached_here = {index for (index, _), ids in zip(around, encoded, strict=True) if index in ids}
        reached |= reached_here
        left = {index: text for index, text in left.items() if index not in reached_here}
    return reached


def _encode(tokenizer: Tokenizer, texts: Iterable[str]) -> list[tuple[int, ...]]:
    return [tuple(ids) for ids in tokenizer.encode_batch(list(texts))]


def _merges_to_itself(tokenizer: Tokenizer, name: str) -> bool:
    """False where BPE's merges, run over the letters of a token, end in something else; True for other models."""
    model = tokenizer.backend.model
    if type(model).__name__ != "BPE":
        return True
    return [token.value for token in model.tokenize(name)] == [name]


# ---------------------------------------------------------------------------------------------------------------------
# Rows that look untrained


@dataclass(frozen=True)
class Undertrained:
    """indicator   (ids,) float64; the lower, the more like a row that was never trained. NaN for an id without a row.
    threshold     candidates are below: the lowest `SHARE` of the tokens that text reaches.
    candidates    ids, the most suspicious first.
    method        what the indicator is, in words.
    """

    indicator: np.ndarray
    threshold: float
    candidates: tuple[int, ...]
    method: str


def undertrained(embedding: np.ndarray, reach: Reachability, tied: bool) -> Undertrained:
    """Judges the tokens that text reaches by their rows in `embedding` (rows, width), floating point.

    `tied`: the same matrix makes the logits; then rows that were never a target all point away from the hidden states,
    and the indicator is the cosine distance to the mean of the unused rows. Otherwise it is the Euclidean norm of the
    input row, which weight decay makes small, and no gradient large.

    ValueError where `tied` and no row is known to be unused: no unreachable token, no gap, no padding.
    """
    ids = len(reach.kinds)
    unused = unused_rows(reach, len(embedding))
    if tied:
        if not len(unused):
            raise ValueError(
                "no token is known to be unused: every token is reached by some text, and no row is padding"
            )
        reference = embedding[unused].astype(np.float64).mean(axis=0)
        products = np.einsum("ij,j->i", embedding, reference, dtype=np.float64)
        lengths = _norms(embedding) * np.linalg.norm(reference)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)  # 0 for a row of zeros
        values, method = 1 - cosines, "cosine distance to the mean of the unused rows"
    else:
        values, method = _norms(embedding), "Euclidean norm of the row"
    indicator = np.full(ids, np.nan)
    indicator[: min(ids, len(values))] = values[:ids]
    judged = np.intersect1d(reach.ids("text", "in context"), np.flatnonzero(np.isfinite(indicator)))
    threshold = float(np.quantile(indicator[judged], SHARE))
    below = judged[indicator[judged] < threshold]
    ordered = below[np.argsort(indicator[below], kind="stable")]
    return Undertrained(indicator, threshold, tuple(ordered.tolist()), method)


def unused_rows(reach: Reachability, rows: int) -> np.ndarray:
    """Rows that training cannot have used: of unreachable tokens, of ids without a token, and beyond the last id."""
    known = reach.ids("unreachable", "no token")
    return np.concatenate([known[known < rows], np.arange(len(reach.kinds), rows)]).astype(np.int64)


def _norms(embedding: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", embedding, embedding, dtype=np.float64))  # without a copy of the whole
