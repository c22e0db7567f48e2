"""Batches of packed documents through an encoder."""

from torch import Tensor

from lmworks.data.batches import PADDING
from lmworks.model import masks
from lmworks.model.transformer import Transformer


def encode(
    model: Transformer,
    ids: Tensor,
    positions: Tensor,
    documents: Tensor,
    apart: bool = True,
    token_types: Tensor | None = None,
) -> Tensor:
    """An encoder's hidden states, (batch, length, width), of rows in which no token sees padding, nor with `apart` any
    of another document. All (batch, length). TypeError for a model that is no encoder, ValueError for rows beyond its
    context length."""
    if model.encoder is None or model.decoder is not None:
        raise TypeError("this objective looks both ways: it needs an encoder, such as presets.bert")
    if ids.shape[1] > model.config.context_length:
        raise ValueError(
            f"a row is {ids.shape[1]} tokens long, the model reads {model.config.context_length}: "
            "give the loader a smaller length"
        )
    together = documents if apart else documents == PADDING  # equal where tokens see each other
    rule = masks.documents(together, causal=False) if bool((together != together[:, :1]).any()) else None
    return model.hidden(ids, positions=positions, token_types=token_types, rule=rule)
