"""The worker against the engine it owns: many threads, cancellation, a full queue, an event loop."""

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import engine_cases
import numpy as np
import pytest
from engine_cases import make_engine
from listeners import Gate, Listener

from lmworks.generate import scoring
from lmworks.generate.engine import Engine
from lmworks.generate.engine_worker import EngineWorker, QueueFullError
from lmworks.generate.protocol import Completion, Delta, Request, SamplingParameters, UnsupportedError
from lmworks.records import Message
from slow_cases import slow

_LONG = SamplingParameters(max_tokens=30, ignore_eos=True)
_SAMPLINGS = (
    SamplingParameters(max_tokens=12),
    SamplingParameters(max_tokens=20, temperature=1.0, seed=1, alternatives=3),
    SamplingParameters(max_tokens=9, temperature=0.8, top_k=10, seed=2, frequency_penalty=0.5),
    SamplingParameters(max_tokens=16, temperature=1.2, top_p=0.9, seed=3, ignore_eos=True, logit_bias={9: 2.0}),
)


def _requests(count: int) -> list[Request]:
    return [Request((1, 2, n), sampling=_SAMPLINGS[n % len(_SAMPLINGS)]) for n in range(count)]


@pytest.mark.parametrize(("questions", "others"), [(8, 12), *slow((16, 32))])
def test_sixteen_threads_get_what_each_would_get_alone(tiny_llama, questions: int, others: int) -> None:
    # With the fused kernels: modules would agree to rounding only, and a draw may lie that close to a boundary.
    checkpoint = engine_cases.tiny_llama(tiny_llama.chat.template.source)
    alone = make_engine("fused", checkpoint, slots=1)
    rendered = [
        Request(messages=(Message("user", f"Question {n}?"),), sampling=_SAMPLINGS[n % len(_SAMPLINGS)])
        for n in range(questions)
    ]
    requests = [*rendered, *_requests(others)]
    expected = [alone.generate([request])[0] for request in requests]
    worker = EngineWorker(make_engine("fused", checkpoint, slots=4))

    def streamed(request: Request) -> Completion:
        listener = Listener()
        for delta in worker.stream(request):
            listener(delta)
        return listener.completion()

    with ThreadPoolExecutor(16) as pool:
        completions = list(pool.map(streamed, requests))
    assert [completion.ids for completion in completions] == [completion.ids for completion in expected]
    assert [completion.text for completion in completions] == [completion.text for completion in expected]
    assert (worker.running, worker.waiting, worker.cache_usage) == (0, 0, 0.0)
    worker.close()


def test_generate_keeps_the_order_beyond_the_queue(engine) -> None:
    requests = _requests(11)
    expected = [completion.ids for completion in engine.generate(requests)]
    worker = EngineWorker(engine, max_waiting=0)  # two slots: at most two of the eleven are in flight
    assert [completion.ids for completion in worker.generate(requests)] == expected
    assert worker.generate([]) == []
    worker.close()


def test_score_and_embed_from_several_threads_are_the_engines(tiny_llama, tiny_bert) -> None:
    engine, embedder = Engine(tiny_llama, weights="float32"), Engine(tiny_bert)
    pairs = [([1, 2, n], [n, 4, 5]) for n in range(12)]
    expected = [engine.score([context], [continuation]) for context, continuation in pairs]
    texts = [f"text {n}" for n in range(12)]
    vectors = [embedder.embed([text], "query") for text in texts]
    language, encoder = EngineWorker(engine), EngineWorker(embedder)
    beside = Listener()
    language.submit(Request((1, 2, 3), sampling=replace(_LONG, max_tokens=100)), beside)
    with ThreadPoolExecutor(6) as pool:
        scores = list(pool.map(lambda pair: language.score([pair[0]], [pair[1]]), pairs))
        embedded = list(pool.map(lambda text: encoder.embed([text], "query"), texts))
    assert scores == expected, "the same calls, so the same numbers"
    assert np.array_equal(np.stack(embedded), np.stack(vectors))
    assert beside.completion().completion_tokens == 100
    with pytest.raises(ValueError, match="give one for each"):
        language.score([[1]], [])
    with pytest.raises(UnsupportedError, match="cannot embed"):
        language.embed(["text"], "query")
    with pytest.raises(UnsupportedError, match="cannot generate"):
        encoder.submit(Request((1,)), Listener())
    assert (language.capabilities, language.checkpoint) == (engine.capabilities, tiny_llama)
    language.close()
    encoder.close()


def test_a_delta_a_step(worker, engine, monkeypatch) -> None:
    """A token each without speculation, which gives several."""
    steps, step = 0, engine.step

    def counted() -> None:
        nonlocal steps
        steps += 1
        step()

    monkeypatch.setattr(engine, "step", counted)
    told_at: list[int] = []
    listener = Listener()

    def tell(answer: Delta | Exception) -> None:
        told_at.append(steps)
        listener(answer)

    worker.submit(Request((1, 2, 3), sampling=replace(_LONG, speculate=False)), tell)
    listener.completion()
    assert len(told_at) == 30 and len(set(told_at)) == 30


def test_cancelling_while_running_and_while_waiting(worker, gate) -> None:
    running, waiting, other = Listener(), Listener(), Listener()
    for name, listener in (("running", running), ("waiting", waiting), ("other", other)):
        worker.submit(Request((1, 2, 4), sampling=_LONG, id=name), listener)
    assert (worker.running, worker.waiting) == (1, 3)
    gate.opened.set()
    while len(running.answers) < 3:
        time.sleep(0.001)
    for name in ("waiting", "running", "gate", "unknown"):
        worker.cancel(name)
    cut, never, whole = running.completion(), waiting.completion(), other.completion()
    assert cut.finish_reason == "cancelled" and 3 <= cut.completion_tokens < 30
    assert cut.ids == whole.ids[: cut.completion_tokens]  # type: ignore[index]
    assert (never.finish_reason, never.ids, never.text) == ("cancelled", (), "")
    assert never.timings.queued is None and never.timings.first_token is None and never.timings.total > 0
    assert (whole.finish_reason, whole.completion_tokens) == ("length", 30)
    worker.cancel("running")  # it is done: ignored
    assert worker.generate([Request((1,), sampling=_SAMPLINGS[0])])[0].finish_reason


def test_closing_a_stream_frees_its_slot(worker) -> None:
    stream = worker.stream(Request((1, 2, 3), sampling=replace(_LONG, max_tokens=250), id="closed"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    while worker.running:
        time.sleep(0.001)
    (completion,) = worker.generate([Request((1, 2, 3), sampling=_LONG, id="closed")])
    assert completion.completion_tokens == 30


def test_a_full_queue_refuses(engine) -> None:
    worker = EngineWorker(engine, max_waiting=3)
    gate, listeners = Gate(), [Listener() for _ in range(4)]
    worker.submit(Request((1,), sampling=_LONG), gate)
    assert gate.reached.wait(60)
    for listener in listeners:
        worker.submit(Request((2,), sampling=_LONG), listener)
    with pytest.raises(QueueFullError, match="5 requests are in flight"):
        worker.submit(Request((3,), sampling=_LONG), Listener())
    with pytest.raises(QueueFullError):
        worker.generate([Request((3,))])
    with pytest.raises(QueueFullError):
        next(worker.stream(Request((3,))))
    gate.opened.set()
    assert [listener.completion().completion_tokens for listener in [gate, *listeners]] == [30] * 5
    assert worker.generate([Request((3,), sampling=_LONG)])[0].completion_tokens == 30
    worker.close()


def test_bad_requests_are_refused_in_the_callers_thread(worker, gate) -> None:
    for request, message in (
        (Request((300,)), "outside"),
        (Request((1,) * 256), "context_length"),
        (Request((1,), sampling=SamplingParameters(logit_bias={999: 1.0})), "logit_bias"),
        (Request((1,), id="gate"), "'gate' is in use"),
    ):
        with pytest.raises(ValueError, match=message):
            worker.submit(request, Listener())
    assert (worker.running, worker.waiting) == (1, 0)


def test_times_count_from_submission(worker, gate) -> None:
    """While the gate is shut nobody enters: the time that it was provably shut is part of `queued`."""
    listener = Listener()
    worker.submit(Request((1, 2), sampling=_LONG), listener)
    submitted = time.perf_counter()
    while time.perf_counter() - submitted < 0.02:
        time.sleep(0.001)
    shut = time.perf_counter() - submitted
    gate.opened.set()
    timings = listener.completion().timings
    assert timings.queued is not None and timings.first_token is not None
    assert shut <= timings.queued <= timings.first_token <= timings.total


def test_weights_change_between_requests_and_not_under_them(worker, gate, tiny_llama) -> None:
    state = {name: tensor * 1.1 for name, tensor in tiny_llama.model.state_dict().items()}
    loading = ThreadPoolExecutor(1).submit(worker.call, Engine.load_weights, state, 3)
    while not worker._inbox:
        time.sleep(0.001)
    gate.opened.set()
    with pytest.raises(RuntimeError, match="in flight"):
        loading.result(60)
    assert gate.completion().policy_version == 0
    worker.call(Engine.load_weights, state, 3)
    assert worker.generate([Request((1,), sampling=_LONG)])[0].policy_version == 3


def test_an_event_loop_listens(worker) -> None:
    async def ask(request: Request) -> str:
        loop, answers = asyncio.get_running_loop(), asyncio.Queue()
        worker.submit(request, lambda answer: loop.call_soon_threadsafe(answers.put_nowait, answer))
        text = ""
        while True:
            delta = await answers.get()
            text += delta.text
            if delta.completion is not None:
                assert text == delta.completion.text
                return text

    async def ask_all() -> list[str]:
        return await asyncio.gather(*map(ask, _requests(8)))

    expected = [completion.text for completion in worker.generate(_requests(8))]
    assert asyncio.run(ask_all()) == expected


def test_every_request_ends_exactly_once_whatever_is_cancelled_when(tiny_llama) -> None:
    worker = EngineWorker(Engine(tiny_llama, slots=3, weights="float32"), max_waiting=200)
    listeners: list[Listener] = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        mine = []
        for n in range(12):
            listeners.append(listener := Listener())
            sampling = replace(_LONG, max_tokens=chance.randint(1, 12))
            mine.append(worker.submit(Request((1, seed, n), sampling=sampling), listener))
            if chance.random() < 0.5:
                worker.cancel(chance.choice(mine))
            time.sleep(chance.random() * 0.003)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reasons = [listener.completion().finish_reason for listener in listeners]
    assert len(reasons) == 96 and set(reasons) <= {"length", "cancelled"} and "length" in reasons
    worker.close()
    assert (worker.running, worker.waiting) == (0, 0)


def test_requests_go_on_while_much_is_scored(worker, gate, tiny_llama, monkeypatch) -> None:
    """Forty pairs of 200 tokens are many forwards: a request of four steps is done long before the last of them."""
    contexts, continuations = [[n] * 150 for n in range(40)], [[n, 4] * 25 for n in range(40)]
    expected = Engine(tiny_llama, slots=2, weights="float32").score(contexts, continuations)
    scored, run = 0, scoring._Scoring.run

    def counted(*arguments):
        nonlocal scored
        scored += 1
        return run(*arguments)

    monkeypatch.setattr(scoring._Scoring, "run", counted)  # twice for each batch
    told: list[int] = []
    beside = Listener()

    def tell(answer: Delta | Exception) -> None:
        told.append(scored)
        beside(answer)

    scores = ThreadPoolExecutor(1).submit(worker.score, contexts, continuations)
    while not worker._inbox:
        time.sleep(0.001)
    worker.submit(Request((1, 2), sampling=SamplingParameters(max_tokens=4, ignore_eos=True)), tell)
    gate.opened.set()
    assert beside.completion().completion_tokens == 4
    assert len(told) == 4 and max(told) < 10
    assert scores.result(60) == expected
    assert scored > 20


def test_weights_do_not_change_under_scores(worker, gate, tiny_llama) -> None:
    state = dict(tiny_llama.model.state_dict())
    contexts, continuations = [[n] * 150 for n in range(40)], [[n, 4] * 25 for n in range(40)]
    with ThreadPoolExecutor(2) as pool:
        scores = pool.submit(worker.score, contexts, continuations)
        while not worker._inbox:
            time.sleep(0.001)
        loading = pool.submit(worker.call, Engine.load_weights, state, 3)
        while len(worker._inbox) < 2:
            time.sleep(0.001)
        gate.opened.set()
        with pytest.raises(RuntimeError, match="scores or searches are in flight"):
            loading.result(60)
        assert len(scores.result(60)) == 40
    assert gate.completion().completion_tokens == 30
    worker.call(Engine.load_weights, state, 3)


def test_close_cuts_scores_off(engine) -> None:
    worker = EngineWorker(engine)
    gate = Gate()
    worker.submit(Request((1,), sampling=_LONG), gate)
    assert gate.reached.wait(60)
    scores = ThreadPoolExecutor(1).submit(worker.score, [[1]], [[2]])
    while not worker._inbox:
        time.sleep(0.001)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker._closed:
        time.sleep(0.001)
    gate.opened.set()
    with pytest.raises(RuntimeError, match="closed before the work"):
        scores.result(60)
    closing.join(60)
    assert not closing.is_alive()


def test_a_limit_of_deltas_joins_tokens_and_loses_none(tiny_llama) -> None:
    """The first token and the last come at once; between them the pieces are as few as the limit says."""
    engine = Engine(tiny_llama, slots=2, weights="float32")
    expected = engine.generate([Request((1, 2, 3), sampling=replace(_LONG, max_tokens=100))])[0]
    worker = EngineWorker(engine, deltas_per_second=0.5)  # a pause of two seconds: longer than all 100 tokens take
    deltas = list(worker.stream(Request((1, 2, 3), sampling=replace(_LONG, max_tokens=100))))
    worker.close()
    assert len(deltas[0].tokens) == 1 and len(deltas) < 20
    assert "".join(delta.text for delta in deltas) == expected.text
    assert tuple(token.id for delta in deltas for token in delta.tokens) == expected.ids
    with pytest.raises(ValueError, match="above 0"):
        EngineWorker(engine, deltas_per_second=0)


def test_with_a_limit_all_requests_are_told_in_the_same_step(tiny_llama) -> None:
    """Whoever listens to them is woken up once."""
    worker = EngineWorker(Engine(tiny_llama, slots=4, weights="float32"), deltas_per_second=300)
    told: list[str] = []

    class Named(Listener):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def __call__(self, item: Delta | Exception) -> None:
            told.append(self.name)
            super().__call__(item)

    gate, listeners = Gate(), [Named(name) for name in "abc"]
    worker.submit(Request((1,), sampling=replace(_LONG, max_tokens=2)), gate)
    assert gate.reached.wait(60)
    for number, listener in enumerate(listeners):
        worker.submit(Request((1, 2, number), sampling=replace(_LONG, max_tokens=100)), listener)
    gate.opened.set()
    for listener in listeners:
        assert listener.completion().completion_tokens == 100
    worker.close()
    assert len(told) > 9 and all(told[at : at + 3] == ["a", "b", "c"] for at in range(0, len(told), 3))
