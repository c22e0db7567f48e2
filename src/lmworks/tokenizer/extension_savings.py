"""What an extended vocabulary saves, measured on documents that its tokens were not chosen from.

On the documents that tokens were chosen from, any number of them looks good: a token for a name that one document
repeats saves a lot there and nothing elsewhere. So whole documents are held out, and equal ones stay together.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from lmworks.records import Score
from lmworks.tokenizer.fertility import Text, ratio
from lmworks.tokenizer.tokenizer import Tokenizer

LEAST = 2  # documents held out: one has no spread


def hold_out(text: Text, share: float) -> tuple[Text, Text]:
    """The documents to choose tokens from, and at least this share of the different ones, held out.

    Which ones depends on the documents alone, not on their order. ValueError where that leaves less than `LEAST` on
    either side, and for a share that is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of documents to hold out lies between 0 and 1, got {share}")
    different = sorted({each for each in text.passages if each.strip()}, key=_order)
    count = max(math.ceil(share * len(different)), LEAST)
    if len(different) - count < LEAST:
        raise ValueError(
            f"{len(different)} different documents are too few to choose tokens from some and hold {share:.0%} out: "
            "give several files, a file with several lines, or a .jsonl file with several rows"
        )
    held = set(different[:count])
    kept = tuple(each for each in text.passages if each not in held)
    return Text(kept, text.unit), Text(tuple(each for each in text.passages if each in held), text.unit)


def _order(document: str) -> bytes:
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()


def bytes_per_token(tokenizer: Tokenizer, text: Text) -> Score:
    """UTF-8 bytes that a token stands for, with its interval by document."""
    sizes = np.array([len(document.encode()) for document in text.passages], np.int64)
    return ratio(sizes, _tokens(tokenizer, text.passages), _signature("bytes per token", text, tokenizer))


def tokens_left(before: Tokenizer, after: Tokenizer, text: Text) -> Score:
    """Tokens of the same text after for each token before, with its interval by document."""
    counts, former = (_tokens(tokenizer, text.passages) for tokenizer in (after, before))
    return ratio(counts, former, _signature("tokens left", text, before, after))


def _tokens(tokenizer: Tokenizer, documents: Sequence[str]) -> np.ndarray:
    return np.array([len(ids) for ids in tokenizer.encode_batch(documents)], np.int64)


def _signature(name: str, text: Text, *tokenizers: Tokenizer) -> dict[str, object]:
    hashes = [tokenizer.hash for tokenizer in tokenizers]
    return {"measure": name, "version": 1, "tokenizers": hashes, "text": text.hash, "unit": text.unit}
