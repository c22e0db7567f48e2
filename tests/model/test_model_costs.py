"""Counts against the modules: parameters one by one, operations against torch's own counter."""

import re
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kit.tables import for_each
from lmworks.adapt.task_head import with_further_tokens
from lmworks.model import config as configs
from lmworks.model import masks, presets
from lmworks.model.config import Attention, FeedForward, MixtureOfExperts, Norm
from lmworks.model.kv_cache import KVCache
from lmworks.model.model_costs import (
    count_active_parameters,
    count_parameters,
    flops_per_token,
    kv_bytes,
    kv_bytes_per_token,
    sizes_of_parts,
    visible_tokens,
    weight_bytes,
)
from lmworks.model.presets import bart, bert, glam, gopher, gpt3, lamda, llama, roberta, spanbert, switch, t5, t5_v1_1
from lmworks.model.presets.sizes import SIZES
from lmworks.model.transformer import Transformer, empty_model

LLAMA = llama(97, 32, 3, 4, 2, 48, 64)
MLM = configs.MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))


def with_block(config=LLAMA, **changes):
    """`config` with `changes` of its decoder's blocks, or of their attention where it has such a field."""
    of_attention = {name: value for name, value in changes.items() if name in Attention.__dataclass_fields__}
    of_block = {name: value for name, value in changes.items() if name not in of_attention}
    blocks = [replace(b, attention=replace(b.attention, **of_attention), **of_block) for b in config.decoder.blocks]
    return replace(config, decoder=replace(config.decoder, blocks=tuple(blocks)))


MIXTURE = MixtureOfExperts(FeedForward(24, "silu", gated=True, bias=True), 5, 2, shared=FeedForward(16, "relu"))
CONFIGS = {
    "llama": LLAMA,
    "llama, tied, biases": llama(97, 32, 2, 4, 4, 48, 64, head_dim=16, tied=True, attention_bias=True),
    "bert": bert(97, 32, 3, 4, 48, 64, token_types=3, head=MLM),
    "bert, pre-training": bert(97, 32, 2, 4, 48, 64, head=configs.NextSentenceHead(MLM)),
    "roberta": roberta(97, 32, 2, 4, 48, 64, head=configs.ClassificationHead(3)),
    "spanbert": spanbert(97, 32, 2, 4, 48, 64),
    "gpt3": gpt3(97, 32, 3, 4, 128, 64, head_dim=10),
    "gopher": gopher(97, 32, 2, 4, 128, 64),
    "lamda": lamda(97, 32, 2, 4, 128, 64, head_dim=16),
    "glam": glam(97, 32, 4, 4, 64, 6, 64),
    "t5": t5(97, 32, 2, 4, 48, head_dim=8),
    "t5 1.1": t5_v1_1(97, 32, 2, 4, 48, head_dim=12),
    "bart": bart(97, 32, 2, 4, 48, context_length=64),
    "switch": switch(97, 32, 4, 4, 48, experts=5, head_dim=8),
    "shared expert": with_block(feed_forward=MIXTURE),
    "alibi": with_block(position=configs.Alibi()),
    "shaw": with_block(position=configs.Shaw(7)),
    "relative bias of each block": with_block(position=configs.RelativeBias(8)),
    "query and key norms, sinks": with_block(qk_norm=Norm("rms", 1e-6), sinks=True),
    "sandwich": with_block(norm_at="sandwich"),
    "parallel": with_block(norm_at="parallel", norm=Norm("layer", 1e-5)),
    "window": with_block(pattern=configs.Window(5)),
    "reward": replace(LLAMA, head=configs.ScoreHead()),
    "critic": replace(LLAMA, head=configs.ScoreHead(pooling=None, bias=True)),
    "embedder": replace(LLAMA, head=configs.PoolHead()),
    "further tokens": with_further_tokens(LLAMA, 2),
    "scaled, biased head": replace(LLAMA, head=configs.LanguageModelHead(tied=True, bias=True)),
}


@for_each("name", CONFIGS)
def test_counts_the_parameters_that_the_modules_have(name):
    config = CONFIGS[name]
    assert count_parameters(config) == sum(p.numel() for p in empty_model(config).parameters())


def test_parts_are_the_modules_of_that_name():
    config = CONFIGS["switch"]
    model, parts = empty_model(config), sizes_of_parts(config)
    for stack in ("encoder", "decoder"):
        named = getattr(model, stack).named_parameters()
        mixtures = sum(p.numel() for name, p in named if "feed_forward." in name)
        assert parts[f"{stack} feed-forward"].total == mixtures
    assert sum(part.total for part in parts.values()) == count_parameters(config)


def test_a_token_meets_the_experts_it_is_sent_to():
    config = CONFIGS["shared expert"]
    idle = 3 * (3 * 32 * 24 + 2 * 24 + 32)  # of 5 experts 2 are chosen
    assert count_active_parameters(config) == count_parameters(config) - 3 * idle
    assert count_active_parameters(LLAMA) == count_parameters(LLAMA)
    assert weight_bytes(LLAMA, 0.5) == count_parameters(LLAMA) // 2


def counted_flops(config, length):
    """Of a whole text, by torch's counter. Without its tensors' own kernels of attention, which it would not see."""
    model = Transformer(config).eval()
    ids = torch.zeros(1, length, dtype=torch.int64)
    both = config.encoder is not None and config.decoder is not None
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(ids, ids) if both else model(ids)
    return counter.get_total_flops()


@for_each("name", [name for name in CONFIGS if name not in ("gopher", "switch", "glam", "roberta", "reward")])
def test_operations_are_those_that_torch_counts(name):
    config, length = CONFIGS[name], 5  # no longer than the window: a mask does not spare a dense kernel anything
    assert length * flops_per_token(config, length) == counted_flops(config, length)


@for_each("name", ["switch", "glam"])
def test_operations_of_experts_without_a_limit(name):
    config = CONFIGS[name]

    def unlimited(stack):
        mixtures = [b.feed_forward for b in stack.blocks]
        dropless = [
            replace(m, capacity=None, capacity_factor=None) if isinstance(m, MixtureOfExperts) else m for m in mixtures
        ]
        blocks = [replace(b, feed_forward=m) for b, m in zip(stack.blocks, dropless, strict=True)]
        return replace(stack, blocks=tuple(blocks))

    config = replace(config, decoder=unlimited(config.decoder), encoder=config.encoder and unlimited(config.encoder))
    assert 7 * flops_per_token(config, 7) == counted_flops(config, 7)


def test_relative_positions_of_transformer_xl():
    """Our module projects and multiplies the distances of both signs, 2 n - 1 instead of the n that are counted."""
    length, width, heads, head_dim, layers = 6, 32, 4, 8, 2
    more = (length - 1) * 2 * width * heads * head_dim + length * (length - 1) * 2 * heads * head_dim
    counted = counted_flops(CONFIGS["gopher"], length)
    assert length * flops_per_token(CONFIGS["gopher"], length) + layers * more == counted


@for_each("name", ["roberta", "reward"])
def test_a_head_that_reads_one_vector_per_text_costs_nothing_per_token(name):
    config = CONFIGS[name]
    per_text = {"roberta": 2 * (32 * 32 + 32 * 3), "reward": 2 * 32}[name]
    assert 4 * flops_per_token(config, 4) + per_text == counted_flops(config, 4)


PATTERNS = [configs.Window(1), configs.Window(5), configs.Banded(4, 2), configs.Banded(3, 1)]
PATTERNS += [configs.WindowAndGlobal(3, 2), configs.WindowAndGlobal(1, 4)]


@for_each("causal", [True, False])
@for_each("pattern", PATTERNS)
def test_the_most_that_a_token_sees_is_what_the_rule_allows(pattern, causal):
    positions = torch.arange(40)[None]
    rule = masks.pattern(pattern)
    allowed = masks.dense(masks.both(masks.causal, rule) if causal else rule, 1, positions, positions)[0, 0]
    tokens = pattern.global_tokens if isinstance(pattern, configs.WindowAndGlobal) else 0
    assert visible_tokens(pattern, 40, causal) == allowed[tokens:].sum(dim=1).max()
    assert visible_tokens(pattern, 1, causal) == 1
    assert visible_tokens(None, 40, causal) == 40


def test_a_longer_text_costs_a_window_no_more():
    windowed = CONFIGS["window"]
    assert flops_per_token(windowed, 1000) == flops_per_token(windowed, 5) < flops_per_token(LLAMA, 6)
    per_token = 4 * 4 * 8 * 3  # of each further token that is seen: 4 heads of 8, 3 layers
    assert flops_per_token(LLAMA, 6) - flops_per_token(LLAMA, 5) == per_token


def test_bytes_of_keys_and_values_are_those_of_the_cache():
    cache = KVCache(LLAMA, slots=1, length=64)
    stored = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values))
    assert kv_bytes_per_token(LLAMA, bytes_per_value=4) == stored / 64
    with pytest.raises(ValueError, match="decoder"):
        kv_bytes_per_token(CONFIGS["bert"], bytes_per_value=2)


def test_a_window_bounds_what_must_be_kept():
    windowed = CONFIGS["window"]
    assert kv_bytes_per_token(windowed, 2) == kv_bytes_per_token(LLAMA, 2) == 3 * 2 * 2 * 8 * 2
    assert kv_bytes(windowed, 2, 64) == 5 * kv_bytes_per_token(windowed, 2)
    assert kv_bytes(LLAMA, 2, 64) == 64 * kv_bytes_per_token(LLAMA, 2)


# ---------------------------------------------------------------------------------------------------------------------
# Published sizes


UNITS = {"": 1, "M": 10**6, "B": 10**9, "T": 10**12}


def published(text: str) -> tuple[float, float]:
    """The number, and half a unit of its last digit: "1.3B" is 1.3e9 and 0.05e9."""
    digits, decimals, unit = re.fullmatch(r"([\d,]+)(?:\.(\d+))?([MBT]?)", text).groups()
    places = len(decimals or "")
    value = float(digits.replace(",", "") + "." + (decimals or "0")) * UNITS[unit]
    return value, 0.5 * UNITS[unit] / 10**places


def test_published_numbers_are_read_with_their_last_digit():
    assert published("1.3B") == (1.3e9, 0.05e9)
    assert published("2,024M") == (2.024e9, 0.5e6)
    assert published("494,032,768") == (494_032_768, 0.5)


@for_each("name", SIZES)
def test_the_count_rounds_to_the_published_digits_or_a_note_says_how_it_differs(name):
    size = SIZES[name]
    value, half = published(size.parameters)
    if abs(size.counted() - value) > half:
        assert size.note.startswith(f"{size.counted() / value - 1:+.1%}"), f"{size.counted():,}, {size.note!r}"
    else:
        assert not re.match(r"[+-]\d", size.note), "the number agrees: the note is out of date"


def test_every_family_has_a_size():
    assert {size.preset for size in SIZES.values()} == set(presets.__all__)


@for_each(
    ("name", "active", "places"),
    [
        ("glam-64b-64e", 96.6, 1),  # Du et al. 2022, section 1
        ("mixtral-8x7b", 13, 0),  # Jiang et al. 2024, section 1
        ("mixtral-8x22b", 39, 0),  # the announcement
    ],
)
def test_parameters_that_a_token_meets_are_those_of_the_papers(name, active, places):
    assert round(count_active_parameters(SIZES[name].config) / 1e9, places) == active
