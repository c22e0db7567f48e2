"""Several processes on one machine, joined by gloo: what tests of parallel training run in.

They are started once, by a fork server that has imported torch, and asked one thing after the other: starting them
takes longer than what most tests ask. For each question they meet anew, so that no group is left of the one before.
"""

import functools
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

SECONDS = 240  # after which processes that wait for each other are given up


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returns on each of `count` ranks, in their order.

    `function` is defined at the top of a module, which the processes import; what it takes and returns is pickled. In
    it `torch.distributed` is initialised. AssertionError with the first failing rank's traceback where one raises.
    """
    while len(_ranks) < count:
        _ranks.append(_start())
    pipes, port = [pipe for pipe, _ in _ranks[:count]], _free_port()
    for rank, pipe in enumerate(pipes):
        pipe.send((rank, count, port, function, arguments))
    try:
        return _answers(pipes)
    except BaseException:
        for _, process in _ranks:  # which may wait for one that failed
            process.kill()
        _ranks.clear()
        raise


_ranks: list[tuple[Connection, Any]] = []


def _start() -> tuple[Connection, Any]:
    mine, theirs = _server().Pipe()
    process = _server().Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return mine, process


def _answers(pipes: list[Connection]) -> list[Any]:
    answers: dict[int, Any] = {}
    while len(answers) < len(pipes):
        waiting = [pipe for number, pipe in enumerate(pipes) if number not in answers]
        ready = wait(waiting, SECONDS)
        assert ready, f"ranks {sorted(set(range(len(pipes))) - set(answers))} did not answer within {SECONDS} seconds"
        for pipe in ready:
            rank = pipes.index(pipe)  # type: ignore[arg-type]
            try:
                failed, answer = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                failed, answer = True, "the process died"
            assert not failed, f"rank {rank}: {answer}"
            answers[rank] = answer
    return [answers[rank] for rank in range(len(pipes))]


def _serve(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            os._exit(0)
        except Exception:  # of a module that cannot be imported
            pipe.send((True, traceback.format_exc()))
            continue
        pipe.send(_answer(*question))


def _answer(
    rank: int, count: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[bool, Any]:
    import torch.distributed as dist

    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), **address)
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS // 2))
        answer = function(*arguments)
        dist.barrier()  # a rank that left early would take others' connections with it
        dist.destroy_process_group()
    except BaseException:
        return True, traceback.format_exc()
    return False, answer


@functools.cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.tensor.parallel", "lmworks.model.transformer"])
    return context


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
