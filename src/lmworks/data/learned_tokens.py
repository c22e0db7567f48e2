"""The learned tokens of conversations, as a report shows them: examples in which they are marked."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from lmworks.data.token_dataset import TokenDataset
from lmworks.excerpts import Passage, Piece
from lmworks.report import Section
from lmworks.tokenizer.tokenizer import Tokenizer

_MOST = 1000  # tokens of an example


def masks_of(dataset: TokenDataset) -> Iterator[NDArray[np.bool_]]:
    """(tokens of the shard,) for each shard: which are learned."""
    for shard in dataset.shards:
        mask = shard.mask(0, len(shard.tokens))
        yield np.ones(len(shard.tokens), bool) if mask is None else mask


def learned_section(dataset: TokenDataset, tokenizer: Tokenizer, examples: int = 3) -> Section:
    """The share of tokens that is learned, and some conversations, from the first to the last, with these marked."""
    learned, last = sum(int(mask.sum()) for mask in masks_of(dataset)), dataset.documents - 1
    passages = []
    for number in sorted({last * each // max(examples - 1, 1) for each in range(examples)}):
        start, stop = dataset.offsets[number : number + 2].tolist()
        ids, mask = dataset.read(start, stop).tolist(), dataset.mask(start, stop).tolist()
        note = f"{len(ids):,} tokens, {sum(mask):,} learned" + f", the first {_MOST:,} shown" * (len(ids) > _MOST)
        pieces = _pieces(ids[:_MOST], mask[:_MOST], tokenizer)
        passages.append(Passage(f"Conversation {number + 1:,} of {last + 1:,}", tuple(pieces), note))
    text = (
        f"{learned:,} of {dataset.tokens:,} tokens are learned ({learned / max(dataset.tokens, 1):.1%}): those "
        "underlined on green, each as what follows all before it. The others are read only. In a box: special tokens."
    )
    return Section("Learned tokens", text, passages=tuple(passages), page_only=True)


def _pieces(ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer) -> Iterator[Piece]:
    special, before = set(tokenizer.special_ids.values()), ""
    # A special token is a piece of its own. What is decoded with all before it keeps its spaces.
    for (learned, place), group in groupby(range(len(ids)), lambda n: (mask[n], n if ids[n] in special else -1)):
        text = tokenizer.decode(ids[: max(group) + 1], skip_special=False)
        change = ("learned special" if learned else "special") if place >= 0 else "learned" if learned else ""
        yield Piece(text[len(before) :], change)
        before = text
