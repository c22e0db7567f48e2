"""Lowered programs against the modules: every part that a decoder may have, in pages, over several steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gguf_cases import SIZES, random_checkpoint
from kit.tables import for_each
from lmworks.adapt import PrefixConfig, add_adapter
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.lowering import NotLoweredError, lower, unsupported_reason
from lmworks.generate.module_runner import ModuleRunner
from lmworks.generate.page_storage import layer_groups
from lmworks.generate.paged_cache import PagedCache
from lmworks.generate.runner import Runner, Work
from lmworks.generate.runner_choice import build_runner, format_rule
from lmworks.kernels.fused_operations import run
from lmworks.kernels.kv_pages import CacheFormat
from lmworks.kernels.packing import unpack
from lmworks.kernels.program import RaggedBatch
from lmworks.kernels.weight_formats import Format, dequantise, quantise, stack
from lmworks.model import presets
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.config import (
    Alibi,
    Banded,
    Embedding,
    LanguageModelHead,
    LinearScaling,
    ModelConfig,
    Norm,
    PoolHead,
    Rope,
    Sinusoidal,
)
from lmworks.model.gguf_read import GgufWeights
from lmworks.model.gguf_write import save_gguf
from lmworks.model.presets.decoders import change_attention
from lmworks.model.quantised_linear import QuantisedLinear, quantise_projections, quantised_weights
from lmworks.model.transformer import Transformer
from slow_cases import slow

_LAYERS4 = {**SIZES, "layers": 4, "head_dim": 32}
_GPT: dict[str, Any] = {"vocabulary": 267, "width": 64, "layers": 2, "heads": 4, "context_length": 128}


def _with_head(config: ModelConfig, **fields: Any) -> ModelConfig:
    assert isinstance(config.head, LanguageModelHead)
    return replace(config, head=replace(config.head, **fields))


CONFIGS: dict[str, ModelConfig] = {
    "llama": presets.llama(**SIZES),
    "llama, tied, biases": presets.llama(**SIZES, tied=True, attention_bias=True, feed_forward_bias=True),
    "llama, linear scaling": presets.llama(**SIZES, rope=Rope(10_000.0, scaling=LinearScaling(2.0))),
    "llama, hidden width of no whole block": presets.llama(**{**SIZES, "hidden": 100}),
    "mistral": presets.mistral(**SIZES, window=7),
    "mistral, window of a page": presets.mistral(**SIZES, window=16),
    "qwen2": presets.qwen2(**SIZES),
    "qwen3": presets.qwen3(**SIZES, head_dim=32),
    "phi3": presets.phi3(**{**SIZES, "width": 128}, rope=Rope(10_000.0, fraction=0.75)),
    "gemma": presets.gemma(**SIZES, head_dim=32),
    "gemma2": presets.gemma2(**_LAYERS4, window=8, softcap=5.0, attention_softcap=2.0),
    "gemma3": presets.gemma3(**{**_LAYERS4, "layers": 7}, window=8),
    "gpt1": presets.gpt1(**_GPT),
    "gpt2": presets.gpt2(**_GPT),
    "gpt_neox": presets.gpt_neox(**_GPT, hidden=100),
    "gpt_neox, serial": presets.gpt_neox(**_GPT, hidden=96, parallel=False),
    "gpt2, sines": replace(
        presets.gpt2(**_GPT), embedding=Embedding(267, 64, positions=Sinusoidal()), head=LanguageModelHead(True)
    ),
    "head with scale and bias": _with_head(presets.llama(**SIZES), scale=0.3, bias=True),
}
QUICK = ("llama, tied, biases", "mistral", "phi3", "gemma2", "gpt2", "gpt_neox")  # one of each kind of block
LENGTHS = (45, 20)  # of two texts, longer than the windows
_PAGES = 12


@pytest.fixture(scope="module", params=CONFIGS)
def checkpoint(request, tiny_tokenizer) -> Checkpoint:
    return random_checkpoint(CONFIGS[request.param], tiny_tokenizer)


def _program_logits(
    config: ModelConfig, weights: Mapping[str, Tensor], format_of: Any, cache_format: CacheFormat
) -> list[Tensor]:
    assert config.decoder is not None
    program = lower(config, weights, format_of, _PAGES, cache_format, 64)
    return _runner_logits(FusedRunner(program, layer_groups(config.decoder)[0]))


def _runner_logits(runner: Runner) -> list[Tensor]:
    """All logits of two texts, (length, vocabulary) each: a first chunk, then another, then token by token, beside each
    other, while the pages behind windows are given back."""
    cache = PagedCache(runner.windows, _PAGES, runner.copy_page)
    texts = _texts()
    sequences = [cache.open(text[:1]) for text in texts]
    found: list[list[Tensor]] = [[], []]
    for counts in ((13, 0), (17, 9), (3, 3), *[(1, 1)] * 40):
        works, numbers = [], []
        for n, (sequence, text, count) in enumerate(zip(sequences, texts, counts, strict=True)):
            ids = text[sequence.length :][:count]
            if ids:
                cache.reserve(sequence, len(ids))
                works.append(Work(sequence, ids, len(ids)))
                numbers.append(n)
        if works:
            rows, _ = runner.forward(works)
            assert torch.equal(rows.best, rows.logits.argmax(-1))
            # float32 sums of 267 exponentials
            assert torch.allclose(rows.log_normaliser, rows.logits.double().logsumexp(-1).float(), atol=1e-5)
            for n, work, logits in zip(numbers, works, rows.logits.split([len(w.ids) for w in works]), strict=True):
                found[n].append(logits)
                cache.commit(work.sequence, work.ids)
    return [torch.cat(logits) for logits in found]


def _texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 267, (length,), generator=generator).tolist() for length in LENGTHS]


@torch.inference_mode()
def _module_logits(model: Transformer) -> list[Tensor]:
    return [model(torch.tensor([text]))[0] for text in _texts()]


def _error(found: list[Tensor], expected: list[Tensor]) -> Tensor:
    """Differences in standard deviations of the logits."""
    return (torch.cat(found) - torch.cat(expected)) / torch.cat(expected).std()


def test_in_float32_a_program_is_the_model(checkpoint: Checkpoint) -> None:
    found = _program_logits(checkpoint.config, checkpoint.weights, lambda name: "float32", "float32")
    expected = _module_logits(checkpoint.model)
    assert torch.cat(expected).std() > 0.3, "so that the tolerance is one of visible numbers"
    # sums of some 100 float32 products in another order, along a few layers; a bias left out is 0.1 and more
    assert _error(found, expected).abs().max() < 1e-4


@torch.inference_mode()
@for_each("name", ["bert", "gpt1", "gpt2, sines", "qwen3", "llama, linear scaling"])
def test_a_model_that_pools_has_the_hidden_states_of_its_modules(name: str, tiny_tokenizer) -> None:
    plain = presets.bert(267, 64, 2, 4, 96, 128) if name == "bert" else CONFIGS[name]
    checkpoint = random_checkpoint(replace(plain, head=PoolHead()), tiny_tokenizer)
    program = lower(checkpoint.config, checkpoint.weights, lambda name: "float32", 0, "float32", 64)
    texts = _texts()
    arrays = (
        texts[0] + texts[1],
        [n for text in texts for n in range(len(text))],
        [0] * len(texts[0]) + [1] * len(texts[1]),
    )
    ids, positions, sequences = (np.array(array, np.int32) for array in arrays)
    found = run(program, RaggedBatch(ids, positions, sequences, (), np.arange(len(ids), dtype=np.int32)), hidden=True)
    expected = torch.cat([checkpoint.model.hidden(torch.tensor([text]))[0] for text in texts])
    assert found.hidden is not None and _error([found.hidden], [expected]).abs().max() < 1e-4


# Of the cache and the activations alone, since the weights are those that the format holds: bfloat16 has 8 bits, int8 a
# scale for each 32 activations. Errors are of one in 256 along a few layers that pass them on. The mean says how well.
@pytest.mark.parametrize(
    ("form", "cache_format", "mean"),
    [("float32", "bfloat16", 0.02), ("bfloat16", "bfloat16", 0.03), ("int8", "float32", 0.04), ("int4", "int8", 0.06)],
)
@pytest.mark.parametrize("name", [*QUICK, *slow(*(name for name in CONFIGS if name not in QUICK))])
def test_a_format_loses_what_it_rounds(
    name: str, form: Format, cache_format: CacheFormat, mean: float, tiny_tokenizer
) -> None:
    checkpoint = random_checkpoint(CONFIGS[name], tiny_tokenizer)
    matrices = {name for name, tensor in checkpoint.weights.items() if tensor.dim() == 2 and "positions" not in name}
    held = {
        name: dequantise(quantise(tensor, form)) if name in matrices else tensor
        for name, tensor in checkpoint.weights.items()
    }
    model = Transformer(checkpoint.config).eval()
    model.load_state_dict(held)
    expected = _module_logits(model)
    found = _program_logits(checkpoint.config, checkpoint.weights, lambda name: form, cache_format)
    error = _error(found, expected).square().mean().sqrt()
    assert 1e-6 < error < mean


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "F16", "F32"])
@pytest.mark.parametrize("name", ["gemma3", "qwen2", *slow("llama", "phi3")])
def test_gguf_blocks_are_taken_as_they_are(name: str, kind: Any, tiny_tokenizer, tmp_path) -> None:
    checkpoint = load(save_gguf(random_checkpoint(CONFIGS[name], tiny_tokenizer), tmp_path / "m.gguf", kind))
    assert isinstance(checkpoint.weights, GgufWeights)
    stored = format_rule(checkpoint, "auto")
    program = lower(checkpoint.config, checkpoint.weights, stored, 1, "float32", 64)
    quantised = {"Q4_0": "int4", "Q8_0": "int8", "F16": "bfloat16", "F32": "bfloat16"}[kind]
    assert {program.layers[0].qkv.format, program.layers[0].gate_up.format, program.head.format} == {quantised}
    if quantised != "bfloat16":
        weight = checkpoint.weights["decoder.blocks.0.feed_forward.down.weight"]
        assert torch.equal(program.layers[0].down.dequantise(), weight), "not rounded again"
        parts = [checkpoint.weights[f"decoder.blocks.0.attention.{part}.weight"] for part in ("query", "key", "value")]
        assert torch.equal(program.layers[0].qkv.dequantise(), torch.cat(parts))
    found = _program_logits(checkpoint.config, checkpoint.weights, stored, "float32")
    # activations, and weights where the file had floats, are rounded to 8 bits
    assert _error(found, _module_logits(checkpoint.model)).square().mean().sqrt() < 0.05


@for_each("form", ["int8", "int4"])
def test_packed_integers_of_a_quantised_model_are_taken_as_they_are(form: Format, tiny_tokenizer) -> None:
    of = random_checkpoint(CONFIGS["llama, tied, biases"], tiny_tokenizer)
    quantised = of.with_model(quantise_projections(of.model, lambda name: form))
    weights, rule = quantised_weights(quantised.model), format_rule(quantised, "auto")
    program = lower(quantised.config, weights, rule, 1, "float32", 64)
    for number, layer in enumerate(program.layers):
        parts = [weights[f"decoder.blocks.{number}.attention.{part}.weight"] for part in ("query", "key", "value")]
        down = weights[f"decoder.blocks.{number}.feed_forward.down.weight"]
        for matrix, expected in ((layer.qkv, stack(parts)), (layer.down, down)):
            packed = unpack(matrix)
            assert packed.format == expected.format == form and torch.equal(packed.values, expected.values)
            assert packed.scales is not None and torch.equal(packed.scales, expected.scales)
            assert form == "int8" or torch.equal(packed.minimums, expected.minimums)
    found = _program_logits(quantised.config, weights, rule, "float32")
    assert _error(found, _module_logits(quantised.model)).square().mean().sqrt() < 0.04  # activations are rounded
    assert isinstance(build_runner(quantised, "auto", 1, "float32", 64), FusedRunner | ModuleRunner)


@for_each("length", [5, 16, 20])
@for_each("name", ["llama, linear scaling", "qwen3"])
def test_a_prefix_lies_in_the_pages_before_every_text(name: str, length: int, tiny_tokenizer) -> None:
    of = random_checkpoint(CONFIGS[name], tiny_tokenizer)
    adapted = of.with_model(add_adapter(of.model, PrefixConfig(length), seed=1))
    runner = build_runner(adapted, "float32", _PAGES, "float32", 64)
    found, expected = _runner_logits(runner), _module_logits(adapted.model)
    assert _error(found, expected).abs().max() < 1e-4
    assert _error(_module_logits(of.model), expected).abs().max() > 0.01, "the prefix changes something"


def test_matrices_that_a_file_keeps_finer_than_their_neighbours_are_joined_as_int8(tiny_tokenizer, tmp_path) -> None:
    """As Q4_K_M and Q4_1 files do with values."""
    whole = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    coarse, fine = (load(save_gguf(whole, tmp_path / f"{kind}.gguf", kind)).weights for kind in ("Q4_0", "Q8_0"))
    assert isinstance(coarse, GgufWeights) and isinstance(fine, GgufWeights)

    class Mixed(GgufWeights):
        def __init__(self) -> None: ...

        def _file_of(self, name: str) -> GgufWeights:
            return fine if ".value." in name else coarse

        def __getitem__(self, name: str) -> Tensor:
            return self._file_of(name)[name]

        def __contains__(self, name: object) -> bool:
            return name in coarse

        def blocks(self, name: str) -> tuple[str, Tensor] | None:
            return self._file_of(name).blocks(name)

    mixed = Mixed()
    program = lower(whole.config, mixed, lambda name: "stored", 1, "float32", 64)
    assert [getattr(program.layers[0], site).format for site in ("qkv", "output", "gate_up")] == [
        "int8",
        "int4",
        "int4",
    ]
    parts = torch.cat([mixed[f"decoder.blocks.0.attention.{part}.weight"] for part in ("query", "key", "value")])
    # int8 of what is 4-bit is off by half a step of 1/127 of the largest in a group
    assert (program.layers[0].qkv.dequantise() - parts).abs().max() < parts.abs().max() / 250
    assert torch.equal(program.layers[0].qkv.dequantise()[-32:], parts[-32:]), "the values are as they were"


_MIXTRAL = presets.mixtral(**SIZES, experts=4)
_NOT_LOWERED: dict[str, tuple[ModelConfig, str]] = {
    "t5": (presets.t5(267, 64, 2, 4, 96), "an encoder and a decoder"),
    "bert": (presets.bert(267, 64, 2, 4, 96, 128), "head is not"),
    "a bare decoder": (replace(presets.llama(**SIZES), head=None), "head is not"),
    "mixtral": (_MIXTRAL, "mixture of experts"),
    "alibi": (
        change_attention(presets.llama(**SIZES), lambda attention, _: replace(attention, position=Alibi())),
        "positions are of the kind alibi",
    ),
    "banded": (
        change_attention(presets.llama(**SIZES), lambda attention, _: replace(attention, pattern=Banded(4, 2))),
        "pattern banded",
    ),
    "sinks": (change_attention(presets.llama(**SIZES), lambda attention, _: replace(attention, sinks=True)), "sinks"),
    "heads of 12": (presets.llama(**SIZES, head_dim=12), "12 dimensions"),
    "an embedding with a norm": (
        replace(presets.llama(**SIZES), embedding=Embedding(267, 64, norm=Norm("layer", 1e-5))),
        "embedding has a norm",
    ),
}


@for_each("name", _NOT_LOWERED)
def test_what_the_kernels_do_not_compute_is_named(name: str) -> None:
    config, reason = _NOT_LOWERED[name]
    with pytest.raises(NotLoweredError, match=reason):
        lower(config, {}, lambda _: "float32", 1, "float32", 8)
    assert unsupported_reason(config) is not None and unsupported_reason(presets.llama(**SIZES)) is None


@torch.inference_mode()
@for_each("name", ["alibi", "mixtral"])
def test_projections_of_what_is_not_lowered_can_be_quantised(name: str, tiny_tokenizer) -> None:
    model = random_checkpoint(_NOT_LOWERED[name][0], tiny_tokenizer).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = _module_logits(model)
    # 8 bits of weights and activations, then 4 of weights; where an expert is chosen otherwise, all of it differs
    for form, mean in (("float32", 1e-5), ("int8", 0.05), ("int4", 0.5)):
        quantised = quantise_projections(model, lambda name, form=form: form)
        assert sum(isinstance(module, QuantisedLinear) for module in quantised.modules()) >= 2 * 7
        assert _error(_module_logits(quantised), expected).square().mean().sqrt() < mean * (
            3 if name == "mixtral" else 1
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, QuantisedLinear) for module in model.modules())


@for_each(("form", "bits"), [("int8", 8 + 16 / 32), ("int4", 4 + 2 * 16 / 32), ("bfloat16", 16)])
def test_the_bytes_of_quantised_projections_are_counted(form: Format, bits: float, tiny_tokenizer) -> None:
    """A scale of 16 bits for 32 values, with int4 a minimum as well; no matrix here needs padding."""
    model = random_checkpoint(_NOT_LOWERED["mixtral"][0], tiny_tokenizer).model
    quantised = quantise_projections(model, lambda _: form)
    names = [name for name, module in quantised.named_modules() if isinstance(module, QuantisedLinear)]
    values = sum(model.get_parameter(f"{name}.weight").numel() for name in names)
    plain, packed = (ModuleRunner(one, 1).sizes["weights"] for one in (model, quantised))
    assert packed == plain - 4 * values + bits * values / 8
