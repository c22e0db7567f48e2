"""IA³ (Liu et al. 2022, section 3.3): learned vectors rescale keys, values and the inner activations of feed-forwards.

    k ∘ l_k, v ∘ l_v, W_down (l_ff ∘ f(W_up x)), where every l begins as ones

    model = add_adapter(checkpoint.model, IA3Config())

A few numbers for each layer, and nothing to compute but a product with each of them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lmworks.adapt.config import IA3Config, LoraConfig
from lmworks.adapt.layers import AdapterLinear, frozen_copy, linear_layer, with_weight
from lmworks.adapt.lora import layer_shapes, no_target
from lmworks.adapt.peft_folder import (
    CONFIG,
    PREFIX,
    TENSORS,
    by_their_names,
    check_complete,
    peft_header,
    short_names,
    their_linears,
)
from lmworks.config import from_mapping
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import UnsupportedModel
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import write_config
from lmworks.model.transformer import Transformer

# PEFT's choices, where they are not keys and values; all three where they are one layer.
_ATTENTION = {
    **dict.fromkeys(("gpt2", "openai-gpt", "gpt_neox"), ("query", "key", "value")),
    **dict.fromkeys(("bart", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), ("query", "value")),
}
_INPUTS = dict.fromkeys(("bert", "roberta"), ("down", "attention.output"))


class IA3Linear(AdapterLinear):
    """A frozen linear layer whose outputs, or inputs, are rescaled by 1 + `ia3_l`: by how much l differs from ones, so
    that small changes are learned in bfloat16 too."""

    def __init__(self, base: nn.Module, difference: Tensor, of_inputs: bool) -> None:
        super().__init__(base)
        self.of_inputs, self.ia3_l = of_inputs, nn.Parameter(difference)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name that nn.Linear gives it
        """(…, in) → (…, out)."""
        if self.of_inputs:
            return self.base(torch.addcmul(input, input, self.ia3_l))
        output = self.base(input)
        return torch.addcmul(output, output, self.ia3_l)

    def merged(self) -> nn.Module:
        weight, bias = self.weight, self.bias
        scale = 1 + _wide(self.ia3_l)
        scaled = (_wide(weight) * (scale if self.of_inputs else scale[:, None])).to(weight.dtype)
        if bias is not None and not self.of_inputs:
            bias = (_wide(bias) * scale).to(bias.dtype)
        return with_weight(self.base, scaled, bias)


def add_ia3(model: Transformer, config: IA3Config, generator: torch.Generator) -> Transformer:
    """The model with new vectors, which are ones; nothing is drawn. ValueError where `config` names no linear layer of
    a block, or one of another kind."""
    if not config.target_modules:
        family = write_config(model.config)["model_type"]
        down = _INPUTS.get(family, ("down",))
        config = IA3Config((*_ATTENTION.get(family, ("key", "value")), *down), down)
    vectors: dict[str, tuple[Tensor, bool]] = {}
    for name, (outputs, inputs) in layer_shapes(model.config).items():
        if config.targets(name):
            of_inputs = config.of_inputs(name)
            vectors[name] = torch.ones(inputs if of_inputs else outputs), of_inputs
    if not vectors:
        raise no_target(config.target_modules, model.config)
    return trainable_ia3(model, vectors)


def trainable_ia3(model: Transformer, vectors: Mapping[str, tuple[Tensor, bool]]) -> Transformer:
    """The model with vectors l next to its frozen weights: our names → (l, whether it rescales the layer's inputs)."""
    adapted = frozen_copy(model)
    for name, (vector, of_inputs) in vectors.items():
        if ".blocks." not in name:
            raise ValueError(f"{name} is in no block, and IA³ rescales layers of blocks: name other target_modules")
        difference = (_wide(vector) - 1).to(model.tokens)
        adapted.set_submodule(name, IA3Linear(linear_layer(adapted, name), difference, of_inputs))
    return adapted


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def ia3_to_peft(
    model: Transformer, weights: Mapping[str, Tensor], checkpoint: Checkpoint
) -> tuple[JsonObject, dict[str, Tensor]]:
    """PEFT's config and tensors of the vectors in `model`; `weights` by the names of `trained_weights`.

    ValueError where parts of a layer that is one in the family have other vectors for its inputs.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, IA3Linear)}
    document = write_config(checkpoint.config, checkpoint.published)
    linears = their_linears(checkpoint.config, document)
    tensors: dict[str, Tensor] = {}
    inputs, outputs = set[str](), set[str]()
    for linear in linears:
        scales = {
            name: 1 + _wide(weights[f"{name}.ia3_l"].detach().cpu()) for name, _ in linear.parts if name in layers
        }
        if {layers[name].of_inputs for name in scales} == {True}:
            first = next(iter(scales.values()))
            if len(scales) < len(linear.parts) or any(not torch.equal(vector, first) for vector in scales.values()):
                raise ValueError(f"{linear.name} is one layer in the family, whose inputs have one vector")
            inputs.add(linear.name)
            tensors[f"{PREFIX}{linear.name}.ia3_l"] = first[None].clone()  # (1, in)
        elif scales:
            outputs.add(linear.name)
            tensors[f"{PREFIX}{linear.name}.ia3_l"] = linear.gather(scales, rest=1.0)[:, None]  # (out, 1)
    names = {linear.name for linear in linears}
    of_inputs = short_names(inputs, names - inputs)
    if any(name.endswith(tuple(of_inputs)) for name in outputs):  # to PEFT `wo` is an `o`, too
        of_inputs = sorted(inputs)
    fields = {
        "target_modules": of_inputs + short_names(outputs, names - outputs),
        "feedforward_modules": of_inputs,
        "fan_in_fan_out": any(linear.transposed for linear in linears if linear.name in inputs | outputs),
        "modules_to_save": None,
        "init_ia3_weights": True,
    }
    return {**peft_header("IA3", document, checkpoint.source), **fields}, tensors


def ia3_from_peft(checkpoint: Checkpoint, document: Document, tensors: Mapping[str, Tensor]) -> Transformer:
    """The checkpoint's model with the vectors of a folder. UnsupportedModel for other trained weights next to them;
    ValueError for an adapter of another base, and for vectors that are not those that the config names."""
    if document.get("modules_to_save"):
        raise UnsupportedModel(f"{CONFIG}: modules_to_save = {document['modules_to_save']} is not supported")
    if strange := [name for name in tensors if not name.endswith(".ia3_l")]:
        raise UnsupportedModel(f"{TENSORS}: {strange[0]} is no vector of IA³")
    base = write_config(checkpoint.config, checkpoint.published)
    linears = their_linears(checkpoint.config, base)
    short = {name.removeprefix(PREFIX).removesuffix(".ia3_l"): tensor for name, tensor in tensors.items()}
    scales = by_their_names(short, linears, base)
    vectors: dict[str, tuple[Tensor, bool]] = {}
    for name, (linear, tensor) in scales.items():
        outputs, inputs = linear.shape
        if tensor.shape not in ((1, inputs), (outputs, 1)):
            raise ValueError(
                f"the adapter is of another base: {name} has a vector {tuple(tensor.shape)}, "
                f"this model's layer goes from {inputs} to {outputs} values"
            )
        of_inputs = tensor.shape == (1, inputs)
        for part, rows in linear.parts:
            vectors[part] = (tensor.flatten() if of_inputs else tensor[rows, 0]), of_inputs
    given = {name: document[name] for name in ("target_modules", "exclude_modules") if document.get(name)}
    check_complete(scales, linears, from_mapping(LoraConfig, given, [CONFIG]))
    return trainable_ia3(checkpoint.model, vectors)
