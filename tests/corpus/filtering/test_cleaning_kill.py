"""A build that is killed at any moment, again and again, ends with the bytes of one that never was."""

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cleaning_builds import STAGES, build_here, command, content_hashes, write_mixture, write_recipe
from lmworks.corpus import work_parts as executing
from process_groups import members, needs_proc, wait_until


@dataclass(frozen=True)
class Mixture:
    sources: Path
    hashes: dict[str, str]  # of a build in one process
    seconds: float  # that it took


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    folder = tmp_path_factory.mktemp("mixture")
    write_mixture(folder / "sources")
    begin = time.monotonic()
    hashes = build_here(folder / "one", folder / "sources", "workers = 1")
    assert set(hashes) == set(STAGES)
    return Mixture(folder / "sources", hashes, time.monotonic() - begin)


def test_a_build_that_ends_in_any_stage_goes_on_to_the_same_bytes(mixture: Mixture, tmp_path: Path) -> None:
    """In one process: what a killed one leaves is in test_build.py, test_work_parts.py and test_worker_processes.py."""

    class Killed(BaseException):
        pass

    def dying(work: Any, part: Any, real: Any = executing.do_part) -> None:
        nonlocal left
        if not (left := left - 1):
            raise Killed
        real(work, part)

    ends, left = 0, 4
    with mock.patch.object(executing, "do_part", dying):
        while True:
            try:
                assert build_here(tmp_path, mixture.sources, "workers = 1") == mixture.hashes
                break
            except Killed:
                ends, left = ends + 1, 4
    assert ends > 2
    check_whole(tmp_path / "workspace", mixture.hashes)


@needs_proc
@pytest.mark.slow
def test_twenty_kills_change_nothing(mixture: Mixture, tmp_path: Path) -> None:
    kill_and_go_on(mixture, tmp_path, kills=20, seed=2)


def kill_and_go_on(mixture: Mixture, folder: Path, kills: int, seed: int) -> None:
    """Builds, in workspaces one after another, of which so many runs are killed, with all their processes."""
    draw = random.Random(seed)
    write_recipe(folder / "recipe.toml", mixture.sources)
    killed, number = 0, 0
    while True:
        workspace = folder / f"workspace-{number}"
        # From the start of Python to somewhere in the last stages: a run that ends before it is killed proves nothing.
        limit = draw.uniform(0.5, mixture.seconds + 1) if killed < kills else None
        if run(command(folder / "recipe.toml", workspace), folder / "log", limit):
            check_whole(workspace, mixture.hashes)
            number += 1
            if killed >= kills:
                return
        else:
            killed += 1


def run(line: list[str], log: Path, limit: float | None) -> bool:
    """Whether it ended before it was killed."""
    with log.open("wb") as stream:
        process = subprocess.Popen(line, stdout=stream, stderr=stream, start_new_session=True)
    try:
        assert process.wait(limit) == 0, log.read_text()
        return True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    finally:
        wait_until(lambda: not members(process.pid))


def check_whole(workspace: Path, hashes: dict[str, str]) -> None:
    assert content_hashes(workspace) == hashes
    leftovers = [*workspace.glob("work/*/*"), *workspace.glob("stages/*/.*"), *workspace.rglob("*.tmp")]
    assert leftovers == []
