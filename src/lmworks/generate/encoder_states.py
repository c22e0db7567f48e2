"""An encoder over sequences of any lengths: the fused kernels where they know it, else its own modules."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch

from lmworks.artefact import hash_json
from lmworks.generate.lowering import lower, unsupported_reason
from lmworks.generate.runner import default_dtype
from lmworks.kernels import library
from lmworks.kernels.fused_operations import run
from lmworks.kernels.program import Program, RaggedBatch
from lmworks.kernels.weight_formats import Format
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import PoolHead
from lmworks.model.quantised_linear import has_adapter, quantised_weights
from lmworks.model.transformer import Transformer

T = TypeVar("T")
WeightFormat = Literal["auto", "float32", "bfloat16", "int8"]


class SequenceEncoder:
    """A checkpoint that reads whole sequences: what text encoders, cross-encoders and reward models have in common.

    weights      how the projections are held and multiplied: "float32", "bfloat16", "int8" with int8 activations, a
                 scale for each 32 of both, or "auto": int8 in the fused kernels, elsewhere bfloat16 where the
                 processor multiplies it, else float32. What a head makes of the hidden states is in float32.
    truncated    counts the texts that lost their end since the encoder was made.
    fingerprint  of all that shapes a result: the checkpoint, the weights, and what a subclass names.
    """

    def __init__(self, checkpoint: Checkpoint, weights: WeightFormat, **shaping: Any) -> None:
        if weights not in get_args(WeightFormat):
            formats = ", ".join(get_args(WeightFormat))
            raise ValueError(f"{weights!r} is no format of weights here; there are {formats}")
        model = checkpoint.model
        config = replace(checkpoint.config, head=PoolHead())  # whatever its head is, hidden states are wanted
        known = unsupported_reason(config) is None and not has_adapter(model)
        self.model: Program | Transformer  # a program of fused kernels where they know it, else its own modules
        if model.tokens.device.type == "cpu" and library.load() is not None and known:
            form: Format = "int8" if weights == "auto" else weights
            plain: Literal["float32", "bfloat16"] = "float32" if form == "float32" else "bfloat16"

            def format_of(name: str) -> Format:  # a token's row is read, not multiplied: int8 would gain nothing
                return plain if name == "embedding.tokens.weight" else form

            self.weights: Format = form
            self.model = lower(config, quantised_weights(model), format_of, 0, plain, config.context_length)
        else:
            from lmworks.generate.runner_choice import as_modules  # imports gguf: an answer of quotes does without it

            automatic = "float32" if default_dtype(model.tokens.device) == torch.float32 else "bfloat16"
            self.weights = automatic if weights == "auto" else weights
            self.model = as_modules(checkpoint, self.weights)
        self.truncated = 0
        self.fingerprint = hash_json({"checkpoint": checkpoint.fingerprint, "weights": self.weights, **shaping})


@torch.inference_mode()
def map_states(
    model: Program | Transformer, sequences: Sequence[Sequence[int]], of_states: Callable[[int, np.ndarray], T]
) -> dict[int, T]:
    """By the number of each sequence, `of_states` of that and its last hidden states (tokens, width) float32; nothing
    for one without a token. Longest first; a forward has so many padded tokens that more are no faster, or one row."""
    results: dict[int, T] = {}
    order = sorted((row for row, ids in enumerate(sequences) if ids), key=lambda row: -len(sequences[row]))
    while order:
        count = max(1, (2048 if isinstance(model, Program) else 4096) // len(sequences[order[0]]))
        rows, order = order[:count], order[count:]
        lengths = torch.tensor([len(sequences[row]) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (batch, length)
        flat = torch.tensor([token for row in rows for token in sequences[row]], dtype=torch.int32)
        if isinstance(model, Program):
            row_of, position = (column.contiguous().numpy() for column in mask.nonzero().int().unbind(1))
            batch = RaggedBatch(flat.numpy(), position, row_of, (), np.arange(len(flat), dtype=np.int32))
            hidden = run(model, batch, hidden=True).hidden
            assert hidden is not None
        else:
            device = model.tokens.device
            ids = torch.zeros(mask.shape, dtype=torch.int64).masked_scatter_(mask, flat.long()).to(device)
            hidden = model.hidden(ids, attention_mask=mask.to(device)).cpu()[mask]
        for row, states in zip(rows, hidden.float().split(lengths.tolist()), strict=True):
            results[row] = of_states(row, states.numpy())
    return results
