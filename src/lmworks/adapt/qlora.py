"""QLoRA (Dettmers et al. 2023): an adapter is learned next to a base whose linear layers stay in 4 bits.

    base = checkpoint.with_model(quantise_base(checkpoint, "int4"))
    run = Run(base, objective, loader, settings, folder, adapt=partial(add_adapter, method=LoraConfig(r=16)))

A weight is what it is in the file, or the nearest of 16 levels between the smallest and the largest of 32 neighbours
(5 bits with scale and minimum; the paper's NF4 takes its levels from a table, for which the packing has no place). What
is computed is what the dequantised model computes, in the dtype of the activations.

The layers are `QuantisedLinear`, which `quantised_linears(model)` finds: to merge an adapter into one is to quantise
the sum again.
"""

import warnings
from collections import Counter
from dataclasses import replace
from typing import Literal

from torch import nn

from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.weight_formats import BLOCK_FORMATS
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import pack_parameter, replace_projections
from lmworks.model.transformer import Transformer, empty_model

QuantisedFormat = Literal["int4", "int8", "stored"]


def quantise_base(checkpoint: Checkpoint, format: QuantisedFormat = "int4") -> Transformer:  # noqa: A002
    """The checkpoint's model with its linear layers packed, but for the head; embeddings, norms and heads have the
    checkpoint's dtype. Its float model is not made: one matrix at a time is dequantised.

    format  "int4" or "int8": blocks of a GGUF file that are of this format as they are, bit for bit, everything else
            rounded to it. "stored": all its blocks of 4 or 8 bits as they are, other kinds as int8. A warning counts
            the matrices that a file has quantised and that are rounded again.

    ValueError for "stored" where a matrix is not quantised, for weights that have no finite scale, and for a checkpoint
    with an adapter next to its weights.
    """
    empty = empty_model(checkpoint.config)
    if others := checkpoint.weights.keys() - empty.state_dict().keys():
        raise ValueError(f"{checkpoint.source} has weights of an adapter: quantise its base. {sorted(others)[:3]}")
    weights, again = checkpoint.weights, Counter[str]()
    blocks_of = getattr(weights, "blocks", lambda name: None)  # of a GGUF file, whose library takes long to import

    def packed(layer: str, shape: nn.Linear) -> PackedMatrix:
        name = f"{layer}.weight"
        kind, _ = blocks_of(name) or (None, None)
        if kind is None and format == "stored":
            raise ValueError(f"{checkpoint.source} does not have {name} in blocks of integers: take int4 or int8")
        if kind is not None and (kind not in BLOCK_FORMATS or format not in ("stored", BLOCK_FORMATS[kind][0])):
            again[kind] += 1
        matrix = pack_parameter(weights, name, format, None if shape.bias is None else weights[f"{layer}.bias"])
        return replace(matrix, values=matrix.values.to(checkpoint.device))

    model = replace_projections(empty, packed, exact=True)
    if again:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in again.items())
        rounded = f"rounded again, to {'int8' if format == 'stored' else format}"
        warnings.warn(f"{checkpoint.source}: matrices are {rounded}: {kinds}", stacklevel=2)
    floats = {name: weights[name].to(checkpoint.device, checkpoint.dtype) for name in model.state_dict()}
    model.load_state_dict(floats, assign=True)
    getattr(weights, "release", lambda: None)()
    return model.eval()
