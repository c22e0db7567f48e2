"""Real servers on free ports: one of a tiny random language model and an embedder, one that answers from documents."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kit.servers import Running, serving
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service
from tiny_system import CHAT_TEMPLATE, copy_workspace


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
def roomy(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """`with roomy(template) as running:` serves `tiny` with a context of 2048 tokens, which hold functions too."""

    @contextmanager
    def begin(template: str = CHAT_TEMPLATE) -> Iterator[Running]:
        config = replace(tiny.config, context_length=2048)
        checkpoint = assemble(config, tiny.model.state_dict(), tiny.tokenizer, template, source="roomy")
        folder = checkpoint.save(tmp_path_factory.mktemp("models") / "tiny")
        service = Service(tmp_path_factory.mktemp("served"), ServeConfig(drain_seconds=5.0), {"tiny": str(folder)})
        with serving(service, load=True) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def served(roomy) -> Iterator[Running]:
    """The server of the tests of functions and of responses: `tiny` with room for both."""
    with roomy() as running:
        yield running


@pytest.fixture(scope="session")
def start(
    tiny_folder: Path, tiny_embedder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., object]:
    """`with start(slots=2) as running:` serves the models `tiny` and `embedder` with that configuration."""

    @contextmanager
    def begin(*, embedder: bool = False, **config) -> Iterator[Running]:
        models = {"tiny": str(tiny_folder)} | ({"embedder": str(tiny_embedder_folder)} if embedder else {})
        service = Service(tmp_path_factory.mktemp("served"), ServeConfig(**{"drain_seconds": 5.0, **config}), models)
        with serving(service, load=True) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def language(start) -> Iterator[Running]:
    """The server that most tests share: `tiny` and `embedder`, no keys, no limits."""
    with start(embedder=True) as running:
        yield running


@pytest.fixture(scope="session")
def exact(start) -> Iterator[Running]:
    """A server of `tiny` in float32, which gives what an engine of float32 gives."""
    with start(weights="float32") as running:
        yield running


@pytest.fixture(scope="session")
def grounded(built_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the grounded `assistant`, its language model `tiny` and its embedder."""
    workspace = copy_workspace(built_workspace, tmp_path_factory.mktemp("grounded") / "workspace")
    with serving(Service(workspace, ServeConfig(drain_seconds=5.0)), load=True) as running:
        yield running
