"""Processes that a stage starts: their result is that of one, whatever is killed on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from kit.tables import for_each
from lmworks.artefact import StageContext
from lmworks.config import from_mapping, to_mapping
from lmworks.train.config import CheckpointConfig, PretrainConfig, TrainConfig
from lmworks.train.loss_guard import TrainingStoppedError
from lmworks.train.parallel import launcher, rank_worker
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.launcher import run_stage
from lmworks.train.parallel.rank_worker import Answer, Death, Task, _order, trace_of
from lmworks.train.parallel.ranks import join
from lmworks.train.run_log import LOG, read_log
from lmworks.train.train_stages import pretrain
from training_cases import stage_inputs

STAGE = "lmworks.train.train_stages:pretrain"
SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path

    from train.parallel.test_launcher import run_in

    run_in(Path(sys.argv[1]), Path(sys.argv[2]))
""")


def config_of(devices: int = 2) -> PretrainConfig:
    parallel = ParallelConfig(data=devices, zero=1 if devices > 1 else 0)
    train = TrainConfig(parallel=parallel, log=1, validate=None, checkpoint=CheckpointConfig(steps=3))
    return PretrainConfig(parameters=70_000, tokens=6_000, length=32, batch=8, train=train)


def context_of(inputs: Path, folder: Path) -> StageContext:
    (folder / "output").mkdir(parents=True, exist_ok=True)
    found = {name: inputs / name for name in ("tokens", "vocabulary")}
    return StageContext(found, folder / "output", folder / "work")


def run_in(inputs: Path, folder: Path, devices: int = 2):
    return run_stage(STAGE, config_of(devices), context_of(inputs, folder))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    stage_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_in(inputs, folder)
    return folder


def once_at(folder: Path, step: int, act) -> threading.Thread:
    """Calls `act` in a thread as soon as the run has taken this step."""

    def wait() -> None:
        log = folder / "work" / "run" / LOG
        while not (log.exists() and any(line["step"] >= step for line in read_log(log))):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def workers(folder: Path) -> dict[int, int]:
    """rank → process, of those that work on the task in this folder; -1 → torchrun, which starts them."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            environment = dict(
                pair.split("=", 1) for pair in (process / "environ").read_text().split("\0") if "=" in pair
            )
        except (OSError, UnicodeDecodeError):
            continue
        if str(folder) in command and "lmworks.train.parallel." in command:
            found[int(environment.get("RANK", -1))] = int(process.name)
    return found


def check_same(folder: Path, other: Path) -> None:
    """The delivered model to the last bit, and every step's loss."""
    models = [load_file(each / "output" / "model.safetensors") for each in (folder, other)]
    assert models[0].keys() == models[1].keys()
    assert all(bool((models[0][name] == models[1][name]).all()) for name in models[0])
    losses = [
        [line["loss"] for line in read_log(each / "output" / LOG) if line["kind"] == "step"] for each in (folder, other)
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_several_processes_deliver_what_one_does(inputs, undisturbed, tmp_path):
    run_in(inputs, tmp_path, devices=1)
    logs = [read_log(folder / "output" / LOG) for folder in (tmp_path, undisturbed)]
    losses = [[line["loss"] for line in log if line["kind"] == "step"] for log in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # bfloat16


@pytest.mark.slow
def test_a_killed_rank_is_started_again_from_the_last_checkpoint(inputs, undisturbed, tmp_path, capfd):
    killer = once_at(tmp_path, 7, lambda: os.kill(workers(tmp_path)[1], signal.SIGKILL))
    result = run_in(inputs, tmp_path)
    assert not killer.is_alive()
    events = [line["text"] for line in read_log(tmp_path / "output" / LOG) if line["kind"] == "event"]
    assert any("continues from step" in text for text in events)
    assert result.metrics["steps"] > 7
    told = capfd.readouterr().err
    assert "rank 1 of the training's 2 processes was ended by SIGKILL, as the system does where memory" in told
    # The checkpoint of step 6 is written while training continues, so the kill may come before it is complete.
    assert re.search(r"checkpoints/step-0000000[36]\. All are started again, 1 of 3 times", told)
    assert "Traceback" not in told and len(told.splitlines()) < 5
    check_same(tmp_path, undisturbed)


def pretrain_until_interrupted(config, context):
    """`pretrain` whose first process waits for a signal after step 4, so that none can come too late."""

    def progress(done, total, unit, *rest):
        handler = signal.getsignal(signal.SIGINT)
        context.progress(done, total, unit, *rest)  # which may bring the signal at once
        if (done, unit) == (4, "batches"):
            while signal.getsignal(signal.SIGINT) is handler:  # which is taken back as it is called
                time.sleep(0.01)

    return pretrain(config, replace(context, progress=progress))


@pytest.mark.slow
def test_an_interrupted_run_is_saved_and_goes_on(inputs, undisturbed, tmp_path, monkeypatch):
    def interrupt(done, total, unit, *rest):
        if (done, unit) == (4, "batches"):
            signal.raise_signal(signal.SIGINT)

    paths = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    context = replace(context_of(inputs, tmp_path), progress=interrupt)
    stage = "train.parallel.test_launcher:pretrain_until_interrupted"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=r"after step 4.* which is saved"):
        patch.setenv("PYTHONPATH", paths)
        run_stage(stage, config_of(), context)
    assert not workers(tmp_path)
    run_in(inputs, tmp_path)
    check_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_workers_end_with_whoever_started_them(inputs, undisturbed, tmp_path):
    paths = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", SCRIPT, str(inputs), str(tmp_path)]
    starter = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    once_at(tmp_path, 4, starter.kill).join()
    assert starter.wait() == -signal.SIGKILL
    while workers(tmp_path):
        time.sleep(0.05)
    run_in(inputs, tmp_path)
    check_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_process_that_cannot_write_ends_those_that_wait_for_it(inputs, tmp_path):
    def hinder() -> None:
        for step in range(6, 24, 3):
            in_the_way = tmp_path / "work" / "run" / "checkpoints" / f".step-{step:08d}.parts" / "state.json"
            (in_the_way / "something").mkdir(parents=True, exist_ok=True)

    once_at(tmp_path, 3, hinder)
    with pytest.raises(OSError, match=r"state\.json"):
        run_in(inputs, tmp_path)
    assert not workers(tmp_path)


@pytest.mark.slow
def test_what_ends_a_run_is_what_the_user_reads(inputs, tmp_path):
    with pytest.raises(ValueError, match="one layer of width 64 needs"):
        run_stage(STAGE, replace(config_of(), parameters=100), context_of(inputs, tmp_path))


def test_a_task_is_told_whole(inputs, tmp_path):
    task = Task.of(STAGE, config_of(), context_of(inputs, tmp_path))
    assert from_mapping(Task, json.loads(json.dumps(to_mapping(task)))) == task
    assert from_mapping(PretrainConfig, task.config) == config_of()


@for_each("error", [ValueError("a"), FileNotFoundError("b"), TrainingStoppedError("c"), KeyError("d")])
def test_errors_that_come_again_are_told(error, tmp_path):
    answer = Answer.of_error(error)
    assert answer is not None
    answer.write(tmp_path)
    assert Answer.read(tmp_path) == answer
    assert answer.error in ("ValueError", "OSError", "TrainingStoppedError", "LookupError")


@pytest.fixture
def raising(inputs, tmp_path, monkeypatch):
    """A task whose stage raises this error in the worker of this rank."""

    def make(rank: int, error: BaseException) -> Task:
        task = Task.of(STAGE, config_of(), context_of(inputs, tmp_path))
        task.folder.mkdir(parents=True)
        (task.folder / "task.json").write_text(json.dumps(to_mapping(task)))

        def run(*_) -> None:
            raise error

        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(Task, "run", run)
        return task

    return make


def test_a_stop_leaves_the_error_that_it_follows(raising):
    """The first process is told to end when another failed, and both leave an answer in the same place."""
    task = raising(0, KeyboardInterrupt("saved"))
    assert rank_worker.run(task.folder / "task.json") == 0
    assert Answer.read(task.folder) == Answer(message="saved")
    error = Answer(error="ValueError", message="what the user must read")
    error.write(task.folder)
    assert rank_worker.run(task.folder / "task.json") == 0
    assert Answer.read(task.folder) == error


def test_an_error_that_may_not_come_again_leaves_its_trace(raising, capsys):
    task = raising(1, RuntimeError("connection closed by peer"))
    assert rank_worker.run(task.folder / "task.json") == 1
    assert Answer.read(task.folder) is None and capsys.readouterr().err == ""
    assert trace_of(task.folder, 1).read_text().endswith("RuntimeError: connection closed by peer\n")


def test_errors_that_may_not_come_again_are_not():
    assert Answer.of_error(RuntimeError("connection closed by peer")) is None


def test_a_death_is_told_with_what_to_do(inputs, tmp_path, monkeypatch, capsys):
    """Plainly, and at last as the error of the command."""
    task = Task.of(STAGE, config_of(), context_of(inputs, tmp_path))
    task.folder.mkdir(parents=True)
    assert "ended with status 5. The run can continue from its beginning" in launcher._describe_failure(task, 2, 5)
    Death(1, None).write(task.folder)
    trace_of(task.folder, 1).write_text("RuntimeError: a bad sector\n")
    assert "rank 1 of the training's 2 processes failed, as written above" in launcher._describe_failure(task, 2, 1)
    assert capsys.readouterr().err == "RuntimeError: a bad sector\n"
    for step in (3, 12):
        (tmp_path / "work" / "run" / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    with pytest.raises(ChildProcessError) as raised:
        monkeypatch.setattr(launcher, "_torchrun", lambda path, processes: _ending(task, Death(0, signal.SIGSEGV)))
        run_in(inputs, tmp_path)
    saved = tmp_path / "work" / "run" / "checkpoints" / "step-00000012"
    assert str(raised.value) == (
        "rank 0 of the training's 2 processes was ended by SIGSEGV. The run can continue from its last checkpoint, "
        f"{saved}, which the same command does. It was started again 3 times"
    )


def test_what_was_told_to_end_is_not_started_again(inputs, tmp_path, monkeypatch):
    task, starts = Task.of(STAGE, config_of(), context_of(inputs, tmp_path)), []
    task.folder.mkdir(parents=True)

    def torchrun(path: Path, processes: int):
        starts.append(path)
        return _ending(task, Answer(message="after step 4"))

    monkeypatch.setattr(launcher, "_torchrun", torchrun)
    with pytest.raises(ChildProcessError, match="the same command"):
        run_in(inputs, tmp_path)
    assert len(starts) == 1


def test_those_that_wait_for_a_first_one_that_has_answered_are_ended(inputs, tmp_path, monkeypatch):
    """As it is where the user interrupts before the processes have met."""
    task = Task.of(STAGE, config_of(), context_of(inputs, tmp_path))
    task.folder.mkdir(parents=True)
    monkeypatch.setattr(launcher, "_GRACE", 0.5)
    waits = "import time; print('waits', flush=True); time.sleep(300)"
    monkeypatch.setattr(launcher, "_torchrun", lambda path, processes: _ending(task, Answer(message="saved"), waits))
    began = time.monotonic()
    with pytest.raises(ChildProcessError, match="the same command"):
        run_in(inputs, tmp_path)
    assert time.monotonic() - began < 200


@contextmanager
def _ending(task: Task, left: Death | Answer, program: str = ""):
    left.write(task.folder)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:  # type: ignore[call-overload]
        yield process


def test_the_death_that_others_follow_is_told():
    def failure(code: int, second: int) -> ProcessFailure:
        found = ProcessFailure(local_rank=0, pid=1, exitcode=code, error_file="<N/A>")
        found.timestamp = second
        return found

    killed, failed, ended = (failure(code, 100) for code in (-signal.SIGKILL, 1, -signal.SIGTERM))
    assert min([failed, ended, killed], key=_order) is killed
    later = failure(-signal.SIGKILL, 130)  # by torchrun, which waited for it
    assert min([later, failed, ended], key=_order) is failed


def test_torchrun_that_is_told_to_end_ends_without_a_trace(tmp_path, monkeypatch):
    def stopped(_) -> None:
        raise SignalException("got signal 15", signal.SIGTERM)

    monkeypatch.setattr("torch.distributed.run.main", stopped)
    assert rank_worker.start(tmp_path / "task.json", 2) == 128 + signal.SIGTERM
    assert Death.read(tmp_path) is None


def test_a_number_of_processes_that_the_layout_does_not_ask_for():
    with pytest.raises(
        ValueError, match=r"\(data 2 · tensor 2\) takes 4 processes, and there are 1: .*--nproc-per-node 4"
    ):
        join(ParallelConfig(data=2, tensor=2))
