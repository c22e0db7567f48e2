"""The worker when steps, logits, listeners or its own thread fail, and when it is closed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from listeners import Gate, Listener

from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import Completion, Delta, Request, SamplingParameters

_LONG = SamplingParameters(max_tokens=30, ignore_eos=True)


def test_a_failing_step_fails_those_that_run_and_the_worker_lives_on(worker, gate, engine, monkeypatch, caplog) -> None:
    runner = engine.batcher.runner
    forward = runner.forward

    def failing(*arguments, **named):
        if engine.running < 2:
            return forward(*arguments, **named)
        monkeypatch.setattr(runner, "forward", forward)
        raise MemoryError("no memory")

    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        worker.submit(Request((1, 2), sampling=_LONG), listener)
    monkeypatch.setattr(runner, "forward", failing)
    gate.opened.set()
    ends = [listener.end() for listener in [gate, *listeners]]
    assert [type(end) for end in ends] == [MemoryError, MemoryError, Completion, Completion]
    assert "a step of the engine failed" in caplog.text
    assert worker.generate([Request((1, 2), sampling=_LONG)])[0].ids == listeners[2].completion().ids


def test_logits_that_are_not_finite_fail_one_listener(worker, gate, engine, monkeypatch) -> None:
    """The second row of the next decoding step is NaN: that is the neighbour of the gate."""
    beside = Listener()
    worker.submit(Request((1, 2), sampling=_LONG), beside)
    logits_of = engine.batcher.runner.model.logits

    def broken(hidden: torch.Tensor) -> torch.Tensor:
        logits = logits_of(hidden)
        if len(beside.answers) == 1:
            logits[1] = float("nan")
        return logits

    monkeypatch.setattr(engine.batcher.runner.model, "logits", broken)
    gate.opened.set()
    assert isinstance(beside.end(), FloatingPointError)
    assert gate.completion().completion_tokens == 30


def test_a_listener_that_raises_ends_its_own_request_alone(worker, gate, caplog) -> None:
    calls = []

    def broken(answer: Delta | Exception) -> None:
        calls.append(answer)
        raise OSError("the client is gone")

    good = Listener()
    worker.submit(Request((1, 2), sampling=_LONG, id="broken"), broken)
    worker.submit(Request((1, 3), sampling=_LONG), good)
    gate.opened.set()
    assert good.completion().completion_tokens == gate.completion().completion_tokens == 30
    assert len(calls) == 1 and "the client is gone" in caplog.text
    worker.submit(Request((1,), sampling=_LONG, id="broken"), again := Listener())
    assert again.completion().completion_tokens == 30, "the id is free again"


def test_a_listener_must_not_wait_for_its_own_thread(worker) -> None:
    refused: list[Exception] = []
    ended = threading.Event()
    request = Request((1,), sampling=SamplingParameters(max_tokens=1))

    def listener(answer: Delta | Exception) -> None:
        for call in (lambda: worker.score([[1]], [[2]]), lambda: worker.generate([request]), worker.close):
            try:
                call()
            except RuntimeError as error:
                refused.append(error)
        ended.set()

    worker.submit(request, listener)
    assert ended.wait(60)
    assert [str(error) for error in refused] == [
        "a listener runs on the worker's own thread and must not wait for it"
    ] * 3


def test_close_drains_and_then_refuses(engine) -> None:
    worker = EngineWorker(engine)
    listeners = [Listener() for _ in range(5)]
    for n, listener in enumerate(listeners):
        worker.submit(Request((1, 2, n), sampling=_LONG), listener)
    worker.close(drain_seconds=60)
    assert [listener.completion().finish_reason for listener in listeners] == ["length"] * 5
    for call in (
        lambda: worker.submit(Request((1,)), Listener()),
        lambda: worker.generate([Request((1,))]),
        lambda: next(worker.stream(Request((1,)))),
        lambda: worker.score([[1]], [[2]]),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    worker.close()  # again: nothing happens
    worker.cancel("anything")


def test_close_without_draining_cancels_what_is_in_flight(engine) -> None:
    worker = EngineWorker(engine)
    gate, listeners = Gate(), [Listener() for _ in range(5)]
    worker.submit(Request((1,), sampling=_LONG), gate)
    assert gate.reached.wait(60)
    for listener in listeners:
        worker.submit(Request((1, 2), sampling=_LONG), listener)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker._closed:
        time.sleep(0.001)
    gate.opened.set()
    closing.join(60)
    assert not closing.is_alive()
    completions = [listener.completion() for listener in [gate, *listeners]]
    assert [completion.finish_reason for completion in completions] == ["cancelled"] * 6
    assert [completion.completion_tokens for completion in completions] == [1, 0, 0, 0, 0, 0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_is_left_waiting_when_the_thread_itself_breaks(engine, monkeypatch) -> None:
    worker = EngineWorker(engine)
    gate, listener = Gate(), Listener()
    worker.submit(Request((1,), sampling=_LONG), gate)
    assert gate.reached.wait(60)
    worker.submit(Request((2,), sampling=_LONG), listener)
    scoring = ThreadPoolExecutor(1).submit(worker.score, [[1]], [[2]])
    while len(worker._inbox) < 2:
        time.sleep(0.001)

    def broken() -> None:
        raise OSError("a defect")

    monkeypatch.setattr(worker, "_step", broken)
    gate.opened.set()
    assert [str(end.end()) for end in (gate, listener)] == ["the engine's thread ended: OSError('a defect')"] * 2
    with pytest.raises(RuntimeError, match="thread ended"):
        scoring.result(60)
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(Request((1,)), Listener())
    worker.close()
