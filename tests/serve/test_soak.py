"""A server process under many streaming clients; see `soaking.py`, which also runs by itself."""

import asyncio
from pathlib import Path

import pytest
from mixed_soak import soak_mixed
from server_process import Server
from soaking import Outcome, soak


def served(model: Path | str, workspace: Path) -> Server:
    server = Server(workspace, ["--model", str(model)])
    server.wait_until_ready()
    return server


@pytest.mark.slow
def test_clients_at_once_get_their_own_streams_and_what_was_acknowledged_survives_a_kill(tiny_folder, tmp_path):
    server = served(tiny_folder, tmp_path / "w")
    try:
        calm, killed = asyncio.run(_calm_then_killed(server, tmp_path / "w/log.sqlite"))
    finally:
        server.process.kill()
    assert server.process.wait() == -9
    assert calm.errors == [] and len(calm.acknowledged) > 16
    assert killed.acknowledged and killed.errors  # some were done, the others were cut
    logged = killed.logged
    assert set(logged.values()) == {1}
    for outcome in (calm, killed):
        assert outcome.different == [] and all(logged[identifier] == 1 for identifier in outcome.acknowledged)


async def _calm_then_killed(server: Server, log: Path) -> tuple[Outcome, Outcome]:
    calm = await soak(server, log, "tiny", clients=16, seconds=1.5, max_tokens=12, stop=False)
    return calm, await soak(server, log, "tiny", clients=16, seconds=2.0, max_tokens=12, kill=True)


@pytest.mark.slow
@pytest.mark.parametrize("after", [2.0, 3.3])
def test_what_was_acknowledged_survives_a_kill(tiny_folder, tmp_path, after):
    server = served(tiny_folder, tmp_path / "w")
    outcome = asyncio.run(soak(server, tmp_path / "w/log.sqlite", "tiny", clients=16, seconds=2 * after, kill=True))
    assert server.process.returncode == -9
    assert outcome.different == []
    assert outcome.acknowledged and outcome.errors
    assert outcome.once and set(outcome.logged.values()) == {1}


@pytest.mark.slow
@pytest.mark.weights
def test_thirty_two_clients_for_a_minute(smollm2, tmp_path):
    server = served(smollm2, tmp_path / "w")
    try:
        outcome = asyncio.run(soak(server, tmp_path / "w/log.sqlite", smollm2.stem, clients=32, seconds=60.0))
        assert outcome.errors == [] and outcome.different == []
        assert outcome.once and len(outcome.acknowledged) > 32
        # After a quarter of the time every buffer has its size: what grows by a tenth from there is a leak.
        assert outcome.growth() < 1.1
        assert server.process.returncode == 0
    finally:
        server.process.kill()


@pytest.mark.slow
@pytest.mark.weights
def test_requests_of_every_kind_leave_nothing_behind(smollm2, minilm, tmp_path):
    # So many requests, not so many seconds: how often the same one comes again does not depend on the machine.
    found = soak_mixed(smollm2, minilm, tmp_path, clients=24, rounds=4, turns=lambda: range(12))
    assert found.problems == []
    assert found.swaps["error"] == "" and found.swaps["counts"].get("different", 0) == 0
    # It proves nothing where nothing of all that has happened.
    assert found.swaps["counts"]["same"] > 1 and found.swaps["preemptions"] > 0
    assert found.cut > 0 and found.interactions > 2 * found.distinct > 20
    assert found.idle[-1].threads <= found.idle[1].threads
    assert found.idle[-1].descriptors <= found.idle[1].descriptors
    assert found.growth() < 1.05  # after a quarter of the time every buffer has its size
