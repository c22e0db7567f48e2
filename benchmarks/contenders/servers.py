"""Two servers that speak OpenAI's protocol, each in a process of its own, and a client that times their streams."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_SECONDS = 120
_OK = b"HTTP/1.1 200"
_EVENT = b'"choices":[{'  # an event that has at least one choice
_END = b"\r\n0\r\n\r\n"  # the last chunk of an answer, and the end of the one before
_HELP = """llama-server is not there: build it from llama.cpp's sources (cmake -DLLAMA_BUILD_SERVER=ON) and name it with
--llama-server or in LLAMA_SERVER"""


@dataclass(frozen=True)
class Served:
    """A model at an address, under the name that its server gives it; the number of the server's process."""

    name: str
    address: str
    model: str
    process: int


@dataclass(frozen=True)
class Stream:
    """One completion, in seconds after its request was sent: when each piece of text came. `new` tokens in all."""

    pieces: tuple[float, ...]
    new: int

    @property
    def first(self) -> float:
        return self.pieces[0]

    @property
    def gaps(self) -> list[float]:
        """Between one piece and the next."""
        return [later - earlier for earlier, later in zip(self.pieces, self.pieces[1:], strict=False)]


@contextmanager
def lmworks_server(model: Path, slots: int, context: int, threads: int) -> Iterator[Served]:
    settings = {"slots": slots, "context_length": context, "max_waiting": 1000, "deadline_seconds": 600}
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        command = [sys.executable, "-m", "lmworks", "serve", "--model", str(model), "--workspace", folder]
        with _running("lmworks", [*command, "--port", str(port), *options], port, threads) as served:
            yield served


@contextmanager
def llama_server(binary: str, model: Path, slots: int, context: int, threads: int) -> Iterator[Served]:
    port = _free_port()
    options = ["--parallel", slots, "--ctx-size", slots * context, "--threads", threads, "--port", port]
    with _running("llama-server", [binary, "--model", str(model), *map(str, options)], port, threads) as served:
        yield served


def llama_server_binary(given: str | None) -> str:
    """What was given, or LLAMA_SERVER. Exits with how to build it."""
    binary = given or os.environ.get("LLAMA_SERVER", "")
    if not Path(binary).is_file():
        raise SystemExit(_HELP)
    return binary


@contextmanager
def _running(name: str, command: Sequence[str], port: int, threads: int) -> Iterator[Served]:
    """Until the block ends; the server runs on the first `threads` processors."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, processors)
        )
        try:
            yield _wait_until_ready(name, f"http://127.0.0.1:{port}", process)
        except RuntimeError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _wait_until_ready(name: str, address: str, process: subprocess.Popen) -> Served:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            # A server may list a model before it has loaded it; that it is there only a completion says.
            models = httpx.get(f"{address}/v1/models").json().get("data")
            if models and _answers(address, models[0]["id"]):
                return Served(name, address, models[0]["id"], process.pid)
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{name} did not start: its own messages stand above")


def _answers(address: str, model: str) -> bool:
    body = {"model": model, "prompt": "a", "max_tokens": 1}
    return httpx.post(f"{address}/v1/completions", json=body, timeout=_START_SECONDS).status_code == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Connections:
    """Kept open between requests, as clients keep them. A lean client of one kind of request, because it shares the
    processors with the server that it times: a general one takes as long for an event as the server."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._host, port = served.address.removeprefix("http://").split(":")
        self._port = int(port)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def stream(self, prompt: Sequence[int], new: int) -> Stream:
        """One completion of exactly `new` tokens; an answer that is not 200 raises."""
        body = {
            "model": self.served.model, "prompt": list(prompt), "max_tokens": new, "temperature": 0, "stream": True,
            "ignore_eos": True,
        }  # fmt: skip
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
        sent, pieces, rest = time.perf_counter(), [], b""
        reader, writer = await self._open()
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        while not rest.endswith(_END):
            part = await reader.read(1 << 16)
            if not part or not (rest or part.startswith(_OK)):
                raise RuntimeError(f"{self.served.name}: {part.decode(errors='replace')}")
            pieces += [time.perf_counter() - sent] * (rest + part).count(_EVENT)
            rest = (rest + part)[1 - len(_EVENT) :]  # an event may come in two parts
        self._free.append((reader, writer))
        return Stream(tuple(pieces), new)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that is free and that the server has not closed meanwhile, or a new one."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def close(self) -> None:
        for _, writer in self._free:
            writer.close()
            await writer.wait_closed()


async def streams(
    connections: Connections, requests: Sequence[tuple[float, Sequence[int], int]]
) -> tuple[list[Stream], float]:
    """Send every (second, prompt, new) at its second, however many are still open; also the seconds until the end."""
    began = time.perf_counter()

    async def one(second: float, prompt: Sequence[int], new: int) -> Stream:
        await asyncio.sleep(max(0.0, began + second - time.perf_counter()))
        return await connections.stream(prompt, new)

    done = await asyncio.gather(*(one(*request) for request in requests))
    return list(done), time.perf_counter() - began


def replay(served: Served, requests: Sequence[tuple[float, Sequence[int], int]]) -> tuple[list[Stream], float]:
    """`streams` over connections of their own."""

    async def run() -> tuple[list[Stream], float]:
        connections = Connections(served)
        done = await streams(connections, requests)
        await connections.close()
        return done

    return asyncio.run(run())
