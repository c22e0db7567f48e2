"""Real servers on free ports: one of a tiny random language model and an embedder, one that answers from documents."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import pytest

from lmworks.build import build
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.recipe import load
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.server import Server, listen
from lmworks.serve.service import Service
from lmworks.tokenizer.tokenizer import Tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAGES = {
    "leave.md": "# Leave\n\nEvery employee has twenty-eight days of paid leave a year. Leave is asked for in the "
    "calendar, at least two weeks ahead.\n\n## Carrying over\n\nAt most five days are carried over into the next "
    "year, and they expire at the end of March.\n",
    "travel.md": "# Travel\n\nTrains are booked by the office; ask at least three days before you travel. Flights "
    "need the approval of the head of department.\n\n## Expenses\n\nReceipts are handed in within thirty days. Meals "
    "are paid up to forty euros a day, hotels up to one hundred and fifty.\n",
    "security.md": "# Security\n\nA lost laptop is reported to the security desk within one hour, by telephone, at "
    "any time of the day. Passwords live in the password manager and nowhere else.\n",
}
RECIPE = """\
{head}

[models]
assistant = {language}
embedder = {embedder}

[stages.documents]
use = "data.read"
sources = {sources}

[stages.index]
use = "retrieve.index"
from = ["documents"]

[stages.questions]
use = "ground.questions"
from = ["documents"]
automatic = 5

[stages.calibration]
use = "ground.calibrate"
from = ["index", "questions"]
answer.draft_tokens = 0
"""


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
def tiny(tiny_tokenizer: Tokenizer) -> Checkpoint:
    """A random LLaMA with large weights, so that its distributions are far from flat; context 512."""
    size = tiny_tokenizer.vocabulary_size
    config = llama(size, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context_length=512, tied=True)
    weights = initialise(Transformer(config), seed=5, std=0.2).state_dict()
    return assemble(config, weights, tiny_tokenizer, CHAT_TEMPLATE, source="tiny")


@pytest.fixture(scope="session")
def tiny_folder(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


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
def start(tiny_folder: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., object]:
    """`with start(slots=2) as running:` serves the models `tiny` and `minilm` with that configuration."""

    @contextmanager
    def begin(*, embedder: bool = False, **config) -> Iterator[Running]:
        models = {"tiny": str(tiny_folder)} | ({"minilm": str(minilm)} if embedder else {})
        service = Service(tmp_path_factory.mktemp("served"), ServeConfig(drain_seconds=5.0, **config), models)
        service.load()
        with serving(service) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def language(start) -> Iterator[Running]:
    """The server that most tests share: `tiny` and `minilm`, no keys, no limits."""
    with start(embedder=True) as running:
        yield running


@pytest.fixture(scope="session")
def built(tiny_folder: Path, minilm: Path) -> Callable[..., Path]:
    """`built(root, documents)` builds a workspace over texts by name; its language model is the tiny random one."""

    def make(
        root: Path, documents: Mapping[str, str], head: str = 'name = "handbook"', embedder: Path = minilm
    ) -> Path:
        (root / "docs").mkdir(parents=True)
        for name, text in documents.items():
            (root / "docs" / name).write_text(text, "utf-8")
        paths = {"language": str(tiny_folder), "embedder": str(embedder), "sources": [str(root / "docs")]}
        fields = {name: json.dumps(value) for name, value in paths.items()}
        (root / "recipe.toml").write_text(RECIPE.format(head=head, **fields), "utf-8")
        build(load(root / "recipe.toml"), root / "workspace")
        return root / "workspace"

    return make


@pytest.fixture(scope="session")
def workspace(built: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace over three pages, with real vectors."""
    return built(tmp_path_factory.mktemp("handbook"), PAGES)


@pytest.fixture(scope="session")
def grounded(workspace: Path) -> Iterator[Running]:
    """A server of the grounded `assistant`, its language model `tiny` and its embedder."""
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
