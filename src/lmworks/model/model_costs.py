"""Parameter count, FLOPs and key/value cache size of a model, from its config alone. Free of torch."""

from dataclasses import dataclass
from typing import assert_never

from lmworks.model import config as configs


@dataclass(frozen=True)
class Size:
    """The parameters of a part.

    matrices   every token is multiplied with these.
    vectors    are added, looked up or multiplied with value by value: biases, norms, tables.
    idle       the experts that a token does not go through.
    """

    matrices: int = 0
    vectors: int = 0
    idle: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.matrices + other.matrices, self.vectors + other.vectors, self.idle + other.idle)

    @property
    def total(self) -> int:
        return self.matrices + self.vectors + self.idle


def count_parameters(config: configs.ModelConfig) -> int:
    """Trainable values of `Transformer(config)`; what is shared, such as the token vectors of a tied head, counts
    once."""
    return sum(size.total for size in sizes_of_parts(config).values())


def count_active_parameters(config: configs.ModelConfig) -> int:
    """The parameters that one token meets: of a mixture's experts, the `top_k` it is sent to."""
    return sum(size.matrices + size.vectors for size in sizes_of_parts(config).values())


def weight_bytes(config: configs.ModelConfig, bytes_per_value: float = 2) -> int:
    """Memory of the weights; 2 bytes per value for bfloat16, 4 for float32, 0.5 for 4 bits."""
    return round(count_parameters(config) * bytes_per_value)


def sizes_of_parts(config: configs.ModelConfig) -> dict[str, Size]:
    """Each part of the model and its size, from the bottom to the top; the values add up to the whole."""
    width, embedding = config.embedding.width, config.embedding
    sizes = {"embedding": Size(vectors=embedding.vocabulary * width) + _embedding(embedding)}
    if config.decoder_embedding is not None:
        sizes["decoder embedding"] = _embedding(config.decoder_embedding)
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack is not None:
            sizes |= {f"{name} {part}": size for part, size in _stack(stack, width).items()}
    sizes["head"] = _head(config.head, width, embedding.vocabulary)
    return {part: size for part, size in sizes.items() if size.total}


def flops_per_token(config: configs.ModelConfig, context: int) -> int:
    """Floating-point operations of the forward for one token that attends to `context` tokens, itself included.

    A multiplication and an addition are two operations, and only those of matrix products are counted:

        2 · matrices that the token meets  +  Σ over layers 4 · heads · head_dim · tokens that the layer lets it see

    the 4 for query · key and for weight · value. A whole text of n tokens costs n times as much at `context` = n if
    attention computes the full n × n square, as `torch.utils.flop_counter` counts it; a causal kernel needs half of the
    second term. Training is three times the forward (Kaplan et al. 2020, section 2.1, who leave the head out).

    An encoder–decoder: one token of the source and one of the target together, both texts of `context` tokens. A head
    that reads one vector per text costs nothing per token.
    """
    sizes = sizes_of_parts(config)
    matrices = sum(size.matrices for part, size in sizes.items() if part != "head") + _head_matrices(config)
    scores = sum(_score_flops(block, context, stack.causal) for stack in config.stacks for block in stack.blocks)
    return 2 * matrices + scores


def visible_tokens(pattern: configs.Pattern | None, context: int, causal: bool) -> int:
    """The most of `context` tokens that a token sees; of a pattern with global tokens, one that is not global."""
    match pattern:
        case None:
            return context
        case configs.Window(size):
            seen = size if causal else 2 * size - 1
        case configs.Banded(block, bands):
            seen = block * bands if causal else block * (2 * bands - 1)
        case configs.WindowAndGlobal(size, tokens):
            seen = tokens + (size if causal else 2 * size - 1)
        case unknown:
            assert_never(unknown)
    return min(context, seen)


def kv_bytes_per_token(config: configs.ModelConfig, bytes_per_value: int) -> int:
    """Bytes of keys and values that the decoder's `KVCache` keeps for each token; 2 bytes per value for bfloat16.

    Layers with a window are counted in full: their old tokens are hidden, not forgotten. `kv_bytes` is what a cache
    that forgets them would need. An encoder–decoder keeps besides the projected tokens of its source, see `Memory`.
    ValueError for a model without a decoder.
    """
    return kv_bytes(config, bytes_per_value, context=1)


def kv_bytes(config: configs.ModelConfig, bytes_per_value: int, context: int) -> int:
    """Bytes of the keys and values that generating token number `context` can read: a layer with a pattern needs only
    the tokens that it shows. ValueError for a model without a decoder."""
    if config.decoder is None:
        raise ValueError("only a decoder keeps keys and values")
    attentions = [block.attention for block in config.decoder.blocks]
    values = (2 * a.kv_heads * a.head_dim * visible_tokens(a.pattern, context, causal=True) for a in attentions)
    return sum(values) * bytes_per_value


# ---------------------------------------------------------------------------------------------------------------------


def _linear(inputs: int, outputs: int, bias: bool = False) -> Size:
    return Size(inputs * outputs, outputs if bias else 0)


def norms_size(norm: configs.Norm | None, width: int, count: int = 1) -> Size:
    if norm is None:
        return Size()
    return Size(vectors={"layer": 2, "rms": 1}[norm.kind] * width * count)


def _embedding(embedding: configs.Embedding) -> Size:
    """All but the token vectors, which encoder and decoder share."""
    rows = embedding.token_types
    if isinstance(embedding.positions, configs.Learned):
        rows += embedding.positions.length + embedding.positions.offset
    return Size(vectors=rows * embedding.width) + norms_size(embedding.norm, embedding.width)


def _stack(stack: configs.Stack, width: int) -> dict[str, Size]:
    sizes: dict[str, Size] = {}
    for block in stack.blocks:
        for part, size in block_sizes(block, width).items():
            sizes[part] = sizes.get(part, Size()) + size
    if stack.relative_bias is not None:
        sizes["attention"] += Size(vectors=stack.relative_bias.buckets * stack.blocks[0].attention.heads)
    sizes["norms"] += norms_size(stack.final_norm, width)
    return sizes


def block_sizes(block: configs.Block, width: int) -> dict[str, Size]:
    """Each part of one layer and its size."""
    norms = (3 if block.cross else 2) * (2 if block.norm_at == "sandwich" else 1)
    return {
        "attention": _attention(block.attention, width),
        "cross-attention": _attention(block.cross, width) if block.cross else Size(),
        "feed-forward": feed_forward_size(block.feed_forward, width),
        "norms": norms_size(block.norm, width, norms),
    }


def _attention(attention: configs.Attention, width: int) -> Size:
    heads, head_dim, kv_heads = attention.heads, attention.head_dim, attention.kv_heads
    size = _linear(width, (heads + 2 * kv_heads) * head_dim, attention.bias)
    size += _linear(heads * head_dim, width, attention.has_output_bias) + norms_size(attention.qk_norm, head_dim, 2)
    size += Size(vectors=heads if attention.sinks else 0)
    match attention.position:
        case configs.RelativeBias(buckets):
            return size + Size(vectors=buckets * heads)
        case configs.Shaw(max_distance):
            return size + Size(vectors=(2 * max_distance + 1) * head_dim)
        case configs.TransformerXL():  # projects one distance for each token
            return size + _linear(width, heads * head_dim) + Size(vectors=2 * heads * head_dim)
        case _:
            return size


def _score_flops(block: configs.Block, context: int, causal: bool) -> int:
    attention, cross = block.attention, block.cross
    products = 2 * visible_tokens(attention.pattern, context, causal)
    match attention.position:
        case configs.Shaw(max_distance):
            products += 2 * max_distance + 1
        case configs.TransformerXL():
            products += context
        case _:
            pass
    flops = 2 * attention.heads * attention.head_dim * products
    return flops if cross is None else flops + 4 * cross.heads * cross.head_dim * context


def _head_matrices(config: configs.ModelConfig) -> int:
    """The matrices of the head that each token meets, a tied projection included."""
    width, vocabulary = config.embedding.width, config.embedding.vocabulary
    match config.head:
        case configs.LanguageModelHead() | configs.MultiTokenHead():  # further tokens are for training only
            return vocabulary * width
        case configs.MaskedLanguageModelHead() | configs.SpanBoundaryHead() | configs.NextSentenceHead():
            return (vocabulary + width) * width  # a second network is for spans or texts only
        case configs.ScoreHead(pooling=None):
            return width
        case configs.SpanHead():
            return 2 * width
        case _:
            return 0


def feed_forward_size(config: configs.FeedForward | configs.MixtureOfExperts, width: int) -> Size:
    if isinstance(config, configs.FeedForward):
        up = _linear(width, config.hidden, config.bias)
        return up + (up if config.gated else Size()) + _linear(config.hidden, width, config.bias)
    expert, shared = feed_forward_size(config.expert, width), config.shared
    size = Size(
        config.top_k * expert.matrices, config.top_k * expert.vectors, (config.experts - config.top_k) * expert.total
    )
    size += _linear(width, config.experts)
    return size if shared is None else size + feed_forward_size(shared, width)


def _head(head: configs.Head | None, width: int, vocabulary: int) -> Size:
    match head:
        case None | configs.PoolHead():
            return Size()
        case configs.LanguageModelHead(tied, bias):
            return Size(0 if tied else vocabulary * width, vocabulary if bias else 0)
        case configs.MaskedLanguageModelHead(norm=norm):
            return _linear(width, width, bias=True) + norms_size(norm, width) + Size(vectors=vocabulary)
        case configs.SpanBoundaryHead(masked, max_span, position_width):
            network = _linear(2 * width + position_width, width, bias=True) + _linear(width, width, bias=True)
            tables = Size(vectors=max_span * position_width + vocabulary)
            return _head(masked, width, vocabulary) + network + norms_size(masked.norm, width, 2) + tables
        case configs.MultiTokenHead(following, block, norm, depth):
            module = _linear(2 * width, width) + norms_size(norm, width, 2)
            module = sum(_stack(configs.Stack((block,), True, norm), width).values(), module)
            return sum([module] * depth, _head(following, width, vocabulary))
        case configs.NextSentenceHead(masked):
            pooler = _linear(width, width, bias=True) + _linear(width, 2, bias=True)
            return _head(masked, width, vocabulary) + pooler
        case configs.ClassificationHead(labels, activation=activation, bias=bias):
            dense = _linear(width, width, bias=True) if activation else Size()
            return dense + _linear(width, labels, bias)
        case configs.ScoreHead(bias=bias):
            return _linear(width, 1, bias)
        case configs.SpanHead():
            return _linear(width, 2, bias=True)
        case unknown:
            assert_never(unknown)
