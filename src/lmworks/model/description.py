"""The parts of a config in words, for pictures and for the command line."""

from itertools import groupby
from typing import Literal, assert_never

from lmworks.model import config as configs

CROSS = "cross-attention"
Part = Literal["attention", "feed-forward"]
Runs = list[tuple[int, configs.Block]]  # so many equal blocks in a row


def fold(blocks: tuple[configs.Block, ...]) -> list[tuple[int, Runs]]:
    """Blocks in order, each as often as it repeats: `[(4, [(5, local), (1, global)]), (1, [(2, local)])]` is four times
    five local blocks and a global one, then two local ones."""
    for period in range(2, len(blocks) // 2 + 1):
        repeats = len(blocks) // period
        if len(set(blocks[:period])) > 1 and all(a == b for a, b in zip(blocks, blocks[period:], strict=False)):
            rest = blocks[repeats * period :]
            return [(repeats, _runs(blocks[:period]))] + ([(1, _runs(rest))] if rest else [])
    return [(1, _runs(blocks))]


def _runs(blocks: tuple[configs.Block, ...]) -> Runs:
    return [(len(list(run)), block) for block, run in groupby(blocks)]


def block_parts(block: configs.Block, stack: configs.Stack, width: int) -> list[tuple[Part, list[str]]]:
    """The parts of a block of the stack, besides its norms: of each the kind, and its title and words."""
    attention = [attention_title(block.attention, stack.causal), *attention_words(block.attention)]
    if stack.relative_bias is not None:
        attention.append(f"{position_words(stack.relative_bias)}, shared by all blocks")
    sublayers: list[tuple[Part, list[str]]] = [("attention", attention)]
    if block.cross is not None:
        sublayers.append(("attention", [CROSS, *attention_words(block.cross)]))
    title = feed_forward_title(block.feed_forward)
    return [*sublayers, ("feed-forward", [title, *feed_forward_words(block.feed_forward, width)])]


def norm_words(norm: configs.Norm) -> str:
    return {"layer": "layer norm", "rms": "RMS norm"}[norm.kind]


def embedding_words(embedding: configs.Embedding) -> list[str]:
    words = [f"{embedding.vocabulary:,} tokens × {embedding.width:,}"]
    if embedding.token_types:
        words.append(f"{embedding.token_types} token types")
    if embedding.scale is not None:
        words.append(f"times {embedding.scale:g}")
    return words


def position_words(position: object) -> str:
    """Any kind of position in `config.py`; "" for None."""
    match position:
        case configs.Learned(length):
            return f"{length:,} learned positions"
        case configs.Sinusoidal():
            return "sinusoidal positions"
        case configs.Rope(theta, fraction, scaling):
            portion = "" if fraction == 1 else f" of {fraction:.0%} of the head"
            return f"rotary{portion}, base {theta:,.0f}" + (f", {scaling.kind} × {scaling.factor:g}" if scaling else "")
        case configs.Alibi():
            return "linear biases (ALiBi)"
        case configs.RelativeBias(buckets):
            return f"relative bias, {buckets} buckets"
        case configs.Shaw(max_distance):
            return f"relative keys up to {max_distance}"
        case configs.TransformerXL():
            return "relative (Transformer-XL)"
        case _:
            return ""


def attention_title(attention: configs.Attention, causal: bool) -> str:
    kind = "multi-head" if attention.kv_heads == attention.heads else "grouped-query"
    kind = "multi-query" if attention.kv_heads == 1 < attention.heads else kind
    return f"{'masked ' if causal else ''}{kind} attention"


def attention_words(attention: configs.Attention) -> list[str]:
    heads, keys = attention.heads, attention.kv_heads
    words = [f"{heads} heads" if heads == keys else f"{heads} query heads, {keys} key heads"]
    words[0] += f" of {attention.head_dim}"
    words += [position_words(attention.position), pattern_words(attention.pattern)]
    words.append("query and key norms" if attention.qk_norm else "")
    words.append(f"scores capped at {attention.softcap:g}" if attention.softcap else "")
    words.append("sinks" if attention.sinks else "")
    words.append("" if not attention.bias else "biases" if attention.has_output_bias else "query, key, value biases")
    return [word for word in words if word]


def pattern_words(pattern: configs.Pattern | None) -> str:
    match pattern:
        case None:
            return ""
        case configs.Window(size):
            return f"window of {size:,}"
        case configs.Banded(block, bands):
            return f"{bands} bands of {block}"
        case configs.WindowAndGlobal(size, tokens):
            return f"window of {size:,}, {tokens} global tokens"
        case unknown:
            assert_never(unknown)


def activation_words(activation: configs.Activation) -> str:
    return {"gelu_tanh": "gelu by tanh", "relu2": "relu squared"}.get(activation, activation)


def feed_forward_title(config: configs.FeedForward | configs.MixtureOfExperts) -> str:
    if isinstance(config, configs.MixtureOfExperts):
        return "mixture of experts"
    return "gated feed-forward" if config.gated else "feed-forward"


def feed_forward_words(config: configs.FeedForward | configs.MixtureOfExperts, width: int) -> list[str]:
    if isinstance(config, configs.FeedForward):
        sizes = f"{width:,} → {config.hidden:,} → {width:,}"
        return [sizes, activation_words(config.activation), *(["biases"] if config.bias else [])]
    words = [f"top {config.top_k} of {config.experts:,} experts" + (", each gated" if config.expert.gated else "")]
    words += feed_forward_words(config.expert, width)
    return words if config.shared is None else [*words, f"and one shared of {config.shared.hidden:,}"]


def head_words(head: configs.Head) -> list[str]:
    """The title first."""
    words = [f"{head.kind.replace('_', ' ')} head"]
    match head:
        case configs.LanguageModelHead(tied, bias, scale, softcap):
            words += ["token vectors, transposed" if tied else "a projection of its own"]
            words += ["bias"] if bias else []
            words += [f"times {scale:.3g}"] if scale is not None else []
            words += [f"logits capped at {softcap:g}"] if softcap else []
        case configs.PoolHead(pooling, normalize):
            words += [f"{pooling} of the tokens"] + (["length 1"] if normalize else [])
        case configs.ClassificationHead(labels, pooling):
            words += [f"{pooling} token → {labels} labels"]
        case configs.MaskedLanguageModelHead(activation):
            words += [f"dense, {activation_words(activation)}, norm", "token vectors, transposed"]
        case configs.MultiTokenHead(depth=depth):
            words += [f"{depth} further token" + ("s" if depth > 1 else "") + ", a block for each"]
        case configs.SpanBoundaryHead() | configs.NextSentenceHead() | configs.ScoreHead() | configs.SpanHead():
            pass
        case unknown:
            assert_never(unknown)
    return words
