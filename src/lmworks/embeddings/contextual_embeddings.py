"""The same questions to a language model: the rows of its token embedding, and a word as it stands in its sentence.

The rows are what static vectors were before (one vector a token, wherever it stands). In context a word has another
vector in each sentence and each layer (Peters et al. 2018; Ethayarajh 2019).
"""

import re
from collections.abc import Sequence

import numpy as np
import torch

from lmworks.embeddings.word_vectors import WordVectors
from lmworks.model.checkpoint import Checkpoint


def token_vectors(checkpoint: Checkpoint, words: Sequence[str] | None = None) -> WordVectors:
    """Rows of the token embedding, `model.tokens`.

    Without `words`, all tokens that stand for a text of their own, under that text with the space it begins with, in
    the order of their ids. With `words`, a vector for each: the mean of the rows of its tokens, as it is cut behind
    another word.
    """
    rows, tokenizer = checkpoint.model.tokens.detach().float().cpu().numpy(), checkpoint.required_tokenizer
    if words is not None:
        texts = [f"a {word}" for word in words]
        tokens = [_overlapping(*tokenizer.encode_with_offsets(text), 2, len(text)) for text in texts]
        return WordVectors(tuple(words), np.stack([rows[ids].mean(axis=0) for ids in tokens]).astype(np.float32))
    special = set(tokenizer.special_ids.values())
    before = tokenizer.encode("a")[-1:]  # alone, some decoders drop the space that a token begins with
    start = len(tokenizer.decode(before))
    token_of: dict[str, int] = {}
    for token in range(min(len(rows), tokenizer.vocabulary_size)):
        text = "" if token in special else tokenizer.decode([*before, token])[start:]
        if text and "\ufffd" not in text:  # a part of a character is no text
            token_of.setdefault(text, token)
    return WordVectors(tuple(token_of), rows[list(token_of.values())])


def _overlapping(ids: Sequence[int], offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    tokens = [token for token, (low, high) in zip(ids, offsets, strict=True) if low < end and high > start]
    if not tokens:
        raise ValueError("the tokenizer makes no token of a word; is it white space?")
    return tokens


def contextual_vectors(
    checkpoint: Checkpoint, sentences: Sequence[str], word: str, layer: int | None = None
) -> WordVectors:
    """The vector of a word in each sentence, under the sentence with the word in brackets.

    It is the mean over the word's tokens of the hidden state behind a block: `layer` 1 is the first block, 0 the
    embedding before it, None the last one with the final norm. The word's first occurrence counts, whole and in this
    spelling. ValueError for a sentence without it, one that comes twice, one longer than the model takes, or a layer
    that the model does not have; for an encoder–decoder, which has two stacks.
    """
    vectors, names = [], []
    whole_word = re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")  # next to no letter or digit
    for sentence in sentences:
        if not word or (match := whole_word.search(sentence)) is None:
            raise ValueError(f"the word {word!r} is not in {sentence!r}")
        start, end = match.span()
        names.append(f"{sentence[:start]}[{word}]{sentence[end:]}")
        ids, offsets = checkpoint.required_tokenizer.encode_with_offsets(sentence, special=True)
        if len(ids) > checkpoint.max_length:
            raise ValueError(
                f"a sentence of {len(ids):,} tokens is longer than the {checkpoint.max_length:,} of the model"
            )
        positions = _overlapping(range(len(ids)), offsets, start, end)
        vectors.append(_hidden(checkpoint, ids, layer)[positions].mean(axis=0))
    return WordVectors(tuple(names), np.stack(vectors).astype(np.float32))


@torch.inference_mode()
def _hidden(checkpoint: Checkpoint, ids: Sequence[int], layer: int | None) -> np.ndarray:
    """(length, width) float32."""
    model = checkpoint.model
    if model.encoder is not None and model.decoder is not None:
        raise ValueError("an encoder–decoder has two stacks of layers: take a model with one")
    stack = model.decoder or model.encoder
    assert stack is not None
    if layer is not None and not 0 <= layer <= len(stack.blocks):
        raise ValueError(f"layer must be 0 to {len(stack.blocks)}, got {layer}")
    states: list[torch.Tensor] = []  # before the first block, and behind each

    def record(_: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        states.extend([output] if states else [inputs[0], output])

    hooks = [block.register_forward_hook(record) for block in stack.blocks]
    try:
        last = model.hidden(torch.tensor([list(ids)], device=model.tokens.device))
    finally:
        for hook in hooks:
            hook.remove()
    return (last if layer is None else states[layer])[0].float().cpu().numpy()
