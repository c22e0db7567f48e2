"""Real servers on free ports: one of a tiny random language model and an embedder, one that answers from documents."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import pytest

from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.listener import listen
from lmworks.serve.server import Server
from lmworks.serve.service import Service
from tiny_system import CHAT_TEMPLATE, copy_workspace


@dataclass(frozen=True)
class Running:
    """A server in a thread of this process, and the service behind it."""

    url: str
    service: Service
    server: Server

    def client(self, key: str = "none", **options) -> openai.OpenAI:
        """The official client; it does not retry, so that a test sees every answer."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **options)

    def http(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)


@contextmanager
def serving(service: Service) -> Iterator[Running]:
    """Serve on a free port until the block ends; the service is closed then, and what it logged is committed."""
    listener = listen(replace(service.config, port=0))
    server = Server(create_app(service), service)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", service, server)
    finally:
        server.stop()
        thread.join(timeout=60)
        service.close()
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def serve() -> Callable[[Service], AbstractContextManager[Running]]:
    """`with serve(service) as running:` for a service of the test's own."""
    return serving


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that another thread brings about; fails when it does not come."""

    def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def roomy(tiny: Checkpoint, serve, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """`with roomy(template) as running:` serves `tiny` with a context of 2048 tokens, which hold functions too."""

    @contextmanager
    def begin(template: str = CHAT_TEMPLATE) -> Iterator[Running]:
        config = replace(tiny.config, context_length=2048)
        checkpoint = assemble(config, tiny.model.state_dict(), tiny.tokenizer, template, source="roomy")
        folder = checkpoint.save(tmp_path_factory.mktemp("models") / "tiny")
        service = Service(tmp_path_factory.mktemp("served"), ServeConfig(drain_seconds=5.0), {"tiny": str(folder)})
        service.load()
        with serve(service) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def start(
    tiny_folder: Path, tiny_embedder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., object]:
    """`with start(slots=2) as running:` serves the models `tiny` and `embedder` with that configuration."""

    @contextmanager
    def begin(*, embedder: bool = False, **config) -> Iterator[Running]:
        models = {"tiny": str(tiny_folder)} | ({"embedder": str(tiny_embedder_folder)} if embedder else {})
        service = Service(tmp_path_factory.mktemp("served"), ServeConfig(**{"drain_seconds": 5.0, **config}), models)
        service.load()
        with serving(service) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def language(start) -> Iterator[Running]:
    """The server that most tests share: `tiny` and `embedder`, no keys, no limits."""
    with start(embedder=True) as running:
        yield running


@pytest.fixture(scope="session")
def grounded(built_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the grounded `assistant`, its language model `tiny` and its embedder."""
    workspace = copy_workspace(built_workspace, tmp_path_factory.mktemp("grounded") / "workspace")
    service = Service(workspace, ServeConfig(drain_seconds=5.0))
    service.load()
    with serving(service) as running:
        yield running


@pytest.fixture
def serving_unloaded(tmp_path: Path) -> Callable[..., object]:
    """`with serving_unloaded(models) as running:` serves without having loaded anything."""

    @contextmanager
    def begin(models: dict[str, str], **config) -> Iterator[Running]:
        with serving(Service(tmp_path, ServeConfig(drain_seconds=5.0, **config), models)) as running:
            yield running

    return begin
