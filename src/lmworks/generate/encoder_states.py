"""An encoder over sequences of any lengths: the fused kernels where they know it, else its own modules."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch

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

WeightFormat = Literal["auto", "float32", "bfloat16", "int8"]


def runnable(checkpoint: Checkpoint, weights: WeightFormat) -> tuple[Format, Program | Transformer]:
    """The model as a program of fused kernels where they are there and know it, else its modules; and the format."""
    model = checkpoint.model
    config = replace(checkpoint.config, head=PoolHead())  # whatever its head is, hidden states are wanted
    if weights not in get_args(WeightFormat):
        raise ValueError(f"{weights!r} is no format of weights here; there are {', '.join(get_args(WeightFormat))}")
    known = unsupported_reason(config) is None and not has_adapter(model)
    if model.tokens.device.type == "cpu" and library.load() is not None and known:
        form: Format = "int8" if weights == "auto" else weights
        kept: Literal["float32", "bfloat16"] = "float32" if form == "float32" else "bfloat16"

        def format_of(name: str) -> Format:  # a token's row is read, not multiplied: int8 would gain nothing
            return kept if name == "embedding.tokens.weight" else form

        return form, lower(config, quantised_weights(model), format_of, 0, kept, config.context_length)
    if weights == "auto":
        weights = "float32" if default_dtype(model.tokens.device) == torch.float32 else "bfloat16"
    from lmworks.generate.runner_choice import as_modules  # which imports gguf: an answer of quotes does without it

    return weights, as_modules(checkpoint, weights)


@torch.inference_mode()
def hidden_states(
    model: Program | Transformer, sequences: Sequence[Sequence[int]], batch_tokens: int | None = None
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of row numbers, longest first, and their last hidden states one below the other, (tokens, width)
    float32. A forward has at most `batch_tokens` padded tokens, by default so many that more are no faster, or one row;
    a row without a token is in none."""
    for rows in _batches(sequences, batch_tokens or (2048 if isinstance(model, Program) else 4096)):
        lengths = torch.tensor([len(sequences[row]) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (batch, length)
        positions = mask.nonzero().int()  # (tokens, 2)
        flat = torch.tensor([token for row in rows for token in sequences[row]], dtype=torch.int32)
        if isinstance(model, Program):
            row_of, position = (column.contiguous().numpy() for column in positions.unbind(1))
            batch = RaggedBatch(flat.numpy(), position, row_of, (), np.arange(len(flat), dtype=np.int32))
            hidden = run(model, batch, hidden=True).hidden
            assert hidden is not None
        else:
            device = model.tokens.device
            ids = torch.zeros(mask.shape, dtype=torch.int64).masked_scatter_(mask, flat.long()).to(device)
            hidden = model.hidden(ids, attention_mask=mask.to(device)).cpu()[mask]
        yield rows, hidden.float().numpy()


def map_states(
    model: Program | Transformer, sequences: Sequence[Sequence[int]], of_states: Callable[[np.ndarray], np.ndarray]
) -> list[np.ndarray]:
    """`of_states` of the last hidden states (tokens, width) float32 of each sequence; (0,) of one without a token."""
    results = [np.zeros(0, np.float32)] * len(sequences)
    for rows, hidden in hidden_states(model, sequences):
        ends = np.cumsum([len(sequences[row]) for row in rows])[:-1]
        for row, states in zip(rows, np.split(hidden, ends), strict=True):
            results[row] = of_states(states)
    return results


def _batches(sequences: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    order = sorted((row for row in range(len(sequences)) if sequences[row]), key=lambda row: -len(sequences[row]))
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // len(sequences[order[start]]))
        yield order[start : start + rows]
        start += rows
