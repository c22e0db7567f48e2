"""The transformer (Vaswani et al. 2017): embed, one stack of blocks, head. Its config decides what it is made of."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.blocks import Block
from lmworks.model.cache import Cache
from lmworks.model.embedding import Embedding
from lmworks.model.norms import build_norm
from lmworks.model.pooling import pool
from lmworks.model.positions import Rotation, rotation


class Stack(nn.Module):
    """Blocks in order, and the final norm. Rotations and the mask are computed once and shared by all blocks."""

    def __init__(self, config: configs.Stack, width: int) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(block, width, config.causal) for block in config.blocks)
        self.norm = build_norm(config.final_norm, width) if config.final_norm else None

    def forward(
        self, hidden: Tensor, positions: Tensor, attention_mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """`hidden` (batch, length, width) → the same shape; the other arguments as in `Transformer.forward`."""
        mask = cache.mask if cache is not None else padding_mask(attention_mask, self.config.causal)
        rotations = self._rotations(positions, hidden.dtype)
        for layer, block in enumerate(self.blocks):
            hidden = block(hidden, rotations[layer], mask, cache, layer)
        return hidden if self.norm is None else self.norm(hidden)

    def _rotations(self, positions: Tensor, dtype: torch.dtype) -> list[Rotation | None]:
        """Each block's rotation; blocks with equal settings share one."""
        settings = [(block.attention.rope, block.attention.head_dim) for block in self.config.blocks]
        distinct = {s: rotation(s[0], s[1], positions, dtype) for s in dict.fromkeys(settings) if s[0] is not None}
        return [distinct.get(setting) for setting in settings]


class Transformer(nn.Module):
    """A decoder-only or encoder-only transformer, built from its config."""

    def __init__(self, config: configs.ModelConfig) -> None:
        super().__init__()
        if config.encoder is not None and config.decoder is not None:
            raise NotImplementedError(
                "a model with an encoder and a decoder needs cross-attention, which is not built yet"
            )
        width = config.embedding.width
        self.config = config
        self.embedding = Embedding(config.embedding)
        self.encoder = Stack(config.encoder, width) if config.encoder is not None else None
        self.decoder = Stack(config.decoder, width) if config.decoder is not None else None
        untied = isinstance(config.head, configs.LanguageModelHead) and not config.head.tied
        self.unembedding = nn.Linear(width, config.embedding.vocabulary, bias=False) if untied else None

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Runs the model on `ids` (batch, length) int64.

        Returns what the head gives: logits (batch, length, vocabulary) of a `LanguageModelHead`, one vector per text
        (batch, width) of a `PoolHead`, hidden states (batch, length, width) without a head. The dtype is the weights'.

        positions       (batch, length) int64; default 0, 1, 2, … or, with a cache, the positions of the cache's view.
        attention_mask  (batch, length) bool, True = a real token. For padded batches; what the model gives at padding
                        is undefined. Not together with a cache, whose view knows the padding.
        token_types     (batch, length) int64, the segment of each token; only for models that have them; default 0.
        cache           a view of a `KVCache`: `ids` are new tokens that continue what the cache holds.
        """
        hidden = self.hidden(
            ids, positions=positions, attention_mask=attention_mask, token_types=token_types, cache=cache
        )
        match self.config.head:
            case configs.LanguageModelHead():
                return self.logits(hidden)
            case configs.PoolHead() as head:
                return pool(hidden, attention_mask, head)
            case None:
                return hidden

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The last hidden states, after the final norm: (batch, length, width). Arguments as in `forward`."""
        if cache is not None and (attention_mask is not None or positions is not None):
            raise ValueError("a cache brings its own positions and mask: give them to `KVCache.view` instead")
        if positions is None:
            positions = cache.positions if cache is not None else _count_up(ids)
        hidden = self.embedding(ids, positions, token_types)
        if self.encoder is not None:
            if cache is not None:
                raise ValueError("an encoder sees its whole text at once and has no cache")
            hidden = self.encoder(hidden, positions, attention_mask)
        if self.decoder is not None:
            hidden = self.decoder(hidden, positions, attention_mask, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states (…, width) → logits (…, vocabulary): to be called on the positions that are needed."""
        if not isinstance(self.config.head, configs.LanguageModelHead):
            raise ValueError(f"this model has no language model head, its head is {self.config.head}")
        if self.unembedding is not None:
            return self.unembedding(hidden)
        return F.linear(hidden, self.embedding.tokens.weight)


def padding_mask(attention_mask: Tensor | None, causal: bool) -> Tensor | None:
    """(batch, length) bool, True = real token → (batch, 1, length or 1, length) bool, True = may attend; None for no
    padding.

    A position may always attend to itself, so that no row is empty: the softmax over nothing is NaN, and would spread.
    """
    if attention_mask is None:
        return None
    length = attention_mask.shape[1]
    visible = attention_mask.bool()[:, None, None, :]  # (batch, 1, 1, length)
    if causal:
        past = torch.ones(length, length, dtype=torch.bool, device=attention_mask.device).tril()
        visible = visible & past  # (batch, 1, length, length)
    return visible | torch.eye(length, dtype=torch.bool, device=attention_mask.device)


def _count_up(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
