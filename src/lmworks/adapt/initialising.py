"""A new adapter, which changes nothing yet."""

import torch

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.lora import Lora, LowRank, linear_shapes
from lmworks.model.config import ModelConfig


def initialise_lora(model_config: ModelConfig, config: LoraConfig, generator: torch.Generator) -> Lora:
    """An adapter for a model, in float32 on the generator's device: A is drawn and B is zero, so that the model still
    computes what it did (Hu et al. 2021, section 4.1).

    A is uniform within ±√(1 / in): He et al. 2015, section 2.2, with a slope of √5, as PyTorch begins a linear layer.
    Names in `config` are ours. ValueError when it targets no layer.
    """
    changes: dict[str, LowRank] = {}
    for name, (outputs, inputs) in linear_shapes(model_config).items():
        if config.targets(name):
            rank, bound = config.rank(name), inputs**-0.5
            a = torch.empty(rank, inputs, device=generator.device).uniform_(-bound, bound, generator=generator)
            changes[name] = LowRank(a, torch.zeros(outputs, rank, device=generator.device), config.scale(name))
    if not changes:
        raise ValueError(f"target_modules {config.target_modules} name no linear layer of this model")
    return Lora(changes)
