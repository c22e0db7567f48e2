"""LoRA in training (Hu et al. 2021, section 4.1): A and B of some linear layers are learned, all else is frozen.

    adapter = initialise_lora(checkpoint.config, LoraConfig(r=8), torch.Generator().manual_seed(0))
    run = Run(checkpoint, objective, loader, settings, folder, adapt=partial(trainable_lora, lora=adapter))
    train(run)
    write_lora(folder / "adapter", lora_of(run.model, run.trained()), checkpoint.config, checkpoint.published)

The base is computed once, in its own dtype, and the change is added: W x + scale · B (A x).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.layers import AdapterLinear, frozen_copy
from lmworks.adapt.lora import HEAD, Lora, LowRank, check_fits, initialise_lora, untie
from lmworks.model.heads import LanguageModelHead, VocabularyProjection
from lmworks.model.quantised_linear import QuantisedLinear
from lmworks.model.transformer import Transformer


class LoraLinear(AdapterLinear):
    """A frozen linear layer, and A and B as parameters."""

    def __init__(self, base: nn.Module, change: LowRank, like: Tensor) -> None:
        super().__init__(base)
        self.scale = change.scale
        # Copies: training changes them in place.
        self.lora_a = nn.Parameter(change.a.to(like, copy=True))
        self.lora_b = nn.Parameter(change.b.to(like, copy=True))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, in) → (…, out)."""
        return self.base(input) + F.linear(F.linear(input, self.lora_a), self.lora_b) * self.scale


class LoraHead(LanguageModelHead):
    """A language model's head whose projection is a `LoraLinear`. To a loss over the vocabulary it is one projection
    all the same, of longer features: W f + scale · B A f = [W, scale · B] [f; A f].
    """

    def __init__(self, base: LanguageModelHead, projection: LoraLinear) -> None:
        nn.Module.__init__(self)
        self.config, self.projection, self.bias = base.config, projection, base.bias

    def features(self, hidden: Tensor) -> Tensor:
        """(…, width) → (…, width + r)."""
        features = super().features(hidden)
        return torch.cat((features, F.linear(features, self.projection.lora_a)), dim=-1)

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        layer = self.projection
        weight = torch.cat((layer.weight, layer.lora_b * layer.scale), dim=1)  # (vocabulary, width + r)
        return VocabularyProjection(weight, self.bias, self.config.softcap)


def add_lora(model: Transformer, config: LoraConfig, generator: torch.Generator) -> Transformer:
    """The model with a new adapter: `trainable_lora` of `initialise_lora`."""
    return trainable_lora(model, initialise_lora(model.config, config, generator))


def trainable_lora(model: Transformer, lora: Lora) -> Transformer:
    """The model with an adapter beside its weights, of which the adapter's matrices alone require a gradient.

    `model` stays as it is; its weights are shared. `lora` is a new adapter (`initialise_lora`) or one to go on with. A
    tied head that it changes is tied no longer, in the config too. ValueError for an adapter of another model, or of a
    layer that is no plain linear one, such as a router.
    """
    check_fits(lora, model.config)
    adapted = frozen_copy(model)
    if HEAD in lora.changes:
        untie(adapted)
    for name, change in lora.changes.items():
        base = adapted.get_submodule(name)
        if type(base) not in (nn.Linear, QuantisedLinear):
            kind = type(base).__name__
            raise ValueError(f"{name} is a {kind}, of which no adapter is learned: exclude it by exclude_modules")
        layer = LoraLinear(base, change, model.tokens)
        parent = adapted.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, LanguageModelHead):  # whose weight is read, instead of its layer called
            adapted.set_submodule(name.rpartition(".")[0], LoraHead(parent, layer).train(model.training))
        else:
            adapted.set_submodule(name, layer)
    return adapted


def lora_of(model: Transformer, weights: Mapping[str, Tensor] | None = None) -> Lora:
    """The adapter that `trainable_lora` put into the model; its matrices are the model's, or those of `weights` by
    the names of the parameters, such as `Run.trained` gives."""
    found = weights or dict(model.named_parameters())
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    return Lora(
        {
            name: LowRank(found[f"{name}.lora_a"].detach(), found[f"{name}.lora_b"].detach(), layer.scale)
            for name, layer in layers.items()
        }
    )
