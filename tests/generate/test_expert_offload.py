"""Offloaded experts: the same numbers, in less memory."""

import copy
import json
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lmworks.generate import expert_offload
from lmworks.generate.expert_offload import offload_counters, offload_experts
from lmworks.model import config as configs
from lmworks.model.feed_forward import FeedForward
from lmworks.model.initialisation import initialise
from lmworks.model.kv_cache import KVCache
from lmworks.model.mixture_of_experts import observe_routing
from lmworks.model.presets import llama, mixtral, switch
from lmworks.model.transformer import Transformer
from slow_cases import slow

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "expert_offload.py"
EXPERTS, LAYERS, HIDDEN = 6, 2, 48
MIXTRAL = mixtral(
    89, 32, layers=LAYERS, heads=4, kv_heads=2, hidden=HIDDEN, context_length=64, experts=EXPERTS, top_k=2
)  # fmt: skip
EXPERT_BYTES = 3 * 32 * HIDDEN * 4


def build(config: configs.ModelConfig) -> Transformer:
    return initialise(Transformer(config), seed=0, std=0.3).eval()


@pytest.fixture(scope="module")
def model():
    return build(MIXTRAL)


def random_ids(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(89, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, *slow(torch.float64)])
@pytest.mark.parametrize("resident", [1, 4, EXPERTS, *slow(2)])
def test_results_are_bitwise_those_of_the_whole_model(model, resident, dtype):
    whole = copy.deepcopy(model).to(dtype=dtype)
    offloaded = offload_experts(model, resident, dtype=dtype)
    for seed in range(3):
        ids = random_ids(2, 7, seed)
        assert torch.equal(offloaded(ids), whole(ids))
    assert next(model.parameters()).dtype == torch.float32  # `model` is as it was
    assert torch.equal(model(random_ids(1, 3)), build(MIXTRAL)(random_ids(1, 3)))


@torch.no_grad()
def test_a_generation_through_the_cache_is_the_same(model):
    def greedy(model: Transformer) -> list[int]:
        cache, row = KVCache(MIXTRAL, slots=1, length=30), [3, 1, 4]
        new = row
        while len(row) < 20:
            positions = torch.arange(len(row) - len(new), len(row))[None]
            logits = model(torch.tensor([new]), cache=cache.view(torch.tensor([0]), positions))
            new = [int(logits[0, -1].argmax())]
            row = row + new
        return row

    assert greedy(offload_experts(model, 2)) == greedy(model)


def shared_and_capacity(kind: str) -> tuple[configs.ModelConfig, tuple[Tensor, ...]]:
    if kind == "switch":  # top-1, with a capacity that drops tokens, in both stacks
        config = switch(89, 32, layers=2, heads=4, hidden=48, context_length=64, experts=4, capacity=3)
        return config, (random_ids(2, 9), random_ids(2, 5, 1))
    wide, narrow = (configs.FeedForward(hidden, "silu", gated=True) for hidden in (48, 24))
    part = configs.MixtureOfExperts(wide, 4, 2, shared=narrow)
    assert MIXTRAL.decoder is not None
    blocks = tuple(replace(block, feed_forward=part) for block in MIXTRAL.decoder.blocks)
    return replace(MIXTRAL, decoder=replace(MIXTRAL.decoder, blocks=blocks)), (random_ids(2, 9),)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["switch", "shared expert"])
def test_other_mixtures_too(kind):
    config, inputs = shared_and_capacity(kind)
    model = build(config)
    offloaded = offload_experts(model, 2)
    assert torch.equal(offloaded(*inputs), model(*inputs))
    assert not any(".experts." in name for name in offloaded.state_dict())
    assert {n for n in model.state_dict() if ".experts." not in n} == offloaded.state_dict().keys()


class Watched(Mapping[str, Tensor]):
    """Weights of which every one is a new tensor when asked for; counts the bytes of those that are alive."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights, self.alive, self.most = weights, 0, 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.weights[name].clone()
        self._add(tensor.nbytes)
        weakref.finalize(tensor.untyped_storage(), self._add, -tensor.nbytes)
        return tensor

    def _add(self, size: int) -> None:
        self.alive += size
        self.most = max(self.most, self.alive)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@torch.no_grad()
@pytest.mark.parametrize("resident", [1, 3])
def test_no_more_experts_than_agreed_are_ever_in_memory(model, resident, monkeypatch):
    weights, made, empty = Watched(model.state_dict()), weakref.WeakSet(), expert_offload._empty_expert

    def counted(*arguments) -> FeedForward:
        expert = empty(*arguments)
        made.add(expert)
        return expert

    monkeypatch.setattr(expert_offload, "_empty_expert", counted)
    offloaded = offload_experts(model, resident, weights=weights)
    assert not made  # nothing is fetched before it is needed
    for seed in range(4):
        offloaded(random_ids(2, 8, seed))
    assert len(made) == LAYERS * resident
    assert weights.most == EXPERT_BYTES // 3  # of one matrix: each is let go as soon as it has been copied


@given(resident=st.integers(1, EXPERTS), seeds=st.lists(st.integers(0, 50), min_size=1, max_size=5))
def test_hits_and_misses_are_those_of_a_least_recently_used_list(model, resident, seeds):
    """What each layer needs is observed from outside; who is ready runs first, then the others, each in order."""
    offloaded, hits, misses = offload_experts(model, resident), 0, 0
    lists: dict[str, OrderedDict[int, None]] = {}
    for seed in seeds:
        with torch.no_grad(), observe_routing(offloaded) as routing:
            offloaded(random_ids(1, 1 + seed % 3, seed))
        for name, layer in routing.items():
            ready = lists.setdefault(name, OrderedDict())
            needed = sorted(set(layer.chosen.flatten().tolist()))
            for number in [n for n in needed if n in ready] + [n for n in needed if n not in ready]:
                hits, misses = hits + (number in ready), misses + (number not in ready)
                ready.pop(number, None)
                ready[number] = None
                while len(ready) > resident:
                    ready.popitem(last=False)
    counters = offload_counters(offloaded)
    assert (counters.hits, counters.misses) == (hits, misses)
    assert counters.bytes_moved == misses * EXPERT_BYTES


@torch.no_grad()
def test_all_resident_are_fetched_once(model):
    offloaded = offload_experts(model, EXPERTS)
    for seed in range(4):
        offloaded(random_ids(4, 16, seed))
    assert offload_counters(offloaded).misses == LAYERS * EXPERTS
    assert offload_counters(offloaded).hits == 3 * LAYERS * EXPERTS


def test_what_cannot_be_offloaded_is_refused(model):
    dense = build(llama(89, 32, layers=1, heads=4, kv_heads=2, hidden=48, context_length=64))
    with pytest.raises(ValueError, match="no mixtures"):
        offload_experts(dense, 2)
    with pytest.raises(ValueError, match="no experts of this model are offloaded"):
        offload_counters(dense)
    with pytest.raises(ValueError, match="got 0"):
        offload_experts(model, 0)
    with pytest.raises(ValueError, match="already"):
        offload_experts(offload_experts(model, 2), 2)
    lacking = {name: tensor for name, tensor in model.state_dict().items() if "experts.5.up" not in name}
    with pytest.raises(ValueError, match=r"the weights lack decoder\.blocks\.0\.feed_forward\.experts\.5\.up\.weight"):
        offload_experts(model, 2, weights=lacking)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_resident_memory_is_that_of_the_resident_experts():
    """The small version of the benchmark, in processes of their own, from a mapped file."""
    command = [sys.executable, str(BENCHMARK), "--layers", "2", "--tokens", "12", "--rounds", "1", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {row["resident"]: row for row in map(json.loads, output.splitlines())}
    expert = rows[2]["expert_bytes"]
    # Beside the resident experts there are one mapped matrix that is being copied, and some 40 MB of code and buffers
    # that the first forward of a process brings; all experts are 201 MB.
    assert rows[2]["memory"] < rows[2]["rest_bytes"] + (2 * 2 + 1) * expert + 45e6
    assert rows[4]["memory"] - rows[2]["memory"] == pytest.approx(2 * 2 * expert, rel=0.2)
    assert rows[8]["memory"] - rows[4]["memory"] < 2 * 4 * expert * 1.2
