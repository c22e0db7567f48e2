"""A checkpoint whose vocabulary holds more tokens, and which continues from what it knew.

A new row drawn at random makes the model blind for its token until much has been trained. Here it is the mean of the
rows of the pieces that stood for the same text before: Gee et al. 2022 ("Fast Vocabulary Transfer", section 3) for the
embedding, and the same for the rows that make the logits. What no old piece stands for, the padding of the matrix, is
the mean of all old rows, which keeps its logits from drowning the others (Hewitt 2021).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import gcd

import torch
from torch import Tensor

from lmworks.model import config as configs
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.tensor_files import LazyTensors
from lmworks.model.transformer import empty_model
from lmworks.progress import Report, no_report
from lmworks.tokenizer.vocabulary_extension import Extension, extend_by_tokens, extend_for_texts

_PADDED = 128  # rows are padded to at most such a multiple, for the sake of matrix units


def extend_vocabulary(
    checkpoint: Checkpoint,
    tokens: Sequence[str] = (),
    *,
    texts: Iterable[str] = (),
    count: int = 0,
    least: int = 2,
    progress: Report = no_report,
) -> Checkpoint:
    """The checkpoint with the given `tokens` added to its vocabulary, or at most `count` that `texts` of a domain or a
    language need, which occur `least` times in them; `tokenizer.vocabulary_extension` says how they are chosen and
    written.

    The old tokens keep their ids and rows, and a text without a new token keeps its ids. The embedding and what makes
    the logits grow together (a tied matrix stays one) to a multiple of the power of two that divided their rows
    before, 128 at most; rows that were padding are used up first. The weights keep their dtype; `checkpoint` stays as
    it is. ValueError unless there are tokens or a count, not both, where there is nothing to add, and for a model with
    adapters next to its weights. `progress` receives the characters read, then the merges learnt.
    """
    if bool(tokens) == bool(count):
        raise ValueError("give tokens to add, or texts and a count of tokens to choose from them")
    if tokens:
        return with_extension(checkpoint, extend_by_tokens(checkpoint.required_tokenizer, tokens))
    return with_extension(checkpoint, extend_for_texts(checkpoint.required_tokenizer, texts, count, least, progress))


def with_extension(checkpoint: Checkpoint, extension: Extension) -> Checkpoint:
    """The checkpoint with the tokenizer of an extension of its own vocabulary, and rows for the new tokens; see
    `extend_vocabulary`."""
    old = checkpoint.config.embedding.vocabulary
    step = gcd(old, _PADDED)
    rows = max(old, -(-(max(extension.pieces) + 1) // step) * step)  # the fewest that are as even as the old ones
    _refuse_changed(checkpoint)
    weights = checkpoint.model.state_dict() if "model" in checkpoint.__dict__ else checkpoint.weights
    by_vocabulary = vocabulary_parameters(checkpoint.config)

    def read(name: str) -> Tensor:
        return _extended(weights[name], rows, extension.pieces) if name in by_vocabulary else weights[name]

    return replace(
        checkpoint,
        config=_resized(checkpoint.config, rows),
        weights=LazyTensors({name: partial(read, name) for name in weights}),
        tokenizer=extension.tokenizer,
    )


def _refuse_changed(checkpoint: Checkpoint) -> None:
    """ValueError for a model that has been made of other modules than its config says: what they add would be lost."""
    if "model" not in checkpoint.__dict__:
        return
    plain = {name: type(module) for name, module in empty_model(checkpoint.config).named_modules()}
    for name, module in checkpoint.model.named_modules():
        if plain.get(name) is not type(module):
            raise ValueError(
                f"only a plain model's vocabulary is extended, and in this one {name} is a {type(module).__name__}: "
                "extend it without its adapters, or merge them into it first (lmworks.adapt.merge)"
            )


def vocabulary_parameters(config: configs.ModelConfig) -> frozenset[str]:
    """The parameters of `Transformer(config)` whose first dimension is the vocabulary: those that grow with it."""
    larger = empty_model(_resized(config, config.embedding.vocabulary + 1)).state_dict()
    return frozenset(n for n, weight in empty_model(config).state_dict().items() if weight.shape != larger[n].shape)


def _resized(config: configs.ModelConfig, rows: int) -> configs.ModelConfig:
    decoder = config.decoder_embedding
    return replace(
        config,
        embedding=replace(config.embedding, vocabulary=rows),
        decoder_embedding=None if decoder is None else replace(decoder, vocabulary=rows),
    )


def _extended(weight: Tensor, rows: int, pieces: Mapping[int, tuple[int, ...]]) -> Tensor:
    """(old rows, …) → (rows, …); means are taken in float32, or in the weight's own dtype where that is wider."""
    weight = weight.detach()
    exact = torch.promote_types(weight.dtype, torch.float32)
    more = weight.new_empty(rows - len(weight), *weight.shape[1:])
    more[:] = weight.mean(dim=0, dtype=exact)
    extended = torch.cat([weight, more])
    for token, old in pieces.items():
        extended[token] = weight[list(old)].to(exact).mean(dim=0)
    return extended
