"""New weights in an engine that holds them quantised: as in an engine that is made of them, in the same formats."""

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import KINDS, Kind, assert_same, checkpoint, make_engine, prompt
from torch import Tensor

from gguf_cases import random_checkpoint
from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.lowering import formats_of
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.kernels.weight_formats import Format
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.gguf_write import save_gguf
from lmworks.model.presets import llama, mixtral
from lmworks.model.transformer import Transformer
from slow_cases import slow

_SIZES: dict[str, Any] = {"vocabulary": 260, "width": 64, "heads": 4, "kv_heads": 2, "hidden": 96, "layers": 2}
_REQUESTS = [
    Request(prompt(40, 3), sampling=SamplingParameters(max_tokens=6, ignore_eos=True)),
    Request(prompt(9, 4), sampling=SamplingParameters(max_tokens=6, temperature=1.0, seed=5, ignore_eos=True)),
]


def _mixed(name: str) -> Format:
    """A format for each parameter: int4 where it is largest, floats where logits are made."""
    if "feed_forward" in name:
        return "int4"
    return "bfloat16" if name.startswith(("embedding", "head")) else "int8"


def _other(model: Transformer, seed: int) -> Transformer:
    """Another model of the same config."""
    generator = torch.Generator().manual_seed(seed)
    made = Transformer(model.config)
    state = model.state_dict()
    made.load_state_dict({n: t + 0.3 * t.std() * torch.randn(t.shape, generator=generator) for n, t in state.items()})
    return made


def _assert_as_new(engine: Engine, fresh: Engine, kind: Kind) -> None:
    for one, other in zip(engine.generate(_REQUESTS), fresh.generate(_REQUESTS), strict=True):
        assert one.cached_tokens == 0, "nothing of the old weights is found"
        assert_same(one, other, kind)


@pytest.mark.parametrize("weights", ["float32", _mixed, *slow("int8", "int4", "bfloat16")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biases", [True, *slow(False)])
def test_a_decoder_is_what_a_fresh_engine_would_be(kind: Kind, weights, biases: bool) -> None:
    of = checkpoint(llama(**_SIZES, context_length=128, attention_bias=biases, feed_forward_bias=biases))
    before = {name: tensor.clone() for name, tensor in of.model.state_dict().items()}
    engine = make_engine(kind, of, weights=weights)
    old = [completion.log_probabilities for completion in engine.generate(_REQUESTS)]
    for version in (1, 2):  # the second time there is nothing left that is shared
        made = _other(of.model, version)
        state = {name: tensor.clone() for name, tensor in made.state_dict().items()}
        engine.load_weights(state, version)
        for tensor in state.values():
            tensor.fill_(torch.nan)  # they are the caller's own
        _assert_as_new(engine, make_engine(kind, of.with_model(made), weights=weights), kind)
        assert [one.policy_version for one in engine.generate(_REQUESTS)] == [version] * 2
    assert [completion.log_probabilities for completion in engine.generate(_REQUESTS)] != old
    assert all(torch.equal(tensor, before[name]) for name, tensor in of.model.state_dict().items())


@pytest.mark.parametrize("weights", ["int4", *slow("int8")])
def test_a_mixture_of_experts_is_what_a_fresh_engine_would_be(weights) -> None:
    of = checkpoint(mixtral(**_SIZES, experts=4, context_length=128))
    engine = make_engine("modules", of, weights=weights)
    engine.generate(_REQUESTS)
    made = _other(of.model, 1)
    engine.load_weights(made.state_dict(), 1)
    _assert_as_new(engine, make_engine("modules", of.with_model(made), weights=weights), "modules")


@pytest.mark.parametrize("weights", ["int8", *slow("int4")])
def test_an_encoder_decoder_is_what_a_fresh_engine_would_be(tiny_encoder_decoder: Checkpoint, weights) -> None:
    engine = Engine(tiny_encoder_decoder, weights=weights)
    engine.generate(_REQUESTS)
    made = _other(tiny_encoder_decoder.model, 1)
    engine.load_weights(made.state_dict(), 1)
    _assert_as_new(engine, Engine(tiny_encoder_decoder.with_model(made), weights=weights), "modules")


@for_each("weights", ["float32", "int8"])
@for_each("kind", KINDS)
def test_weights_that_a_trainer_changed_in_place_are_those_of_a_fresh_engine(kind: Kind, weights) -> None:
    of = checkpoint(llama(**_SIZES, context_length=128))
    engine = make_engine(kind, of, weights=weights)
    old = engine.generate(_REQUESTS)
    names = {engine.fingerprint()}
    for version in (1, 2):
        with torch.no_grad():
            for parameter in of.model.parameters():
                parameter.add_(0.3 * parameter.std())
        engine.weights_changed(version)
        _assert_as_new(engine, make_engine(kind, of, weights=weights), kind)
        again = engine.generate(_REQUESTS)
        assert [one.policy_version for one in again] == [version] * 2 and again[0].ids != old[0].ids
        names |= {engine.fingerprint(), engine.fingerprint(version)}
    assert len(names) == 3 and all(name.startswith("unhashed:") for name in names - {engine.fingerprint(0)})
    if kind == "modules" and weights == "float32":
        assert engine.batcher.runner.shares(of.model), "nothing was copied"
    engine.submit(_REQUESTS[0])
    for change in (lambda: engine.weights_changed(3), lambda: engine.load_weights(of.model.state_dict(), 3)):
        with pytest.raises(RuntimeError, match="in flight"):
            change()


@for_each("kind", KINDS)
def test_what_does_not_fit_changes_nothing(kind: Kind) -> None:
    of = checkpoint(llama(**_SIZES, context_length=128))
    engine = make_engine(kind, of, weights="int8")
    expected = engine.generate(_REQUESTS)
    state: dict[str, Tensor] = dict(_other(of.model, 1).state_dict())
    name = "decoder.blocks.1.feed_forward.down.weight"
    wrong = (
        {**state, name: state[name][:1]},
        {**state, name: state[name].T},
        {**state, "decoder.blocks.1.feed_forward.down.bias": torch.zeros(64)},
        {other: tensor for other, tensor in state.items() if other != name},
    )
    for one in wrong:
        with pytest.raises(ValueError, match="do not fit this model"):
            engine.load_weights(one, 1)
    for one, other in zip(engine.generate(_REQUESTS), expected, strict=True):
        assert_same(one, other, kind)
        assert one.policy_version == 0


def test_the_formats_of_a_quantised_file_stay_when_its_weights_are_replaced(tmp_path: Path, tiny_tokenizer) -> None:
    """Its blocks are int4; other weights do not come in blocks, and are quantised."""
    config = llama(**{**_SIZES, "vocabulary": 267}, context_length=128)
    of = load(save_gguf(random_checkpoint(config, tiny_tokenizer), tmp_path / "tiny.gguf", "Q4_0"))
    engine = make_engine("fused", of, weights="auto")
    assert isinstance(engine.batcher.runner, FusedRunner)
    formats = formats_of(engine.batcher.runner.program)
    assert formats["decoder.blocks.0.feed_forward.down.weight"] == "int4"
    engine.generate(_REQUESTS)
    made = _other(of.model.float(), 1)
    engine.load_weights(made.state_dict(), 1)
    assert formats_of(engine.batcher.runner.program) == formats
    _assert_as_new(engine, make_engine("fused", of.with_model(made), weights=formats.__getitem__), "fused")


def test_a_file_whose_model_was_trained_in_place_is_not_sampled_from(tmp_path: Path, tiny_tokenizer) -> None:
    config = llama(**{**_SIZES, "vocabulary": 267}, context_length=128)
    of = load(save_gguf(random_checkpoint(config, tiny_tokenizer), tmp_path / "tiny.gguf", "Q4_0"))
    gain = next(weight for weight in of.model.parameters() if weight.ndim == 1)
    before = make_engine("fused", of, weights="auto").generate(_REQUESTS)
    with torch.no_grad():
        gain += 1
    with pytest.raises(ValueError, match="with_model"):
        make_engine("fused", of, weights="auto")
    after = make_engine("fused", of.with_model(of.model), weights="auto").generate(_REQUESTS)
    assert [one.log_probabilities for one in after] != [one.log_probabilities for one in before]
