"""From token ids to the first hidden states."""

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.norms import build_norm


class Embedding(nn.Module):
    """The sum of a token's vector and, where the model has them, its position's and its segment's; then the norm."""

    def __init__(self, config: configs.Embedding) -> None:
        super().__init__()
        width, positions = config.width, config.positions
        self.tokens = _table(config.vocabulary, width)
        self.positions = _table(positions.length, width) if positions is not None else None
        self.token_types = _table(config.token_types, width) if config.token_types else None
        self.norm = build_norm(config.norm, width) if config.norm else None

    def forward(self, ids: Tensor, positions: Tensor, token_types: Tensor | None) -> Tensor:
        """`ids`, `positions`, `token_types` (batch, length) int64 → (batch, length, width). Types default to 0."""
        hidden = self.tokens(ids)
        if self.token_types is not None:
            hidden = hidden + self.token_types(torch.zeros_like(ids) if token_types is None else token_types)
        elif token_types is not None:
            raise ValueError("this model has no token types: leave `token_types` out")
        if self.positions is not None:
            hidden = hidden + self.positions(positions)
        return hidden if self.norm is None else self.norm(hidden)


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding of zeros, (rows, width): how weights begin is decided in `initialisation.py`.

    What `nn.Embedding` draws by itself would be thrown away, and drawing it for a model without memory, as every
    checkpoint is loaded into, takes longer than reading the weights.
    """
    return nn.Embedding.from_pretrained(torch.zeros(rows, width), freeze=False)
