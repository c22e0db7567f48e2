"""The transformer (Vaswani et al. 2017): embed, stacks of blocks, head. Its config decides what it is made of."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.attention import Memory
from lmworks.model.heads import build_head
from lmworks.model.kv_cache import Cache
from lmworks.model.norms import build_norm
from lmworks.model.positions import sinusoids
from lmworks.model.stack import Stack


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


class Transformer(nn.Module):
    """An encoder-only, decoder-only or encoder–decoder transformer, built from its config."""

    def __init__(self, config: configs.ModelConfig) -> None:
        super().__init__()
        width = config.embedding.width
        self.config = config
        self.embedding = Embedding(config.embedding)
        embedding_config = config.decoder_embedding
        self.decoder_embedding = (
            Embedding(embedding_config, owns_tokens=False) if embedding_config is not None else None
        )
        self.encoder = Stack(config.encoder, width) if config.encoder is not None else None
        self.decoder = Stack(config.decoder, width) if config.decoder is not None else None
        self.head = build_head(config.head, width, config.embedding.vocabulary) if config.head is not None else None

    def forward(
        self,
        ids: Tensor,
        decoder_ids: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: Cache | None = None,
        rule: masks.Rule | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Runs the model on `ids` (batch, length) int64, and an encoder–decoder on `decoder_ids` (batch, targets) too.

        Returns what the head gives: logits (batch, length, vocabulary) of a language model, masked or not, one vector
        (batch, width), label logits (batch, labels) or a score (batch,) per text; hidden states (batch, length, width)
        without a head. An encoder–decoder's are those of `decoder_ids`. The dtype is the weights'.

        positions       (batch, length) int64, which may start afresh but leave no gap: sparse patterns and
                        Transformer-XL reckon with it. Default: real tokens counted from 0, or the cache view's.
        attention_mask  (batch, length) bool, True = a real token. For padded batches, on either side; what the model
                        gives at padding is undefined. Not together with a cache, whose view knows the padding.
        token_types     (batch, length) int64, the segment of each token; only for models that have them; default 0.
        cache           a view of a `KVCache`: `ids` are new tokens that continue what the cache holds.
        rule            who may attend to whom, instead of all (encoder) or the past (decoder), such as
                        `masks.documents(numbers, causal=True)`, or any predicate on places (`masks.py`). Sparse layers
                        keep their pattern too.
        decoder_attention_mask  as `attention_mask`, of `decoder_ids`.

        ValueError for `decoder_ids` without both stacks, or the other way round; for an argument of another shape than
        its ids; for a cache in a model whose head pools, which needs the whole text.
        """
        hidden = self.hidden(
            ids, decoder_ids, positions=positions, attention_mask=attention_mask, token_types=token_types, cache=cache,
            rule=rule, decoder_attention_mask=decoder_attention_mask,
        )  # fmt: skip
        if self.head is None:
            return hidden
        if cache is not None and getattr(self.config.head, "pooling", None) is not None:
            raise ValueError("a head that pools needs the whole text at once, without a cache; `hidden` takes one")
        both = self.encoder is not None and self.decoder is not None
        return self.head(hidden, self.tokens, decoder_attention_mask if both else attention_mask)

    def hidden(
        self,
        ids: Tensor,
        decoder_ids: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: Cache | None = None,
        rule: masks.Rule | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The last hidden states, after the final norm: (batch, length, width). Arguments as in `forward`."""
        if self.encoder is not None and self.decoder is not None:
            if decoder_ids is None or cache is not None or rule is not None:
                raise ValueError(
                    "an encoder–decoder takes `ids` and `decoder_ids`, no rule and no cache: to generate, "
                    "`encode` once, then `decode` with a cache"
                )
            memory = self.encode(ids, positions=positions, attention_mask=attention_mask, token_types=token_types)
            return self.decode(decoder_ids, memory, attention_mask=decoder_attention_mask)
        if decoder_ids is not None or decoder_attention_mask is not None:
            raise ValueError("only a model with an encoder and a decoder takes `decoder_ids`")
        if cache is not None and self.decoder is None:
            raise ValueError("an encoder sees its whole text at once and has no cache")
        stack = self.decoder or self.encoder
        assert stack is not None
        _check(ids, cache, positions=positions, attention_mask=attention_mask, token_types=token_types)
        positions = _positions(ids, positions, attention_mask, cache)
        hidden = self.embedding(ids, positions, token_types)
        return stack(hidden, positions, attention_mask, cache, rule=rule)

    def encode(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_types: Tensor | None = None,
    ) -> Memory:
        """An encoder–decoder's encoder: `ids` (batch, length) → what `decode` attends to."""
        if self.encoder is None or self.decoder is None:
            raise ValueError("only a model with an encoder and a decoder has `encode` and `decode`")
        _check(ids, None, positions=positions, attention_mask=attention_mask, token_types=token_types)
        positions = _positions(ids, positions, attention_mask, None)
        hidden = self.encoder(self.embedding(ids, positions, token_types), positions, attention_mask)
        if attention_mask is None:
            return Memory(hidden)
        real = attention_mask.bool()
        # A source of padding alone shows its padding: gradients of a softmax over nothing are NaN, and would spread.
        return Memory(hidden, (real | ~real.any(dim=1, keepdim=True))[:, None, None, :])

    def decode(
        self,
        ids: Tensor,
        memory: Memory,
        *,
        positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """An encoder–decoder's decoder: hidden states (batch, length, width) of `ids`; `logits` gives their logits.

        `memory` is of the same batch. With a `cache`, `ids` continue what it holds, and all calls take the same memory.
        """
        if self.encoder is None or self.decoder is None:
            raise ValueError("only a model with an encoder and a decoder has `encode` and `decode`")
        _check(ids, cache, positions=positions, attention_mask=attention_mask)
        positions = _positions(ids, positions, attention_mask, cache)
        embedding = self.decoder_embedding or self.embedding
        hidden = embedding(ids, positions, tokens=self.embedding.tokens)
        return self.decoder(hidden, positions, attention_mask, cache, memory)

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states (…, width) → logits (…, vocabulary): to be called on the positions that are needed."""
        if not isinstance(self.config.head, configs.VocabularyHead):
            raise ValueError(f"this model has no language model head, its head is {self.config.head}")
        assert self.head is not None
        return self.head(hidden, self.tokens)

    @property
    def tokens(self) -> Tensor:
        """The token embedding, (vocabulary, width), which a tied head projects with."""
        assert self.embedding.tokens is not None
        return self.embedding.tokens.weight


def _check(ids: Tensor, cache: Cache | None, **inputs: Tensor | None) -> None:
    """Refuse inputs of another shape than `ids`: a smaller one would be broadcast, and give meaningless numbers."""
    if ids.dim() != 2:
        raise ValueError(f"ids must be (batch, length), got {tuple(ids.shape)}")
    if cache is not None:
        if any(inputs[name] is not None for name in ("positions", "attention_mask")):
            raise ValueError("a cache brings its own positions and mask: give them to `KVCache.view` instead")
        inputs["the cache's positions"] = cache.positions
    for name, tensor in inputs.items():
        if tensor is not None and (tensor.shape != ids.shape or tensor.is_floating_point()):
            given, expected = tuple(tensor.shape), tuple(ids.shape)
            raise ValueError(f"{name} must be {expected} as the ids, integers or bools; got {given} {tensor.dtype}")


def _positions(ids: Tensor, positions: Tensor | None, attention_mask: Tensor | None, cache: Cache | None) -> Tensor:
    """(batch or 1, length): as given, as the cache says, or the real tokens counted from 0."""
    if positions is not None:
        return positions
    if cache is not None:
        return cache.positions
    if attention_mask is not None:
        return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
    return torch.arange(ids.shape[1], device=ids.device)[None]  # one row for all: so are rotations, biases, masks


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding of zeros, (rows, width): how weights begin is decided in `initialisation.py`.

    What `nn.Embedding` draws by itself would be thrown away, and drawing it for a model without memory, as every
    checkpoint is loaded into, takes longer than reading the weights.
    """
    return nn.Embedding.from_pretrained(torch.zeros(rows, width), freeze=False)


def empty_model(config: configs.ModelConfig) -> Transformer:
    """The model without memory for its weights, to be filled by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return Transformer(config)


def sharing_copy(model: Transformer, convert: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Transformer:
    """A copy whose modules can be replaced: new modules around the same parameters and buffers, or around those that
    `convert` makes of them. Every function `f(model, …) -> model` needs one.

    What `model` ties stays tied. Never call `.to()` on the copy: PyTorch moves parameters in place, and so the ones of
    `model` with them.
    """
    return copy.deepcopy(model, {id(tensor): convert(tensor) for tensor in (*model.parameters(), *model.buffers())})
