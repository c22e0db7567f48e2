"""From token ids to the first hidden states."""

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.norms import build_norm
from lmworks.model.positions import sinusoids


class Embedding(nn.Module):
    """The sum of a token's vector and, where the model has them, its position's and its segment's; then the norm.

    With `owns_tokens=False` the token vectors are another embedding's, and its `tokens` are given to `forward`.
    """

    def __init__(self, config: configs.Embedding, owns_tokens: bool = True) -> None:
        super().__init__()
        self.config = config
        learned = config.positions if isinstance(config.positions, configs.Learned) else None
        self.tokens = _table(config.vocabulary, config.width) if owns_tokens else None
        self.positions = _table(learned.length + learned.offset, config.width) if learned else None
        self.token_types = _table(config.token_types, config.width) if config.token_types else None
        self.norm = build_norm(config.norm, config.width) if config.norm else None

    def forward(
        self, ids: Tensor, positions: Tensor, token_types: Tensor | None = None, tokens: nn.Embedding | None = None
    ) -> Tensor:
        """`ids`, `token_types` (batch, length), `positions` (batch or 1, length) int64 → (batch, length, width).

        Types default to 0. ValueError for more tokens than there are learned positions, and for types where there are
        none.
        """
        table = tokens or self.tokens
        assert table is not None
        hidden = table(ids)
        if self.config.scale is not None:
            hidden = hidden * hidden.new_tensor(self.config.scale)  # in the weights' dtype, as the authors of Gemma do
        if self.token_types is not None:
            hidden = hidden + self.token_types(torch.zeros_like(ids) if token_types is None else token_types)
        elif token_types is not None:
            raise ValueError("this model has no token types: leave `token_types` out")
        match self.config.positions:
            case configs.Learned(length, offset):
                assert self.positions is not None
                if positions.shape[1] > length:
                    raise ValueError(f"{positions.shape[1]} tokens are more than the {length} learned positions")
                hidden = hidden + self.positions(positions + offset)
            case configs.Sinusoidal(theta=theta):
                hidden = hidden + sinusoids(positions, self.config.width, theta, hidden.dtype)
            case None:
                pass
        return hidden if self.norm is None else self.norm(hidden)


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding of zeros, (rows, width): how weights begin is decided in `initialisation.py`.

    What `nn.Embedding` draws by itself would be thrown away, and drawing it for a model without memory, as every
    checkpoint is loaded into, takes longer than reading the weights.
    """
    return nn.Embedding.from_pretrained(torch.zeros(rows, width), freeze=False)
