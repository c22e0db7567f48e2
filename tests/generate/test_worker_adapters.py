"""Adapters that come and go while requests run, held against engines of merged models."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from listeners import Gate, Listener

from lmworks.adapt import Lora, LoraConfig, initialise_lora, merge
from lmworks.generate.engine import Engine
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import BeamParameters, Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from slow_cases import slow

PROMPT = tuple(range(2, 40))  # more than two pages, which are found again
PLAIN = Request(PROMPT, sampling=SamplingParameters(max_tokens=12, ignore_eos=True))


@pytest.fixture(scope="module")
def loras(tiny_llama: Checkpoint) -> list[Lora]:
    made = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        fresh = initialise_lora(tiny_llama.config, LoraConfig(r=2 + seed), generator).changes
        changes = {n: c._replace(b=0.3 * torch.randn(c.b.shape, generator=generator)) for n, c in fresh.items()}
        made.append(Lora(changes))
    return made


@pytest.fixture(scope="module")
def expected(tiny_llama: Checkpoint, loras: list[Lora]) -> dict[str, tuple[int, ...]]:
    """The ids of `PLAIN` by fingerprint of the adapter; "" is the base."""
    models = {"": tiny_llama.model, **{lora.fingerprint: merge(tiny_llama.model, lora) for lora in loras}}
    made = {}
    for name, model in models.items():
        made[name] = Engine(tiny_llama.with_model(model), weights="float32").generate([PLAIN])[0].ids or ()
    assert len(set(made.values())) == len(made)
    return made


@pytest.fixture(params=[True, False], ids=["fused", "modules"])
def worker(request, tiny_llama: Checkpoint):
    worker = EngineWorker(Engine(tiny_llama, slots=4, weights="float32", lowered=request.param))
    yield worker
    worker.close()


def test_a_name_can_change_its_adapter_and_nothing_of_the_old_one_is_found(worker, loras, expected) -> None:
    """Neither its weights nor the keys and values that were cached for it; and the other adapter stays what it was."""
    worker.call(Engine.load_adapter, "other", loras[2])
    for lora in (loras[0], loras[1], loras[0]):
        worker.call(Engine.load_adapter, "one", lora)
        assert worker.adapters == {"other": loras[2].fingerprint, "one": lora.fingerprint}
        answers = worker.generate([replace(PLAIN, adapter=name) for name in ("one", "", "other", "one")])
        wanted = [lora.fingerprint, "", loras[2].fingerprint, lora.fingerprint]
        assert [answer.ids for answer in answers] == [expected[name] for name in wanted]
        worker.call(Engine.unload_adapter, "one")
        with pytest.raises(ValueError, match="no adapter 'one' is loaded"):
            worker.submit(replace(PLAIN, adapter="one"), Listener())


def test_an_adapter_is_not_unloaded_under_who_uses_it(worker, loras, expected) -> None:
    worker.call(Engine.load_adapter, "one", loras[0])
    worker.call(Engine.load_adapter, "two", loras[1])
    gate = Gate()
    worker.submit(Request((1, 2), sampling=replace(PLAIN.sampling, max_tokens=2)), gate)
    gate.reached.wait(60)
    listener = Listener()
    worker.submit(replace(PLAIN, adapter="one"), listener)
    with ThreadPoolExecutor() as pool:
        refused, done = (
            pool.submit(worker.call, Engine.unload_adapter, "one"),
            pool.submit(worker.call, Engine.unload_adapter, "two"),
        )
        gate.opened.set()
        with pytest.raises(RuntimeError, match="adapter 'one' is in use: let its requests finish"):
            refused.result()
        done.result()
    assert listener.completion().ids == expected[loras[0].fingerprint]
    assert set(worker.adapters) == {"one"}
    worker.call(Engine.unload_adapter, "one")
    with pytest.raises(KeyError):
        worker.call(Engine.unload_adapter, "one")


def test_a_request_whose_adapter_goes_before_it_begins_fails_alone(worker, loras, expected) -> None:
    worker.call(Engine.load_adapter, "one", loras[0])
    gate, late, beside = Gate(), Listener(), Listener()
    worker.submit(Request((1, 2), sampling=replace(PLAIN.sampling, max_tokens=2)), gate)
    gate.reached.wait(60)
    with ThreadPoolExecutor() as pool:
        unloading = pool.submit(worker.call, Engine.unload_adapter, "one")
        while not worker._inbox:  # it stands in line before the two requests, which find the adapter still there
            time.sleep(0.001)
        worker.submit(replace(PLAIN, adapter="one"), late)
        worker.submit(PLAIN, beside)
        search = pool.submit(worker.search, replace(PLAIN, adapter="one"), BeamParameters(beams=2))
        while len(worker._inbox) < 4:
            time.sleep(0.001)
        gate.opened.set()
        unloading.result()
        with pytest.raises(ValueError, match="adapter 'one' was unloaded"):
            search.result()
    error = late.end()
    assert isinstance(error, ValueError) and "adapter 'one' was unloaded" in str(error)
    assert beside.completion().ids == expected[""]
    assert (worker.running, worker.waiting, worker.cache_usage) == (0, 0, 0.0)


def test_adapters_are_told_as_soon_as_they_are_there_and_no_longer(worker, loras) -> None:
    """Whoever is next on the worker's thread sees them, however late the thread that asked for them goes on."""
    gate = Gate()
    worker.submit(Request((1, 2), sampling=replace(PLAIN.sampling, max_tokens=2)), gate)
    gate.reached.wait(60)
    with ThreadPoolExecutor() as pool:
        loading = pool.submit(worker.call, Engine.load_adapter, "one", loras[0])
        while len(worker._inbox) < 1:
            time.sleep(0.001)
        loaded = pool.submit(worker.call, lambda engine: dict(engine.adapters))
        while len(worker._inbox) < 2:
            time.sleep(0.001)
        unloading = pool.submit(worker.call, Engine.unload_adapter, "one")
        while len(worker._inbox) < 3:
            time.sleep(0.001)
        unloaded = pool.submit(worker.call, lambda engine: dict(engine.adapters))
        while len(worker._inbox) < 4:
            time.sleep(0.001)
        gate.opened.set()
        assert loaded.result() == {"one": loras[0].fingerprint} and unloaded.result() == {}
        assert (loading.result(), unloading.result(), worker.adapters) == (None, None, {})


def test_what_is_loaded_must_fit_and_have_a_name_of_its_own(worker, loras, expected) -> None:
    worker.call(Engine.load_adapter, "one", loras[0])
    strange = Lora({name.replace("0", "7"): change for name, change in loras[1].changes.items()})
    for name, lora in (("one", loras[1]), ("", loras[1]), ("two", strange)):
        with pytest.raises(ValueError, match=r"not in use|of another model"):
            worker.call(Engine.load_adapter, name, lora)
    assert worker.adapters == {"one": loras[0].fingerprint}
    (answer,) = worker.generate([replace(PLAIN, adapter="one")])
    assert answer.ids == expected[loras[0].fingerprint]


@pytest.mark.parametrize(("threads", "swaps"), [(5, 2), *slow((6, 4))])
def test_threads_that_swap_adapters_change_no_completion(worker, loras, expected, threads: int, swaps: int) -> None:
    """Each thread has a name of its own, whose adapter changes; the worker's slots are fewer than the threads."""
    before = threading.active_count()

    def swap(number: int) -> None:
        draw, name = random.Random(number), f"name {number}"
        for _ in range(swaps):
            lora = draw.choice(loras)
            worker.call(Engine.load_adapter, name, lora)
            adapted, base = worker.generate([replace(PLAIN, adapter=name), PLAIN])
            assert (adapted.ids, base.ids) == (expected[lora.fingerprint], expected[""])
            worker.call(Engine.unload_adapter, name)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(swap, range(threads)))
    assert (worker.adapters, worker.cache_usage) == ({}, 0.0)
    assert threading.active_count() <= before + 1
