"""LoRA in training (Hu et al. 2021, section 4.1): A and B of some linear layers are learned, all else is frozen.

    adapter = initialise_lora(checkpoint.config, LoraConfig(r=8), torch.Generator().manual_seed(0))
    run = Run(checkpoint, objective, loader, settings, folder, adapt=partial(trainable_lora, lora=adapter))
    train(run)
    write_lora(folder / "adapter", lora_of(run.model, run.trained()), checkpoint.config, checkpoint.published)

The base is computed once, in its own dtype, and the change is added: W x + scale · B (A x).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.adapt.config import LoraConfig
from lmworks.adapt.dora import changed_lengths, direction_factor, row_lengths
from lmworks.adapt.layers import AdapterLinear, frozen_copy, linear_layer, with_weight
from lmworks.adapt.lora import EMBEDDING, HEAD, Lora, LowRank, check_fits, initialise_lora, untie
from lmworks.model.heads import LanguageModelHead, VocabularyProjection
from lmworks.model.transformer import Transformer


class LowRankLinear(torch.autograd.Function):
    """W x + b + scale · B (A x) as one product, rounded once: `inputs` (…, in), frozen `weight` (out, in) and `bias`
    (out,), `a` (r, in), `b` (out, r) → (…, out). The backward keeps the inputs and A x.

        [W, B] [x; scale · A x] + b        backward: g ↦ [Wᵀ, Aᵀ] [g; scale · Bᵀ g]

    A change is at first smaller than half the distance of a bfloat16 output from its neighbours: added to an output
    that was rounded already, it would be lost.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        inner = F.linear(inputs, a).mul_(scale)  # (…, r)
        ctx.save_for_backward(inputs, weight, a, b, inner)
        ctx.scale = scale
        return F.linear(torch.cat((inputs, inner), dim=-1), torch.cat((weight, b), dim=1), bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, a, b, inner = ctx.saved_tensors
        gradient = grad_outputs[0].flatten(0, -2)  # (n, out)
        of_inner = (gradient @ b).mul_(ctx.scale)  # (n, r)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            of_inputs = torch.cat((gradient, of_inner), dim=-1) @ torch.cat((weight, a))
            of_inputs = of_inputs.view(inputs.shape)
        return of_inputs, None, None, of_inner.T @ inputs.flatten(0, -2), gradient.T @ inner.flatten(0, -2), None


class LoraLinear(AdapterLinear):
    """A frozen linear layer, and A and B as parameters.

    With DoRA also `lora_magnitude` (out,), by how much m differs from ‖W‖: 0 at first, so that also in bfloat16, where
    m itself has neighbours 0.4 % away, the layer begins as its base and learns small changes.
    """

    def __init__(self, base: nn.Module, change: LowRank, like: Tensor) -> None:
        super().__init__(base)
        self.scale = change.scale
        # Copies: training changes them in place.
        self.lora_a = nn.Parameter(change.a.to(like, copy=True))
        self.lora_b = nn.Parameter(change.b.to(like, copy=True))
        self.lora_magnitude = None
        if change.magnitude is not None:
            lengths = row_lengths(self.matrix)
            self.lora_magnitude = nn.Parameter((change.magnitude.to(lengths) - lengths).to(like))

    @property
    def matrix(self) -> Tensor:
        """W, (out, in)."""
        return self.weight

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, in) → (…, out)."""
        if type(self.base) is nn.Linear and self.lora_magnitude is None:
            weights = self.base.weight, self.base.bias, self.lora_a, self.lora_b
            return cast(Tensor, LowRankLinear.apply(input, *weights, self.scale))
        return self.changed(self.base(input), self.bias, F.linear(input, self.lora_a))

    def changed(self, output: Tensor, bias: Tensor | None, inner: Tensor) -> Tensor:
        """The base's `output` (…, out), which has its `bias` in it, with the change of `inner` A x (…, r)."""
        change = F.linear(inner * self.scale, self.lora_b)  # scaled where it is thin
        if (ratio := self.ratio()) is None:
            return output + change
        product = output if bias is None else output - bias.to(output.dtype)
        output = torch.addcmul(output, product, (ratio - 1).to(output.dtype))
        return torch.addcmul(output, change, ratio.to(output.dtype))

    def ratio(self) -> Tensor | None:
        """m / ‖W + scale · B A‖ (out,), in float32 at least; None without DoRA."""
        if self.lora_magnitude is None:
            return None
        before, after = changed_lengths(self.matrix, self.lora_a, self.lora_b, self.scale)
        return direction_factor(before + self.lora_magnitude, after)

    def merged(self) -> nn.Module:
        return with_weight(self.base, self.change(dict(self.named_parameters())).merged(self.weight), self.bias)

    def change(self, weights: Mapping[str, Tensor]) -> LowRank:
        """The layer's change of its base, with these values of its parameters."""
        difference = weights.get("lora_magnitude")
        lengths = None if difference is None else row_lengths(self.matrix)
        magnitude = None if difference is None or lengths is None else lengths + difference.detach().to(lengths)
        return LowRank(weights["lora_a"].detach(), weights["lora_b"].detach(), self.scale, magnitude)


class LoraEmbedding(LoraLinear):
    """An embedding, whose W is its table's transpose: A (r, vocabulary), B (width, r). Its `weight` stays the table
    without the change, so a head that is tied to it does not change.
    """

    @property
    def matrix(self) -> Tensor:
        return self.weight.T  # (width, vocabulary)

    def merged(self) -> nn.Module:
        merged = self.change(dict(self.named_parameters())).merged(self.matrix)
        return with_weight(self.base, merged.T.contiguous())

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, as in nn.Embedding
        """Ids (…) → (…, width)."""
        return self.changed(self.base(input), None, F.embedding(input, self.lora_a.T))


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
        if (ratio := layer.ratio()) is not None:
            weight = weight * ratio.to(weight.dtype)[:, None]
        return VocabularyProjection(weight, self.bias, self.config.softcap)

    def merged(self) -> LanguageModelHead:
        """A plain head with the projection, which is merged already."""
        with torch.device("meta"):
            head = LanguageModelHead(self.config, 1, 1)
        head.projection, head.bias = cast(Any, self.projection), self.bias
        return head.train(self.training)


def add_lora(model: Transformer, config: LoraConfig, generator: torch.Generator) -> Transformer:
    """The model with a new adapter: `trainable_lora` of `initialise_lora`; for DoRA with the lengths of W's rows.

    Where a language model's head and its embedding are tied, an adapter of one does not change the other, as in PEFT.
    """
    adapted = trainable_lora(model, initialise_lora(model.config, replace(config, use_dora=False), generator))
    if config.use_dora:
        for layer in adapted.modules():
            if isinstance(layer, LoraLinear):
                layer.lora_magnitude = nn.Parameter(layer.lora_b.new_zeros(len(layer.lora_b)))
    return adapted


def trainable_lora(model: Transformer, lora: Lora) -> Transformer:
    """The model with an adapter next to its weights, of which the adapter's matrices alone require a gradient.

    `model` stays as it is; its weights are shared. `lora` is a new adapter (`initialise_lora`) or one to go on with. A
    tied head that it changes is tied no longer, in the config too. ValueError for an adapter of another model, or of a
    layer that is no plain linear one, such as a router.
    """
    check_fits(lora, model.config)
    adapted = frozen_copy(model)
    if HEAD in lora.changes:
        untie(adapted)
    for name, change in lora.changes.items():
        if name == EMBEDDING:
            adapted.set_submodule(name, LoraEmbedding(adapted.get_submodule(name), change, model.tokens))
            continue
        layer = LoraLinear(linear_layer(adapted, name), change, model.tokens)
        parent = adapted.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, LanguageModelHead):  # whose weight is read, instead of its layer called
            adapted.set_submodule(name.rpartition(".")[0], LoraHead(parent, layer).train(model.training))
        else:
            adapted.set_submodule(name, layer)
    return adapted


def lora_of(model: Transformer, weights: Mapping[str, Tensor] | None = None) -> Lora:
    """The adapter that `trainable_lora` put into the model; its matrices are the model's, or those of `weights` by
    the names of the parameters, such as `Run.trained` gives."""
    tensors = weights or dict(model.named_parameters())
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    return Lora(
        {
            name: layer.change(
                {parameter: tensors[f"{name}.{parameter}"] for parameter, _ in layer.named_parameters(recurse=False)}
            )
            for name, layer in layers.items()
        }
    )
