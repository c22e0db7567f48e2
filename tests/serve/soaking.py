"""Many clients stream at once from a real server process: nothing is mixed, lost, logged twice, or leaked.

Each client sends greedy completions of prompts whose completions are known from being asked alone before; a token that
strays from one stream into another, or a neighbour that changes a completion, shows as a difference.
"""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from server_process import Server

from lmworks.monitor.log import Log

PROMPTS = tuple(
    f"Count from {start} in steps of {step}:" for start, step in zip(range(1, 80, 5), [1, 2, 3, 5] * 4, strict=True)
)


@dataclass
class Outcome:
    """What the clients saw, and what was found afterwards."""

    acknowledged: list[str] = field(default_factory=list)  # ids whose stream ended with [DONE]
    different: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)  # of the server, once a second
    logged: Counter[str] = field(default_factory=Counter)  # how often the log holds each acknowledged id

    @property
    def once(self) -> bool:
        return all(self.logged[identifier] == 1 for identifier in self.acknowledged)

    def growth(self) -> float:
        """Resident memory at the end over that after the first quarter, each a median of its last five readings."""
        quarter = max(5, len(self.resident_bytes) // 4)
        early, late = sorted(self.resident_bytes[quarter - 5 : quarter]), sorted(self.resident_bytes[-5:])
        return late[len(late) // 2] / early[len(early) // 2]


async def soak(
    server: Server,
    log_path: Path,
    model: str,
    *,
    clients: int,
    seconds: float,
    max_tokens: int = 24,
    kill: bool = False,
    stop: bool = True,
) -> Outcome:
    """Load the server for `seconds`, then stop it; with `kill`, end it with SIGKILL half-way."""
    outcome = Outcome()
    limits = httpx.Limits(max_connections=clients + 4)
    async with httpx.AsyncClient(base_url=server.url, timeout=120.0, limits=limits) as client:
        expected = {p: (await _stream(client, model, p, max_tokens))[0] for p in PROMPTS}
        until = time.monotonic() + seconds
        watch = asyncio.create_task(_watch(server, outcome, until))
        killer = asyncio.create_task(_kill(server, seconds / 2)) if kill else None
        await asyncio.gather(*(_client(client, i, model, expected, outcome, until, max_tokens) for i in range(clients)))
        await watch
        if killer is not None:
            await killer
    if stop and not kill:
        server.stop()
    log = Log(log_path)
    try:
        rows = log.reader.find("", limit=10**9)
        outcome.logged = Counter(row.id for row in rows)
    finally:
        log.close()
    return outcome


async def _client(
    client: httpx.AsyncClient, number: int, model: str, expected: dict[str, str], outcome: Outcome, until: float,
    max_tokens: int,
) -> None:  # fmt: skip
    generator = random.Random(number)
    while time.monotonic() < until:
        prompt = generator.choice(PROMPTS)
        try:
            text, identifier = await _stream(client, model, prompt, max_tokens)
        except (httpx.HTTPError, ValueError) as error:
            outcome.errors.append(f"{type(error).__name__}: {error}")
            return
        outcome.acknowledged.append(identifier)
        if text != expected[prompt]:
            outcome.different.append(f"{prompt!r}: {text!r} instead of {expected[prompt]!r}")


async def _stream(client: httpx.AsyncClient, model: str, prompt: str, max_tokens: int) -> tuple[str, str]:
    """Text and id of one completion; ValueError when it did not end well."""
    body = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, "temperature": 0,
        "max_tokens": max_tokens,
    }  # fmt: skip
    text, identifier, done = "", "", False
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {(await response.aread())[:200]!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                break
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise ValueError(f"error in the stream: {event['error']}")
            identifier = event["id"].removeprefix("chatcmpl-")
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
    if not done:
        raise ValueError("the stream ended without [DONE]")
    return text, identifier


async def _watch(server: Server, outcome: Outcome, until: float) -> None:
    while time.monotonic() < until and server.process.poll() is None:
        outcome.resident_bytes.append(server.resident_bytes())
        await asyncio.sleep(1.0)


async def _kill(server: Server, after: float) -> None:
    await asyncio.sleep(after)
    server.process.kill()
    await asyncio.to_thread(server.process.wait)
