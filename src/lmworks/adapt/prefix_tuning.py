"""Prefix tuning (Li & Liang 2021): learned keys and values of virtual tokens, which every token of the text sees.

    model = add_adapter(checkpoint.model, PrefixConfig(num_virtual_tokens=20), seed=0)
    run = Run(checkpoint, objective, loader, settings, folder, adapt=partial(add_adapter, method=PrefixConfig()))

One stack has a prefix: a language model's, an encoder's, and, as PEFT does it, an encoder–decoder's decoder, in its
self-attention. As there, the text begins at position P, after the P virtual tokens, and these keys are not rotated.
Rotated keys and queries meet in the distance of their positions alone: a key at position 0 is to a text from P on as
the same key, turned to position -P, is to a text from 0 on. So the text stays where it is, with its caches, packed
documents and padding, and the prefix stands before position 0; a table of learned positions is read P rows further on.

A zero prefix is not nothing: a zero key has the score 0 and takes attention from the text. So a new table is what the
model computes for random tokens (section 7.4), which it has learned to read.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.adapt.config import PrefixConfig
from lmworks.adapt.layers import frozen_copy
from lmworks.adapt.peft_folder import CONFIG, peft_header
from lmworks.model import config as configs
from lmworks.model.attention import Attention, Context
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.families.family import Document, JsonObject
from lmworks.model.huggingface import write_config
from lmworks.model.kv_cache import KVCache
from lmworks.model.positions import RelativeBias, alibi, distances, rope_frequencies, rotate, rotation
from lmworks.model.transformer import Transformer


class Prefix(nn.Module):
    """Keys and values of P virtual tokens for all layers: a table, PEFT's `prompt_embeddings` (P, layers · 2 · d_kv)
    with a row K_0, V_0, K_1, V_1, … for each token; or the MLP that it comes from in training (section 4.3), Linear,
    tanh and Linear over a table (P, d_kv). `width` is d_kv.
    """

    def __init__(self, table: Tensor, width: int, layers: int, hidden: int | None = None) -> None:
        super().__init__()
        self.width, self.layers, self.embedding = width, layers, nn.Parameter(table)
        with torch.device("meta"):
            self.first = nn.Linear(width, hidden) if hidden else None
            self.last = nn.Linear(hidden, layers * 2 * width) if hidden else None

    def forward(self, layer: int) -> Tensor:
        """The table's columns of one layer, (P, 2 · d_kv); an MLP computes no others."""
        columns = slice(layer * 2 * self.width, (layer + 1) * 2 * self.width)
        if self.first is None or self.last is None:
            return self.embedding[:, columns]
        inner = torch.tanh(self.first(self.embedding))
        return F.linear(inner, self.last.weight[columns], self.last.bias[columns])

    def table(self) -> Tensor:
        """(P, layers · 2 · d_kv), what is delivered."""
        return torch.cat([self(layer) for layer in range(self.layers)], dim=1)


class PrefixAttention(Attention):
    """An attention whose tokens all see the prefix besides, whatever mask, window or document they are in."""

    def __init__(self, base: Attention, prefix: Prefix, layer: int, shared: RelativeBias | None) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(base))  # the same projections and norms
        # In a tuple they are no modules of this layer: they are the model's and the stack's.
        self._others, self._layer = (prefix, shared), layer

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        (prefix, shared), bias = self._others, context.bias
        positions = torch.arange(-len(prefix.embedding), 0, device=context.keys.device)[None]  # -P to -1
        keys = torch.cat((positions.expand(len(context.keys), -1), context.keys), dim=1)
        if bias is not None:  # the stack's, (batch or 1, heads, length, stored)
            before = bias.new_zeros(()) if shared is None else shared(context.queries, positions)
            if isinstance(self.config.position, configs.Alibi):
                before = before + alibi(self.config.heads, distances(context.queries, positions), bias.dtype)
            bias = torch.cat((before.expand(len(bias), -1, -1, -1), bias), dim=-1)
        return super().forward(hidden, replace(context, keys=keys, bias=bias))

    def _prefix(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.prefix_entries(-self.prefix_length, like.dtype)

    @property
    def prefix_length(self) -> int:
        return len(self._others[0].embedding)

    def prefix_entries(self, turn: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values (kv_heads, P, head_dim) for a text that begins at position `turn` + P."""
        sizes = 2, self.config.kv_heads, self.config.head_dim
        key, value = self._others[0](self._layer).unflatten(1, sizes).permute(1, 2, 0, 3)  # (kv_heads, P, head_dim)
        if (rope := self.config.rope) is not None:
            position = torch.full((1, 1), turn, device=key.device)
            cosine, sine = rotation(rope, self.config.head_dim, position, dtype)
            factor = rope_frequencies(rope, cosine.shape[-1], key.device)[1]  # which scales what a rotation has seen
            key = rotate(key[None], (cosine / factor, sine / factor))[0]
        return key, value


def add_prefix(model: Transformer, config: PrefixConfig, generator: torch.Generator) -> Transformer:
    """The model with a new prefix, which alone requires a gradient. `model` stays, its weights are shared.

    At first it computes what `model` does for a text after random tokens; with `init` "normal", and where the prefix is
    an MLP (which begins as PyTorch's layers do) or an encoder's, nothing so sensible. ValueError for a model whose
    positions cannot begin later.
    """
    heads, head_dim, layers = _shape(model)
    width = heads * head_dim
    hidden = (config.encoder_hidden_size or model.config.embedding.width) if config.prefix_projection else None
    if config.init == "tokens" and not hidden and model.decoder is not None:
        table = _of_tokens(model, config.num_virtual_tokens, generator)
    else:
        columns = width if hidden else layers * 2 * width
        table = torch.empty(config.num_virtual_tokens, columns, device=generator.device).normal_(generator=generator)
    prefix = Prefix(table, width, layers, hidden)
    for layer in filter(None, (prefix.first, prefix.last)):
        layer.to_empty(device=generator.device)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(layer.in_features**-0.5), layer.in_features**-0.5, generator)
    return _with_prefix(model, prefix.to(model.tokens.device, model.tokens.dtype))


@torch.no_grad()
def _of_tokens(model: Transformer, count: int, generator: torch.Generator) -> Tensor:
    """The table of `count` random tokens, as they would lie in a cache at positions 0 to P - 1: keys are rotated."""
    vocabulary, device = len(model.tokens), model.tokens.device
    ids = torch.randint(vocabulary, (1, count), generator=generator, device=generator.device).to(device)
    cache = KVCache(model.config, 1, count, model.tokens.dtype, device)
    view = cache.view(torch.zeros(1, dtype=torch.long, device=device), torch.arange(count, device=device)[None])
    if model.encoder is None:
        model.hidden(ids, cache=view)
    else:
        model.decode(ids, model.encode(ids), cache=view)
    layers, step = len(cache.keys), len(model.config.stacks)
    layer_of = {step * layer % layers: layer for layer in reversed(range(layers))}
    numbers = [layer_of.get(part, part) for part in range(layers)]
    entries = [stored[number][0] for number in numbers for stored in (cache.keys, cache.values)]
    return torch.cat([part.transpose(0, 1).flatten(1) for part in entries], dim=1)  # of (kv_heads, P, head_dim) each


def _with_prefix(model: Transformer, prefix: Prefix) -> Transformer:
    """A copy that shares the weights of `model`, with this prefix in its `_stack`."""
    shifted = _shifted(model.config, len(prefix.embedding))
    adapted = frozen_copy(model)
    adapted.config = shifted
    adapted.embedding.config = shifted.embedding
    if adapted.decoder_embedding is not None and shifted.decoder_embedding is not None:
        adapted.decoder_embedding.config = shifted.decoder_embedding
    adapted.add_module("prefix", prefix)
    stack = adapted.decoder or adapted.encoder
    assert stack is not None
    # An encoder–decoder's layers take every second part of PEFT's table, which it repeats for its cross-attention and
    # then leaves that out: with an even number of layers the first half's parts serve the second half too.
    step = len(model.config.stacks)
    for number, block in enumerate(stack.blocks):
        layer = step * number % prefix.layers
        block.attention = PrefixAttention(block.attention, prefix, layer, stack.relative_bias)  # type: ignore[arg-type]
    return adapted.train(model.training)


def _shape(model: Transformer) -> tuple[int, int, int]:
    """Key heads, their size, and layers, of the stack that has the prefix."""
    blocks = model.config.stacks[-1].blocks
    shapes = {(block.attention.kv_heads, block.attention.head_dim) for block in blocks}
    if len(shapes) > 1:
        raise ValueError(f"a prefix needs layers that are alike, these have key heads of {len(shapes)} shapes")
    return *shapes.pop(), len(blocks)


def _shifted(config: configs.ModelConfig, count: int) -> configs.ModelConfig:
    """The config with the text's absolute positions, where it has them, `count` further on."""
    name = "embedding" if config.decoder_embedding is None else "decoder_embedding"
    embedding = config.decoder_embedding or config.embedding
    match embedding.positions:
        case None:
            return config
        case configs.Learned(length, offset) if len(config.stacks) == 1 or config.decoder_embedding is not None:
            if count >= length:
                raise ValueError(f"a prefix of {count} tokens leaves none of the {length} learned positions to a text")
            table = configs.Learned(length - count, offset + count)
            fewer = min(config.context_length, table.length)
            return replace(config, context_length=fewer, **{name: replace(embedding, positions=table)})
        case other:
            raise ValueError(f"a prefix needs a text that begins at position {count}, which {other} does not allow")


# ---------------------------------------------------------------------------------------------------------------------
# PEFT's format

_SIZES = ("num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim")
_IRRELEVANT = {
    *("peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"),
    *("peft_version", "num_transformer_submodules", "prefix_projection", "encoder_hidden_size", "init_weights"),
}


def prefix_to_peft(
    model: Transformer, weights: Mapping[str, Tensor], checkpoint: Checkpoint
) -> tuple[JsonObject, dict[str, Tensor]]:
    """PEFT's config and tensors of the prefix in `model`; `weights` by the names of `trained_weights`."""
    prefix = copy.deepcopy(model.get_submodule("prefix"))
    assert isinstance(prefix, Prefix)
    tensors = {name.removeprefix("prefix."): weight for name, weight in weights.items()}
    prefix.to(tensors["embedding"].dtype).load_state_dict(tensors)
    heads, _, layers = _shape(model)
    sizes = dict(zip(_SIZES, (len(prefix.embedding), layers, heads, prefix.width), strict=True))
    published = write_config(checkpoint.config, checkpoint.published)
    document = {
        **peft_header("PREFIX_TUNING", published, checkpoint.source),
        **sizes,
        "num_transformer_submodules": len(model.config.stacks),
        "prefix_projection": False,
        "encoder_hidden_size": prefix.width,
    }
    document["task_type"] = document["task_type"] or "FEATURE_EXTRACTION"  # without one PEFT knows no prefix
    return document, {"prompt_embeddings": prefix.table().detach().cpu().contiguous()}


def prefix_from_peft(checkpoint: Checkpoint, document: Document, tensors: Mapping[str, Tensor]) -> Transformer:
    """The checkpoint's model with a prefix that PEFT or `prefix_to_peft` wrote, to be used or trained on.

    UnsupportedModel names a field that makes another adapter, ValueError what does not fit the model.
    """
    model = checkpoint.model
    for name, value in document.items():
        if value and name not in _IRRELEVANT and name not in _SIZES:
            raise configs.UnsupportedModel(f"{CONFIG}: {name} = {value!r} is not supported")
    table = tensors.get("prompt_embeddings")
    if table is None or len(tensors) > 1:
        raise ValueError(f"a prefix is one tensor, prompt_embeddings, and the file has {sorted(tensors)}")
    heads, head_dim, layers = _shape(model)
    sizes = (len(table), layers, heads, heads * head_dim)
    for name, size in zip(_SIZES, sizes, strict=True):
        if document.get(name) != size:
            raise ValueError(f"the prefix is of another base: {name} is {document.get(name)}, and {size} here")
    if table.shape != (shape := (len(table), layers * 2 * heads * head_dim)):
        raise ValueError(f"the prefix is of another base: it has the shape {tuple(table.shape)}, {shape} here")
    if any(block.attention.pattern is not None for block in model.config.stacks[-1].blocks):
        warnings.warn(
            "this model has layers that see a window of the text: here they see the prefix from everywhere, in PEFT "
            "from its first tokens alone",
            stacklevel=3,
        )
    like = model.tokens
    return _with_prefix(model, Prefix(table.to(like.device, like.dtype, copy=True), heads * head_dim, layers))
