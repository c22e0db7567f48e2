"""The benchmark of the engine: speeds under a clock that counts steps, shares in closed form, a real process."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate import benchmark
from lmworks.generate.benchmark import Limits, Settings, Speed, Workload
from lmworks.generate.engine import Engine
from lmworks.kernels import library
from lmworks.kernels.library import Library
from lmworks.kernels.weight_formats import FORMATS
from lmworks.model.config import LanguageModelHead
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets import llama, mixtral


@pytest.fixture
def stepping(monkeypatch):
    """Makes an engine whose every step takes a second of the benchmark's clock, and nothing else any time."""
    now = [0.0]

    def make(checkpoint, **arguments) -> Engine:
        engine = Engine(checkpoint, weights="float32", **arguments)
        step = engine.step

        def counted() -> None:
            now[0] += 1
            step()

        monkeypatch.setattr(engine, "step", counted)
        return engine

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    return make


def test_speeds_are_tokens_over_the_steps_that_they_took(stepping, tiny_llama) -> None:
    engine = stepping(tiny_llama, slots=2)
    prompts = benchmark.prompts(Workload(prompt=8, sequences=2, new=5), 260, 0)
    # One step reads both prompts and gives the first tokens, four give the rest.
    assert benchmark.run_workload(engine, prompts, 5) == Speed(prefill=16.0, decode=8 / 4)
    assert engine.batcher.idle


def test_tokens_made_while_others_enter_are_not_counted_as_decoded_later(stepping, tiny_llama) -> None:
    engine = stepping(tiny_llama, slots=1)
    prompts = benchmark.prompts(Workload(prompt=8, sequences=2, new=5), 260, 0)
    # One after the other: 5 steps, then the second one's first token; its other 4 come in 4 steps.
    assert benchmark.run_workload(engine, prompts, 5) == Speed(prefill=16 / 6, decode=1.0)


def test_nothing_is_guessed_and_no_end_token_ends_a_run(stepping, tiny_llama) -> None:
    # A prompt of one token again and again is what guessing is best at, and what a small model answers alike.
    engine = stepping(tiny_llama, slots=1)
    assert benchmark.run_workload(engine, [[7] * 8], 100) == Speed(prefill=8.0, decode=1.0)


def test_a_request_that_fails_raises(tiny_llama) -> None:
    engine = Engine(tiny_llama, slots=1, weights="float32")
    state = {name: tensor * float("nan") for name, tensor in tiny_llama.model.state_dict().items()}
    engine.load_weights(state, 1)
    with pytest.raises(FloatingPointError):
        benchmark.run_workload(engine, [[1, 2, 3]], 4)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(2, 500), st.integers(0, 5))
def test_prompts_are_the_same_for_everybody_and_new_in_every_round(prompt, sequences, vocabulary, round_) -> None:
    workload = Workload(prompt, sequences, new=2)
    ids = benchmark.prompts(workload, vocabulary, round_)
    assert ids == benchmark.prompts(workload, vocabulary, round_)
    assert [len(one) for one in ids] == [prompt] * sequences
    assert all(0 <= token < vocabulary for one in ids for token in one)


def test_no_two_prompts_begin_alike() -> None:
    # A common beginning would be found in the cache instead of being computed; 16 tokens are its smallest part.
    workload = Workload(prompt=16, sequences=16, new=2)
    ids = [one for round_ in range(4) for one in benchmark.prompts(workload, 49_152, round_)]
    assert len({one[:2] for one in ids}) == len(ids)


@for_each("wrong", [{"prompt": 0}, {"sequences": 0}, {"new": 1}])
def test_a_workload_without_a_speed_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="2 new tokens"):
        Workload(**{"prompt": 4, "sequences": 1, "new": 2, **wrong})


def test_weights_read_at_the_whole_bandwidth_are_the_whole_limit() -> None:
    limits = Limits(bandwidth=50e9, operations=2e12, method="given")
    assert benchmark.share_read(500, 100e6, 1, limits) == 1.0
    assert benchmark.share_read(4000, 100e6, 16, limits) == 0.5  # 250 readings a second
    assert benchmark.share_multiplied(1000, 200_000_000, limits) == pytest.approx(0.1)


def test_bytes_read_are_those_that_are_multiplied() -> None:
    tied = llama(1000, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context_length=64, tied=True)
    untied = replace(tied, head=LanguageModelHead(tied=False))
    norms = 5 * 32
    assert benchmark.read_bytes_per_token(tied, count_parameters(tied)) == count_parameters(tied) - norms
    table = 1000 * 32  # looked up, one row a token
    assert benchmark.read_bytes_per_token(untied, count_parameters(untied)) == count_parameters(tied) - norms
    assert count_parameters(untied) == count_parameters(tied) + table
    assert benchmark.read_bytes_per_token(tied, 10 * count_parameters(tied)) == pytest.approx(
        10 * benchmark.read_bytes_per_token(tied, count_parameters(tied))
    )


def test_idle_experts_are_not_read() -> None:
    sizes = {"layers": 2, "heads": 4, "kv_heads": 2, "hidden": 64, "context_length": 64}
    few, many = (mixtral(100, width=32, experts=experts, **sizes) for experts in (4, 8))
    router = 2 * 4 * 32  # the larger router is read, in both layers
    read = [benchmark.read_bytes_per_token(config, count_parameters(config)) for config in (few, many)]
    assert read[1] - read[0] == pytest.approx(router)


def test_the_head_is_computed_for_new_tokens_only() -> None:
    config = llama(1000, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context_length=512, tied=True)
    prefill, decode = benchmark.operations_per_token(config, Workload(prompt=128, sequences=1, new=32))
    attention = 2 * 4 * 4 * 8 * ((128 + 16) - 64)  # layers · 4 · heads · head_dim · how much further a new token sees
    assert decode - prefill == 2 * 1000 * 32 + attention


@pytest.fixture
def kernels_of_two_threads() -> Iterator[Library]:
    kernels = library.load(library.available()[0])
    assert kernels is not None
    threads = kernels.threads
    kernels.set_threads(2)
    yield kernels
    kernels.set_threads(threads)


@pytest.fixture
def clock(monkeypatch):
    """Sets how long the passes of each measurement take, in seconds; a measurement ends after five of them."""

    def set_(*passes: float) -> None:
        assert len(passes) == benchmark._LEAST_PASSES and sum(passes) > benchmark._SECONDS
        times = itertools.cycle([moment for seconds in passes for moment in (0.0, seconds)])
        monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(times))

    return set_


def test_limits_are_work_over_the_fastest_pass(clock, kernels_of_two_threads) -> None:
    clock(3.0, 3.0, 0.5, 3.0, 3.0)
    limits = benchmark.measure_limits(kernels_of_two_threads)
    assert limits is not None and kernels_of_two_threads.name in limits.method
    assert limits.bandwidth * 0.5 >= 2**28
    most = max(library.multiply_ones(format_, kernels_of_two_threads) for format_ in FORMATS)
    assert limits.operations == 2 * most / 0.5
    assert (
        "with int8 weights" in limits.method
    )  # four of them are multiplied where one float32 is, in the same time here


def test_of_two_measurements_the_higher_limits_count() -> None:
    quiet = Limits(bandwidth=80e9, operations=1e12, method="one")
    busy = Limits(bandwidth=40e9, operations=2e12, method="other")
    for found in (quiet.higher(busy), busy.higher(quiet)):
        assert found == replace(busy, bandwidth=80e9)


def test_without_kernels_there_are_no_limits(monkeypatch) -> None:
    monkeypatch.setattr(benchmark.library, "load", lambda: None)
    assert benchmark.measure_limits() is None


def test_a_process_of_its_own_reports_a_format(tiny_llama, tmp_path) -> None:
    source = str(tiny_llama.save(tmp_path / "tiny"))
    workloads = (Workload(20, 1, 4), Workload(5, 3, 4))
    before = torch.get_num_threads()
    settings = Settings(source, workloads, rounds=2, threads=1)
    report = benchmark.in_a_process(1, benchmark.measure_format, settings, "bfloat16", time.monotonic())
    assert torch.get_num_threads() == before
    assert report.weights == "bfloat16"
    assert [len(speeds) for speeds in report.speeds] == [2, 2]
    assert all(speed.prefill > 0 and speed.decode > 0 for speeds in report.speeds for speed in speeds)
    # 2 bytes a value, 4 for norms; the kernels pad rows of 48 to 64 values. float32 would take 4, int8 about 1.
    assert 2 <= report.sizes["weights"] / count_parameters(tiny_llama.config) < 3.2
    assert 0 <= report.resident <= report.peak
    assert 0.1 < report.first_token < 60  # seconds: a process cannot import torch and load a model in less


@pytest.mark.slow
def test_threads_hold_for_the_whole_process() -> None:
    before = torch.get_num_threads()
    limits = benchmark.in_a_process(1, benchmark.measure_limits)
    assert limits is not None and "on 1 thread:" in limits.method
    assert torch.get_num_threads() == before
