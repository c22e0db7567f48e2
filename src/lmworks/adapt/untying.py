"""A language model head of its own, for an adapter of the head of a model that ties it to the token embedding."""

from dataclasses import replace

import torch
from torch import nn

from lmworks.model.config import LanguageModelHead as HeadConfig
from lmworks.model.heads import LanguageModelHead
from lmworks.model.transformer import Transformer


def untie(model: Transformer) -> None:
    """Gives a tied head, in place, a projection of its own, whose weight still is the token embedding's parameter."""
    config = model.config.head
    if not isinstance(config, HeadConfig) or not isinstance(model.head, LanguageModelHead):
        raise ValueError(f"only a language model's head can be untied, this one is {config}")
    if not config.tied:
        return
    untied = replace(config, tied=False)
    with torch.device("meta"):
        head = LanguageModelHead(untied, model.tokens.shape[1], model.tokens.shape[0])
    assert head.projection is not None and isinstance(model.tokens, nn.Parameter)
    head.projection.weight, head.bias = model.tokens, model.head.bias
    model.head, model.config = head.train(model.training), replace(model.config, head=untied)
