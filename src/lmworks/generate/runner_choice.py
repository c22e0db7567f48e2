"""Choice of the runner for a checkpoint: fused kernels where they know its blocks, else its own modules."""

import ctypes
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from lmworks.compiled import INTEGERS, choose_device
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.lowering import (
    FormatOf,
    NotLoweredError,
    formats_of,
    lower,
    lower_prefix,
    prefix_pages,
    unsupported_reason,
)
from lmworks.generate.module_runner import ModuleRunner
from lmworks.generate.page_storage import CacheDtype, layer_groups
from lmworks.generate.runner import Runner, default_dtype, require_same_shapes
from lmworks.kernels import library
from lmworks.kernels.kv_pages import PAGE
from lmworks.kernels.program import Program
from lmworks.kernels.weight_formats import FORMATS, Format, Quantised
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.gguf_read import GgufWeights
from lmworks.model.quantised_linear import has_adapter, quantise_projections, quantised_linears, quantised_weights
from lmworks.model.tensor_files import QuantisedWeights
from lmworks.model.transformer import Transformer, empty_model, sharing_copy

WeightFormat = Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"]


def build_runner(
    checkpoint: Checkpoint,
    weights: WeightFormat | FormatOf,
    pages: int,
    cache_dtype: CacheDtype | None,
    positions: int,
    lowered: bool = True,
    device: str | None = None,
) -> Runner:
    """A runner with `pages` pages for sequences of up to `positions` tokens; without `device` where the checkpoint is.

    On the CPU a decoder whose blocks the kernels know is lowered, if the kernels were compiled for this machine; the
    token embedding, and with it a tied head, of "int4" is kept as int8, because logits suffer most. Everything else
    runs its own modules, in which "int8" and "int4" are quantised projections. A function gives each parameter its
    format. ValueError for a GGUF file's checkpoint whose model was trained in place.
    """
    target = None if device is None else choose_device(device, "int8" if callable(weights) else weights)
    fused = lowered and (target or torch.device(checkpoint.device)).type == "cpu"
    stored = isinstance(checkpoint.weights, GgufWeights | QuantisedWeights)
    fused = fused and unsupported_reason(checkpoint.config) is None
    fused = fused and (stored or not has_adapter(checkpoint.model) or prefix_pages(checkpoint.model) is not None)
    if fused and weights != "float16" and library.load() is not None:
        return _fused(checkpoint, weights, pages, cache_dtype, positions)
    return ModuleRunner(as_modules(checkpoint, weights, target), pages, cache_dtype)


def format_rule(checkpoint: Checkpoint, weights: WeightFormat) -> FormatOf:
    """The format of each parameter, by its name."""
    if weights == "auto":
        plain = str(default_dtype(torch.device("cpu"))).removeprefix("torch.")
        if isinstance(checkpoint.weights, GgufWeights):
            return lambda name: "stored"
        if isinstance(checkpoint.weights, QuantisedWeights):
            packed = set(checkpoint.weights.quantised)
        else:
            packed = {f"{name}.weight" for name, _ in quantised_linears(checkpoint.model)}
        return lambda name: "stored" if name in packed else plain  # type: ignore[return-value]
    if weights not in FORMATS:
        raise NotLoweredError(f"{weights} is no format of the fused kernels; there are {', '.join(FORMATS)}")
    fine: Format = "int8" if weights == "int4" else weights
    return lambda name: fine if name in ("embedding.tokens.weight", "head.projection.weight") else weights


def _fused(
    checkpoint: Checkpoint, weights: WeightFormat | FormatOf, pages: int, cache_dtype: CacheDtype | None, positions: int
) -> FusedRunner:
    config = checkpoint.config
    assert config.decoder is not None
    source = _stored_weights(checkpoint)
    rule = weights if callable(weights) else format_rule(checkpoint, weights)
    cache = cache_dtype or ("float32" if rule("decoder.blocks.0.attention.query.weight") == "float32" else "bfloat16")
    if cache == "float16":
        raise NotLoweredError("the fused kernels have no float16 cache; there are float32, bfloat16 and int8")
    as_stored = isinstance(checkpoint.weights, GgufWeights | QuantisedWeights)  # without a model
    before = 0 if as_stored else prefix_pages(checkpoint.model) or 0
    program = lower(config, source, rule, pages + before, cache, positions + before * PAGE)
    if before:
        program, prefix = lower_prefix(program, checkpoint.model)
        return FusedRunner(program, (None,), prefix=prefix)
    if isinstance(checkpoint.weights, GgufWeights):
        checkpoint.weights.release()
    # glibc keeps what packing has freed for itself, a quarter of the memory of a small model.
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    formats = formats_of(program)  # of the file's blocks, too, which other weights do not come in

    def relower(state: Mapping[str, Tensor]) -> Program:
        require_same_shapes({name: tensor.shape for name, tensor in empty_model(config).state_dict().items()}, state)
        return lower(config, state, formats.__getitem__, 1, cache, positions)  # the pages stay those that there are

    return FusedRunner(program, layer_groups(config.decoder)[0], relower)


def _stored_weights(checkpoint: Checkpoint) -> Mapping[str, Tensor | Quantised]:
    """The weights as a file or a quantisation has them, else as the model has."""
    weights = checkpoint.weights
    if not isinstance(weights, GgufWeights | QuantisedWeights):
        return quantised_weights(checkpoint.model)
    checkpoint.require_untrained()
    return weights.stored if isinstance(weights, QuantisedWeights) else weights


def as_modules(checkpoint: Checkpoint, weights: WeightFormat | FormatOf, on: torch.device | None = None) -> Transformer:
    """A copy of the model, there or `on` a device, in this format; "auto": in the dtype that is multiplied fastest."""
    model = sharing_copy(checkpoint.model).eval()  # one in training stays in its mode
    if callable(weights) or weights in INTEGERS:
        return quantise_projections(model, weights if callable(weights) else format_rule(checkpoint, weights))
    automatic = default_dtype(on or torch.device(checkpoint.device))
    return convert(model, automatic if weights == "auto" else getattr(torch, weights), on or model.tokens.device)


def convert(model: Transformer, dtype: torch.dtype, device: torch.device) -> Transformer:
    """A copy in another dtype or on another device, each tensor converted as it is copied: twice the memory is never in
    use. The same model where it has both already."""
    if model.tokens.dtype == dtype and model.tokens.device == device:
        return model

    def converted(tensor: Tensor) -> Tensor:
        new = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new

    return sharing_copy(model, converted)
