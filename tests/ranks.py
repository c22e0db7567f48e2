"""Several processes on one machine, joined by gloo: what tests of parallel training run in.

A fork server that has imported torch once makes the processes, in a fraction of the time that starting each would take.
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
    context = _server()
    port = _free_port()
    pipes, processes = [], []
    for rank in range(count):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(rank, count, port, theirs, function, arguments), daemon=True)
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    try:
        return _answers(pipes)
    finally:
        for process in processes:
            process.join(1)
            if process.is_alive():
                process.kill()


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


def _rank(
    rank: int, count: int, port: int, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), **address)
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=SECONDS // 2))
        answer = False, function(*arguments)
        dist.barrier()  # a rank that left early would take others' connections with it
    except BaseException:
        answer = True, traceback.format_exc()
    pipe.send(answer)
    pipe.close()
    os._exit(0)  # of gloo's threads some may wait for a rank that failed


@functools.cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.tensor.parallel", "lmworks.model.transformer"])
    return context


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
