"""Parts as tasks of a cluster of two machines, which are two groups of processes here."""

import builtins
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleaning_builds import build_here, write_mixture
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # before Ray is imported: on the loopback interface alone
ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "lmworks[ray]"')
pytestmark = pytest.mark.slow  # a cluster takes a while to start
ON_RAY = ExecutionConfig(2, on="ray")
MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Its address is where RAY_ADDRESS says. Its processes find the modules of the tests where this one does."""
    from ray.cluster_utils import Cluster

    before, printed = dict(os.environ), print
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    machines = Cluster(initialize_head=True, head_node_args=MACHINE)
    machines.add_node(**MACHINE)
    os.environ["RAY_ADDRESS"] = machines.address
    try:
        yield
    finally:
        machines.shutdown()
        os.environ.clear()
        os.environ.update(before)
        builtins.print = printed  # Ray has put its own there


def parts(folder: Path, count: int = 6) -> list[Part[int]]:
    return [Part(number, folder / "done" / str(number)) for number in range(count)]


def working(given: int, path: Path) -> None:
    """Notes which machine is at it, and waits for the other one; the process of part 1 dies once."""
    import time

    (path.parent.parent / f"machine-{ray.get_runtime_context().get_node_id()}").touch()
    for _ in range(300):  # or one machine may do all before the other is there
        if len(list(path.parent.parent.glob("machine-*"))) == 2:
            break
        time.sleep(0.1)
    path.write_text("half")
    marker = path.parent.parent / f"tried-{given}"
    if given == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text("whole")


def failing(given: int, path: Path) -> None:
    path.mkdir()
    if given == 3:
        raise ValueError("three")


def test_all_machines_work_and_whoever_is_killed_is_replaced(cluster: None, tmp_path: Path) -> None:
    carry_out(working, parts(tmp_path), ON_RAY)
    assert (tmp_path / "tried-1").exists()
    assert len(list((tmp_path / "done").glob("[0-9]*"))) == 6 and len(list(tmp_path.glob("machine-*"))) == 2
    with pytest.raises(ValueError, match=r"^three$"):
        carry_out(failing, parts(tmp_path / "failing", 4), ON_RAY)
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_cluster_makes_the_bytes_that_one_process_makes(cluster: None, tmp_path: Path) -> None:
    write_mixture(tmp_path / "sources")
    expected = build_here(tmp_path / "one", tmp_path / "sources", "workers = 1")
    assert build_here(tmp_path / "ray", tmp_path / "sources", 'on = "ray"') == expected


def test_an_address_where_nobody_answers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"RAY_ADDRESS.*127\.0\.0\.1:1"):
        carry_out(working, parts(tmp_path), ON_RAY)
