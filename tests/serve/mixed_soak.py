"""Clients of every kind at once, for minutes: good requests, hostile ones, and clients that leave.

After each round the clients fall silent, and the server must be idle: no request runs or waits, every page of the
cache is returned, the log has caught up. At the end the log is read: what was acknowledged is there once, with the text
that the client was told, and whatever was completed, by the model or an adapter, is token for token what an engine
makes alone.
"""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from server_process import Server
from soak_answers import BrokenAnswerError, ask
from soak_requests import draw
from soak_server import random_lora

from lmworks.adapt import write_lora
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Completion, Request
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.monitor.log import Log
from lmworks.monitor.token_replay import first_difference, replay
from lmworks.records import Interaction

LANGUAGE, EMBEDDER, ADAPTERS = "language", "embedder", ("formal", "terse")
SETTINGS: dict[str, Any] = {
    "slots": 8, "max_waiting": 20, "context_length": 1024, "deadline_seconds": 20.0,
    "cache_tokens": 2048,  # two long prompts and their neighbours do not fit: somebody is preempted
}  # fmt: skip
_LEAVING = 0.2  # of the clients do not wait for their answer
_STUCK_SECONDS = 20.0  # beyond the deadline, in which every request has been answered
_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "log_pending")


@dataclass(frozen=True, slots=True)
class Idle:
    """The server between two rounds: bytes, threads, file descriptors, and whether it was idle at all."""

    resident_bytes: int
    threads: int
    descriptors: int
    quiet: bool


@dataclass
class Found:
    """What the clients saw, and what was found in the log."""

    statuses: Counter[str] = field(default_factory=Counter)  # "kind status"; "left" for who did not wait
    problems: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)  # text by id
    idle: list[Idle] = field(default_factory=list)
    interactions: int = 0
    cut: int = 0  # of these ended early
    distinct: int = 0  # of these differ, each of which was made again alone
    swaps: dict[str, Any] = field(default_factory=dict)

    def growth(self) -> float:
        """Resident memory at the end, over that after a quarter of the rounds."""
        return self.idle[-1].resident_bytes / self.idle[len(self.idle) // 4].resident_bytes


Turns = Callable[[], Iterable[object]]  # a client asks once for each


def soak_mixed(language: Path, embedder: Path, workspace: Path, *, clients: int, rounds: int, turns: Turns) -> Found:
    """Serve the two models in a process of its own to so many clients, each of which has `turns` in every round."""
    checkpoint, found = load(language), Found()
    loras = {name: random_lora(checkpoint.config, seed, 0.02) for seed, name in enumerate(ADAPTERS)}
    folders = {n: str(write_lora(workspace / n, lora, checkpoint.config)) for n, lora in loras.items()}
    settings, models = {**SETTINGS, "adapters": folders}, {LANGUAGE: str(language), EMBEDDER: str(embedder)}
    program = (str(Path(__file__).with_name("soak_server.py")),)
    served = workspace / "served"
    arguments = ["--settings", json.dumps(settings), "--models", json.dumps(models)]
    server = Server(served, arguments, program=program)
    try:
        server.wait_until_ready()
        for number in range(rounds):
            asyncio.run(_round(server, found, number, clients, turns))
        if server.stop() != 0:
            found.problems.append(f"the server ended with status {server.process.returncode}")
    finally:
        server.process.kill()
    found.swaps = json.loads((served / "swaps.json").read_text("utf-8"))
    engine = Engine(checkpoint, slots=1, context_length=SETTINGS["context_length"], speculation=None)
    for name, lora in loras.items():
        engine.load_adapter(name, lora)
    _read_log(served / "log.sqlite", engine, checkpoint, found)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Clients


async def _round(server: Server, found: Found, number: int, clients: int, turns: Turns) -> None:
    limits = httpx.Limits(max_connections=clients + 4)
    timeout = SETTINGS["deadline_seconds"] + _STUCK_SECONDS
    async with httpx.AsyncClient(base_url=server.url, timeout=timeout, limits=limits) as client:
        generators = [random.Random(number * clients + one) for one in range(clients)]
        await asyncio.gather(*(_client(client, server, generator, found, turns) for generator in generators))
    async with httpx.AsyncClient(base_url=server.url) as client:
        found.idle.append(await _idle(client, server))
    if not found.idle[-1].quiet:
        found.problems.append(f"round {number}: the server is not idle after its clients have gone")


async def _client(
    client: httpx.AsyncClient, server: Server, generator: random.Random, found: Found, turns: Turns
) -> None:
    for _ in turns():
        if generator.random() < 0.02:
            await _send_half(server, generator)
            found.statuses["half a request"] += 1
            continue
        request = draw(generator, (LANGUAGE, *ADAPTERS), EMBEDDER)
        patience = generator.uniform(0, 2) if generator.random() < _LEAVING else None
        try:
            async with asyncio.timeout(patience):
                status, told = await ask(client, request)
        except TimeoutError:
            found.statuses[f"{request.kind} left"] += 1
            continue
        except (httpx.WriteError, httpx.ReadError):  # refused, and closed, before it was sent to the end
            status, told = (413 if 413 in request.statuses else 0), {}
        except (httpx.HTTPError, BrokenAnswerError, ValueError, KeyError) as error:
            found.problems.append(f"{request.kind}: {error!r}")
            continue
        found.statuses[f"{request.kind} {status}"] += 1
        if status not in request.statuses:
            found.problems.append(f"{request.kind} was answered with {status}: {request.content[:200]!r}")
        found.told.update(told)
        if status == 429:
            await asyncio.sleep(generator.uniform(0.1, 0.5))


async def _send_half(server: Server, generator: random.Random) -> None:
    """Announce a body, send a part of it, and be gone."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"model"'[: generator.randrange(9)])
    await writer.drain()
    await asyncio.sleep(generator.uniform(0, 0.3))
    writer.close()


async def _idle(client: httpx.AsyncClient, server: Server) -> Idle:
    """Wait until nothing is left to do, for half a minute at most."""
    quiet, until = False, time.monotonic() + 30
    while not quiet and time.monotonic() < until:
        await asyncio.sleep(0.5)
        text = (await client.get("/metrics")).text
        gauges = re.findall(rf"^lmworks:(?:{'|'.join(_GAUGES)})(?:{{.*?}})? (\S+)$", text, re.MULTILINE)
        quiet = len(gauges) > len(_GAUGES) and not any(float(gauge) for gauge in gauges)
    return Idle(server.resident_bytes(), server.threads(), server.descriptors(), quiet)


# ---------------------------------------------------------------------------------------------------------------------
# The log


class _WithAdapter:
    """An engine whose requests all use one adapter, for `replay`, which knows of none."""

    def __init__(self, engine: Engine, adapter: str) -> None:
        self.capabilities, self._engine, self._adapter = engine.capabilities, engine, adapter

    def generate(self, requests: list[Request]) -> list[Completion]:
        return self._engine.generate([replace(request, adapter=self._adapter) for request in requests])


def _read_log(path: Path, engine: Engine, checkpoint: Checkpoint, found: Found) -> None:
    groups: dict[str, list[Interaction]] = {}
    with Log(path) as log:
        times = Counter(row.id for row in log.reader.find("", limit=10**9))
        found.problems += [
            f"{one} was acknowledged and logged {times[one]} times" for one in found.told if times[one] != 1
        ]
        for one in log.reader.interactions():
            found.interactions += 1
            if found.told.get(one.id, "") not in ("", one.response):
                found.problems.append(f"{one.id}: told {found.told[one.id]!r}, logged {one.response!r}")
            if one.error not in ("", "client_left", "deadline_exceeded", "queue_full"):
                found.problems.append(f"{one.id}: {one.error}")
            if one.token_ids:
                asked = [one.route, one.prompt_ids, dict(one.parameters), one.seed]
                groups.setdefault(json.dumps(asked, sort_keys=True, default=str), []).append(one)
    found.distinct = len(groups)
    for group in groups.values():
        _check_group(group, engine, checkpoint, found)


def _check_group(group: list[Interaction], engine: Engine, checkpoint: Checkpoint, found: Found) -> None:
    """Of equal requests all have equal tokens, as far as each came, and an engine alone makes them."""
    longest = max(group, key=lambda one: len(one.token_ids))
    for one in group:
        whole = one.finish_reason in ("stop", "length")
        found.cut += not whole
        place = first_difference(one.token_ids, longest.token_ids)
        if place is not None and (whole or place < len(one.token_ids)):
            found.problems.append(f"{one.id} and {longest.id} differ at {place}: {one.rendered_prompt[:80]!r}")
    adapter = longest.route if longest.route in ADAPTERS else ""
    again = replay(replace(longest, lineage={}), _WithAdapter(engine, adapter), checkpoint)  # type: ignore[arg-type]
    if not again.same:
        found.problems.append(f"{longest.id} ({longest.route}) is made otherwise alone: {again.reason}")
