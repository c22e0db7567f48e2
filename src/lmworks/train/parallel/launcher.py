"""A training stage on several processes: how they are started, restarted and ended.

`run_stage` runs a stage. Where its config's `train.parallel` asks for several processes, it starts torchrun on this
machine with as many workers (`rank_worker.py`), each of which runs the stage from the same task; the first one reports
progress as lines on its standard output and leaves its answer in a file. When a worker dies, torchrun ends the others
and records which, all are restarted, and the run resumes from its last checkpoint. The workers' standard input is a
pipe from here: when it closes, because the user interrupts or this process is gone, they finish their step, save and
end.

On a cluster the user starts torchrun on each machine, with the command line itself as its program. Then the first
process is the one that builds, and the others wait for it to come to a training stage (`follow`). All see one disk.
"""

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.progress import Report
from lmworks.stage import resolve
from lmworks.train.interruption import Interruption, interruptions
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.rank_worker import ANSWER, DEATH, ERRORS, Answer, Death, Task, trace_of

RESTARTS = 3  # of all workers, when one died
_POLL = 0.2  # seconds between two looks at whether the user interrupts
_GRACE = 10.0  # seconds between the answer, the last thing that the first process does, and the end of the others
_PATIENCE = timedelta(days=365)  # of those that wait for a training stage


def run_stage(stage: str, config: Any, context: StageContext) -> StageResult:
    """The result of a stage's function, "module:name", run here or on as many processes as its config asks for.

    Raises what the stage raises; ChildProcessError where its processes died more than `RESTARTS` times.
    """
    parallel = getattr(getattr(config, "train", None), "parallel", None)
    if not isinstance(parallel, ParallelConfig) or parallel.devices == 1:
        return resolve(stage)(config, context)
    task = Task.of(stage, config, context)
    if started_by_torchrun():
        _publish(json.dumps(to_mapping(task)))
        return task.run(context.progress)
    return _launch(task, parallel.devices, context.progress)


# ---------------------------------------------------------------------------------------------------------------------
# Workers on this machine


def _launch(task: Task, processes: int, progress: Report) -> StageResult:
    file, failure = task.folder / "task.json", ""
    traces = [trace_of(task.folder, rank) for rank in range(processes)]
    write_json(file, task)
    for restart in range(RESTARTS + 1):
        for path in (task.folder / ANSWER, task.folder / DEATH, *traces):  # of an earlier start
            path.unlink(missing_ok=True)
        if restart:
            print(f"{failure}. All are started again, {restart} of {RESTARTS} times", file=sys.stderr)
        with interruptions() as interruption, _torchrun(file, processes) as process:
            for line in _read_lines(process, interruption, task.folder / ANSWER):
                try:
                    done, total, unit, kept, note = json.loads(line)["progress"]
                except (ValueError, KeyError, TypeError):  # what anything else printed
                    print(line.decode("utf-8", "replace"), file=sys.stderr)
                else:
                    progress(done, total, unit, kept, note)
        answer = Answer.read(task.folder)
        if answer is not None and answer.error is not None:
            raise ERRORS[answer.error](answer.message)
        interruption.raise_again(answer.message if answer is not None else "")
        if answer is not None and answer.result is not None:
            return answer.result
        if answer is not None:
            raise ChildProcessError(
                "the processes of the training were stopped by a signal to one of them: the same command continues "
                "from the last checkpoint"
            )
        failure = _describe_failure(task, processes, process.returncode)
    raise ChildProcessError(f"{failure}, which the same command does. It was started again {RESTARTS} times")


def _describe_failure(task: Task, processes: int, status: int) -> str:
    """A sentence on the process that died, the cause, and where the run can be resumed."""
    death = Death.read(task.folder)
    if death is None:
        what = f"the {processes} processes of the training ended with status {status}"
    elif death.signal is None:
        trace = trace_of(task.folder, death.rank)
        print(trace.read_text("utf-8") if trace.exists() else "", end="", file=sys.stderr)
        what = f"rank {death.rank} of the training's {processes} processes failed, as written above"
    else:
        reason = ", as the system does where memory runs out" if death.signal == signal.SIGKILL else ""
        name = signal.Signals(death.signal).name
        what = f"rank {death.rank} of the training's {processes} processes was ended by {name}{reason}"
    saved = sorted((Path(task.context["work"]) / "run" / "checkpoints").glob("step-*"))
    return f"{what}. The run can continue from {f'its last checkpoint, {saved[-1]}' if saved else 'its beginning'}"


@contextmanager
def _torchrun(task: Path, processes: int) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own: a Ctrl-C is for this process, which passes it on once."""
    command = [sys.executable, "-m", "lmworks.train.parallel.rank_worker", "start", str(task), str(processes)]
    threads = str(max((os.cpu_count() or 1) // processes, 1))
    # A sentence takes the place of what torchrun logs of a death.
    environment = {"OMP_NUM_THREADS": threads, "LOGLEVEL": "CRITICAL", **os.environ}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def _read_lines(process: subprocess.Popen[bytes], interruption: Interruption, answer: Path) -> Iterator[bytes]:
    """The lines that the workers print, until they have ended; when the user interrupts, their input ends.

    Workers that wait for the first one after its answer, as they do where it was stopped before all met, are ended.
    """
    assert process.stdin is not None and process.stdout is not None
    unread, answered = b"", None
    while True:
        if interruption.signal is not None and not process.stdin.closed:
            process.stdin.close()
        if answered is None and answer.exists():
            answered = time.monotonic()
        if answered is not None and time.monotonic() > answered + _GRACE:
            process.terminate()
            answered = math.inf  # once: torchrun may be ending them
        if not select.select([process.stdout], [], [], _POLL)[0]:
            continue
        if not (read := os.read(process.stdout.fileno(), 1 << 16)):
            process.wait()
            return
        *lines, unread = (unread + read).split(b"\n")
        yield from lines


# ---------------------------------------------------------------------------------------------------------------------
# Processes that torchrun started with the command line


def started_by_torchrun() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether this process is one that waits for the first to come to a training stage."""
    return started_by_torchrun() and os.environ["RANK"] != "0"


def follow() -> None:
    """Runs the training stages that the first process comes to, until it ends."""
    number = 0
    while text := _store().get(str(number)).decode():
        from_mapping(Task, json.loads(text)).run()
        number += 1


@contextmanager
def leading() -> Iterator[None]:
    """Around all that the first process does, so that the others end with it; for a process alone it does nothing."""
    try:
        yield
    finally:
        if started_by_torchrun():
            _publish("")


_published = 0


def _publish(text: str) -> None:
    global _published
    _store().set(str(_published), text)
    _published += 1


def _store() -> Any:
    """The store of tasks, in which the wait for one has no limit."""
    from lmworks.train.parallel.ranks import store_of_start

    return store_of_start("tasks", _PATIENCE)
