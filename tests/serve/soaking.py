"""Many clients stream at once from a real server process: nothing is mixed, lost, logged twice, or leaked.

    python tests/serve/soaking.py --seconds 60 --clients 32
    python tests/serve/soaking.py --seconds 20 --clients 32 --kill    # killed with -9 in the middle
    python tests/serve/soaking.py --minutes 10 --clients 24           # requests of every kind: `mixed_soak.py`

Each client sends greedy completions of prompts whose completions are known from being asked alone before; a token that
strays from one stream into another, or a neighbour that changes a completion, shows as a difference.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from mixed_soak import describe, for_seconds, soak_mixed
from server_process import Server

from lmworks.model.download import locate
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
    first_token_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
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
            text, identifier, first, tokens = await _stream(client, model, prompt, max_tokens)
        except (httpx.HTTPError, ValueError) as error:
            outcome.errors.append(f"{type(error).__name__}: {error}")
            return
        outcome.acknowledged.append(identifier)
        outcome.first_token_seconds.append(first)
        outcome.tokens += tokens
        if text != expected[prompt]:
            outcome.different.append(f"{prompt!r}: {text!r} instead of {expected[prompt]!r}")


async def _stream(client: httpx.AsyncClient, model: str, prompt: str, max_tokens: int) -> tuple[str, str, float, int]:
    """Text, id, seconds to the first text, and tokens of one completion; ValueError when it did not end well."""
    body = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, "temperature": 0,
        "max_tokens": max_tokens, "stream_options": {"include_usage": True},
    }  # fmt: skip
    text, identifier, first, done, tokens = "", "", 0.0, False, 0
    started = time.perf_counter()
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
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
            for choice in event["choices"]:
                piece = choice["delta"].get("content") or ""
                first = first or (time.perf_counter() - started if piece else 0.0)
                text += piece
    if not done:
        raise ValueError("the stream ended without [DONE]")
    return text, identifier, first, tokens


async def _watch(server: Server, outcome: Outcome, until: float) -> None:
    while time.monotonic() < until and server.process.poll() is None:
        outcome.resident_bytes.append(server.resident_bytes())
        await asyncio.sleep(1.0)


async def _kill(server: Server, after: float) -> None:
    await asyncio.sleep(after)
    server.process.kill()
    await asyncio.to_thread(server.process.wait)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a language model: served alone")
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder, for the log")
    parser.add_argument("--kill", action="store_true", help="kill the server with -9 half-way")
    parser.add_argument("--minutes", type=int, help="instead, requests of every kind for so many minutes")
    options = parser.parse_args()
    if options.minutes:
        models = Path(locate(options.model)), Path(locate("all-minilm-l6-v2"))
        turns = partial(for_seconds, 60.0)
        found = soak_mixed(*models, options.workspace, clients=options.clients, rounds=options.minutes, turns=turns)
        print(describe(found))
        return
    server = Server(options.workspace, ["--model", options.model])
    ready = server.wait_until_ready()
    result = asyncio.run(
        soak(
            server, options.workspace / "log.sqlite", Path(options.model).name, clients=options.clients,
            seconds=options.seconds, kill=options.kill,
        )
    )  # fmt: skip
    first = sorted(result.first_token_seconds)
    print(f"ready after {ready:.1f} s; {len(result.acknowledged)} completions, {result.tokens} tokens")
    print(f"errors {len(result.errors)} {result.errors[:3]}, different {len(result.different)} {result.different[:2]}")
    print(f"first token: median {first[len(first) // 2]:.3f} s, 95 % {first[int(len(first) * 0.95)]:.3f} s")
    print(f"acknowledged ones logged exactly once: {result.once}")
    if not options.kill:
        megabytes = [size // 2**20 for size in result.resident_bytes]
        print(
            f"resident MB: first {megabytes[0]}, max {max(megabytes)}, last {megabytes[-1]}, growth "
            f"{result.growth():.3f}"
        )


if __name__ == "__main__":
    main()
