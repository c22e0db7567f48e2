"""compressed-tensors folders: Hugging Face folders whose linear layers are packed integers, which transformers and vLLM
load (the format `pack-quantized` of the library compressed-tensors).

    NAME.weight_packed  (rows, columns · bits / 32) int32: 32 / bits neighbouring columns in each, the first in the
                        lowest bits, each as q + 2^(bits - 1)
    NAME.weight_scale   (rows, groups); a weight is scale · q
    NAME.weight_shape   (2,) int64

Symmetric matrices of 4 and 8 bits with float16 scales are what the engine has, bit for bit; nothing else is read.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from lmworks.kernels.weight_formats import GROUP, Quantised, dequantise, gguf_kind
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import TensorMapping, family_of, tensor_mappings, to_our_names, to_their_names
from lmworks.model.tensor_files import LazyTensors, QuantisedWeights
from lmworks.model.transformer import empty_model

QUANTIZATION = "quantization_config"
_PACKED, _SCALE, _SHAPE = ".weight_packed", ".weight_scale", ".weight_shape"
_METHOD, _FORMAT = "compressed-tensors", "pack-quantized"


def packed_tensors(
    config: ModelConfig, document: Document, weights: QuantisedWeights
) -> tuple[dict[str, Tensor], JsonObject]:
    """The tensors of the folder by its names, and the `quantization_config` of its config.json.

    UnsupportedModel names a matrix that the format does not hold: one with a minimum, of an embedding or head, of rows
    that are no whole groups, or that the family stores transposed.
    """
    check_layers(config, document)
    mappings = {
        name: mapping for name, mapping in tensor_mappings(config, document).items() if _all_quantised(mapping, weights)
    }
    placed = {ours for mapping in mappings.values() for ours in mapping.ours}
    for name, matrix in weights.quantised.items():
        _check(name, matrix, name in placed and name.split(".")[0] not in ("embedding", "head"))
    integers: dict[str, Tensor] = {}
    of_groups: dict[str, Tensor] = {}
    for name, value in weights.stored.items():
        matrix = value if isinstance(value, Quantised) else Quantised("float32", value)
        integers[name] = matrix.values
        of_groups[name] = matrix.values if matrix.scales is None else matrix.scales
    values, scales = (to_their_names(config, document, tensors) for tensors in (integers, of_groups))
    names = [name for name in values if name in mappings or _short(name, document) in mappings]
    tensors = {name: values[name] for name in values if name not in names}
    bits, group_scales = dict[str, int](), {name: scales[name] for name in names}
    # The columns that share a scale in all matrices: 32 of `Quantised`, or more where neighbours have the same.
    group, rest = GROUP, list(group_scales.values())
    while rest and all(kind.shape[1] % 2 == 0 and torch.equal(kind[:, ::2], kind[:, 1::2]) for kind in rest):
        group, rest = 2 * group, [kind[:, ::2] for kind in rest]
    for full in names:
        layer, q = full.removesuffix(".weight"), values[full]
        bits[layer] = 8 if q.dtype == torch.int8 else 4
        tensors[layer + _PACKED] = _pack(q, bits[layer])
        tensors[layer + _SCALE] = group_scales[full][:, :: group // GROUP].contiguous()
        tensors[layer + _SHAPE] = torch.tensor(q.shape)
    linear = {full.removesuffix(".weight") for full, tensor in tensors.items() if tensor.ndim == 2} - bits.keys()
    return tensors, _quantization(bits, group, sorted({*linear, "lm_head"}))


def check_layers(config: ModelConfig, document: Document) -> None:
    """UnsupportedModel for a family that stores a layer transposed: there it is no linear layer, which are packed."""
    shapes = empty_model(config).state_dict()
    for name, mapping in tensor_mappings(config, document).items():
        of_layers = all(shapes[ours].ndim == 2 and ".blocks." in ours for ours in mapping.ours)
        if of_layers and mapping.fused is not None:
            joined = mapping.fused.join([shapes[ours] for ours in mapping.ours], config)
            if joined.shape[1] != shapes[mapping.ours[0]].shape[1]:
                raise UnsupportedModel(
                    f"{name} is stored transposed, so it is no linear layer there: write a GGUF file"
                )


def is_packed(document: Document) -> bool:
    """Whether a config.json describes a folder of this format. UnsupportedModel names a setting that is not read."""
    given = document.get(QUANTIZATION)
    if not isinstance(given, Mapping) or given.get("quant_method") != _METHOD:
        return False
    settings = [(given, "format", _FORMAT)]
    for group in given.get("config_groups", {}).values():
        scheme = group["weights"]
        settings += [(scheme, "type", "int"), (scheme, "symmetric", True)]
        settings += [(scheme, "actorder", None)] if scheme.get("actorder") != "static" else []  # groups are in order
        settings += [(group, "input_activations", None)]
    for table, name, supported in settings:
        if table.get(name, supported) != supported:
            raise UnsupportedModel(
                f"{QUANTIZATION}: {name} = {table[name]!r} is not supported; supported: {supported!r}"
            )
    return True


def unpacked_weights(config: ModelConfig, document: Document, their_weights: Mapping[str, Tensor]) -> QuantisedWeights:
    """The parameters of `Transformer(config)` by our names; errors as of `to_our_names`, and UnsupportedModel for a
    matrix that `Quantised` does not hold."""
    layers = [name.removesuffix(_PACKED) for name in their_weights if name.endswith(_PACKED)]
    suffixes = (_PACKED, _SCALE, _SHAPE)
    readers = {name: partial(their_weights.__getitem__, name) for name in their_weights if not name.endswith(suffixes)}
    readers |= {f"{layer}.weight": partial(_dequantised, their_weights, layer) for layer in layers}
    ours: dict[str, Tensor | Quantised] = dict(to_our_names(config, document, LazyTensors(readers)))
    for name, mapping in tensor_mappings(config, document).items():
        layer = next((candidate for candidate in layers if _short(f"{candidate}.weight", document) == name), None)
        if layer is not None:
            matrix = _read(their_weights, layer)
            kinds = [kind for kind in (matrix.values, matrix.scales, matrix.minimums) if kind is not None]
            split = [[kind] if mapping.fused is None else mapping.fused.split(kind, config) for kind in kinds]
            for our_name, tensors in zip(mapping.ours, zip(*split, strict=True), strict=True):
                ours[our_name] = Quantised(matrix.format, *(tensor.contiguous() for tensor in tensors))
    return QuantisedWeights(ours)


# ---------------------------------------------------------------------------------------------------------------------


def _all_quantised(mapping: TensorMapping, weights: QuantisedWeights) -> bool:
    formats = {value.format if isinstance(value := weights.stored[name], Quantised) else "" for name in mapping.ours}
    if len(formats) > 1:
        raise UnsupportedModel(f"{', '.join(mapping.ours)} are one matrix of this family: give them one format")
    return formats != {""}


def _check(name: str, matrix: Quantised, is_layer: bool) -> None:
    remedy = "write a GGUF file, or quantise it otherwise"
    if not is_layer:
        raise UnsupportedModel(f"compressed-tensors quantises linear layers, and {name} is none: {remedy}")
    if gguf_kind(matrix) == "Q4_1":
        raise UnsupportedModel(f"{name} has a minimum next to its scales, which compressed-tensors lacks: {remedy}")
    if matrix.columns % GROUP:
        raise UnsupportedModel(f"{name} has {matrix.columns} columns, no whole groups of {GROUP}: {remedy}")


def _short(name: str, document: Document) -> str:
    return name.removeprefix(family_of(document["model_type"]).prefix)


def _quantization(bits: Mapping[str, int], group: int, ignore: list[str]) -> JsonObject:
    groups, widths = {}, sorted(set(bits.values()))
    for number, width in enumerate(widths):
        layers = (
            sorted(layer for layer, layer_bits in bits.items() if layer_bits == width)
            if len(widths) > 1
            else ["Linear"]
        )
        weights = {"num_bits": width, "type": "int", "symmetric": True, "strategy": "group", "group_size": group}
        groups[f"group_{number}"] = {"targets": layers, "weights": weights}
    status = {"quant_method": _METHOD, "format": _FORMAT, "quantization_status": "compressed"}
    return {**status, "config_groups": groups, "ignore": ignore}


def _pack(q: Tensor, bits: int) -> Tensor:
    """(rows, columns) uint8 in 0 … 15, or int8 → int32."""
    numbers = q.long() if bits == 4 else q.long() + 128
    shifts = torch.arange(0, 32, bits, device=q.device)
    packed = (numbers.unflatten(1, (-1, 32 // bits)) << shifts).sum(-1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).int()


def _read(their_weights: Mapping[str, Tensor], layer: str) -> Quantised:
    packed, scales = their_weights[layer + _PACKED], their_weights[layer + _SCALE]
    rows, columns = their_weights[layer + _SHAPE].tolist()
    bits = 32 * packed.shape[1] // max(columns, 1)
    if bits not in (4, 8) or columns % (scales.shape[1] * GROUP) or not torch.equal(scales.half().to(scales), scales):
        raise UnsupportedModel(
            f"{layer}: {bits} bits and {scales.shape[1]} scales of {scales.dtype} for {columns} columns; supported: 4 "
            f"and 8 bits, groups of a multiple of {GROUP} columns, scales that float16 holds"
        )
    numbers = (packed.long()[..., None] >> torch.arange(0, 32, bits)) & (2**bits - 1)  # (rows, words, 32 / bits)
    q = numbers.flatten(1)[:rows, :columns]
    half = scales.half().repeat_interleave(columns // scales.shape[1] // GROUP, dim=1)
    if bits == 8:
        return Quantised("int8", (q - 128).to(torch.int8), half)
    return Quantised("int4", q.to(torch.uint8), half, half * -8)


def _dequantised(their_weights: Mapping[str, Tensor], layer: str) -> Tensor:
    return dequantise(_read(their_weights, layer))
