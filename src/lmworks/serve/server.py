"""The process that serves: the port, loading, the announcement, and the end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from lmworks.compiled import choose_device
from lmworks.serve.api_keys import read
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.http_protocol import timed_protocol
from lmworks.serve.listener import check_exposure, listen
from lmworks.serve.remaining_stages import RemainingStages
from lmworks.serve.served_models import check_adapters, check_sources, served_names
from lmworks.serve.service import Service
from lmworks.workspace import read_current

_CLOSE_SECONDS = 5  # for connections to end once their work is done


def run(
    workspace: Path,
    config: ServeConfig,
    models: dict[str, str] | None = None,
    announce: Callable[[str], None] = print,
    building: Sequence[str] = (),
) -> None:
    """Serve a workspace, or `models` alone, as `Service` takes them, until SIGINT or SIGTERM; blocks.

    `announce` is told what a person in front of a terminal wants to know; `building` is a command that makes what is
    not made yet of the workspace, run next to the server.

    /health answers while the models are loaded, /ready once they are. The first signal lets what runs finish for
    `drain_seconds`, while everything new is refused with 503; a second one ends it at once.

    Raises, before anything is loaded or announced, ValueError for a host that needs keys, OSError for a port that is
    taken, what `api_keys.read`, `check_sources`, `check_adapters` and `Service` raise; later what `Service.load` does.
    """
    check_exposure(config)
    if config.keys:
        read(Path(config.keys))
    choose_device(config.device, config.weights)
    check_sources(models or {})
    check_adapters(_paths(workspace, models), config.adapters)
    listener = listen(config)
    try:
        service = Service(workspace, config, models)
        if building and service.current and service.current.unfinished:
            service.remaining = RemainingStages(building, service.current.unfinished, announce)
        try:
            server = Server(create_app(service), service, announce)
            url = f"http://{_shown(config.host)}:{listener.getsockname()[1]}"
            loading = _load_in_background(server, url, announce)
            server.run([listener])
            if loading.failure is not None:
                raise loading.failure
        finally:
            service.close()
            if service.remaining is not None:
                service.remaining.stop()
    finally:
        listener.close()


def _paths(workspace: Path, models: dict[str, str] | None) -> dict[str, str]:
    """name -> path of the models that are to be served."""
    if models is not None:
        return models
    current = read_current(workspace)
    return served_names(current.models, current.names)


class Server(uvicorn.Server):
    """uvicorn with an end in two steps: drain while still answering, then close."""

    def __init__(self, app: FastAPI, service: Service, announce: Callable[[str], None] = lambda line: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=timed_protocol(service.config.receive_seconds),
                log_config=None,
                access_log=False,  # the interaction log and the metrics tell more
                proxy_headers=False,  # nobody may choose the address that limits are kept by
                server_header=False,
                timeout_graceful_shutdown=_CLOSE_SECONDS,
            )
        )
        self._app, self._service, self._announce = app, service, announce
        self._signals = 0
        self._drain: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """As a signal would; the first call drains, the second ends what runs. Thread-safe."""
        self._signals += 1

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals are counted here and acted upon on the event loop; unlike uvicorn's, they are not raised again."""
        self.stop()
        if self._signals > 2 and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._signals and self._drain is None:
            if self._service.state == "ready":
                seconds = self._service.config.drain_seconds
                self._announce(f"Stopping: what runs may finish, for {seconds:g} s at most; Ctrl-C again ends it")
            self._drain = asyncio.create_task(self._service.drain(self._app.state.abandoned.set))
        if self._signals > 1:
            self._app.state.abandoned.set()
        if self._drain is not None and self._drain.done():
            self.should_exit = True
        return await super().on_tick(counter)


class _Loading:
    failure: Exception | None = None


def _load_in_background(server: Server, url: str, announce: Callable[[str], None]) -> _Loading:
    """Load next to the server; a failure stops it and is kept for the caller to raise."""
    outcome = _Loading()

    def load() -> None:
        try:
            server._service.load()
        except Exception as error:
            outcome.failure = error
            server.stop()
            return
        if server._service.state == "ready":
            for line in server._service.models.contexts():
                announce(line)
            announce(f"Ready at {url} (Ctrl-C stops it)")
            if server._service.remaining is not None:
                server._service.remaining.start(server._service.grounding.take_up)

    announce(f"Loading; {url}/ready says when it is done")
    threading.Thread(target=load, name="load", daemon=True).start()
    return outcome


def _shown(host: str) -> str:
    """As it stands in a URL that a person can click."""
    if host in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{host}]" if ":" in host else host
