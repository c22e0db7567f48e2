"""What all tests share: one thread, no network for the reference libraries, and the default weights."""

import ctypes
import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before a test imports transformers
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# Before torch is imported: threads that spin while they wait make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Before anything opens a socket: see guard/loopback.py, which child processes load too.
os.environ["LMWORKS_GUARD"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).with_name("guard")), os.environ.get("PYTHONPATH")])
)
sys.path.insert(0, str(Path(__file__).with_name("guard")))

import loopback
import torch
from hypothesis import settings
from tokenizers import pre_tokenizers

from hashing_encoder import HashingEncoder, make_document
from lmworks.kernels.library import set_threads
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.download import PullError, pull
from lmworks.records import Document
from lmworks.sandbox import Sandbox, SandboxConfig
from lmworks.tokenizer.byte_level import CONTROL, byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from postgres_server import running_server
from published_data import DATA
from tiny_system import build_workspace, copy_workspace, tiny_embedding_model, tiny_language_model

torch.set_num_threads(1)  # the models are tiny, and two processes test at once: more threads would wait for each other
gc.disable()  # until all is collected: a quarter of that time would be walks through what stays anyway
# No deadline: two processes test at a time, and a busy machine proves nothing. `make test-all` asks for "full".
settings.register_profile("quick", deadline=None, max_examples=12, derandomize=True)
settings.register_profile("full", deadline=None)
settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `data` where there are no data sets."""
    if not DATA.is_dir():
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("data")])
        items[:] = [item for item in items if not item.get_closest_marker("data")]


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out the modules and the tests, which stay to the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def nothing_leaves_this_machine() -> Iterator[None]:
    """Also when whoever tried to connect has swallowed the error."""
    yield
    assert loopback.VIOLATIONS == []


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Of the compiled kernels too, where a test sets no other number."""
    set_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """Stages over documents work in this process where a test asks for no more: each other one imports all anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmworks.corpus.work_parts.cores", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_sandbox() -> Iterator[None]:
    """Sandboxes with the bounds of a default config hand their process on: each other one imports all anew."""
    idle: list[tuple[Any, Any, Any]] = []
    started = Sandbox._started

    def started_or_idle(self: Sandbox) -> Any:
        if self._process is None and idle and (self._config, self._clock) == (SandboxConfig(), None):
            self._process, self._connection, self._place = idle.pop()
        return started(self)

    def leave(self: Sandbox, *_: object) -> None:
        if self.alive and (self._config, self._clock) == (SandboxConfig(), None):
            idle.append((self._process, self._connection, self._place))
            self._process = self._connection = None
        self.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sandbox, "_started", started_or_idle)
        patch.setattr(Sandbox, "__exit__", leave)
        yield
    for process, *_ in idle:
        process.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a database; tests make their own beside it."""
    with running_server() as address:
        yield address


@pytest.fixture(scope="module", autouse=True)
def memory_goes_back() -> Iterator[None]:
    """After each file: what engines of real weights took, a gigabyte each time, glibc would keep when they are gone."""
    yield
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture
def fresh_compiler() -> None:
    """`torch.compile` as in a new process: it gives up after eight graphs of one function, of all tests together."""
    torch.compiler.reset()


SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n", "in g")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE with three special tokens, all bytes and eight merges: 267 tokens, any text can be encoded."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    kinds = [CONTROL if token in SPECIAL else 1 for token in tokens]
    roles = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return Tokenizer(byte_level_bpe(tokens, MERGES, kinds, "smollm"), roles)


@pytest.fixture(scope="session")
def tiny(tiny_tokenizer: Tokenizer) -> Checkpoint:
    """A random language model, see `tiny_language_model`."""
    return tiny_language_model(tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_embedder() -> Checkpoint:
    """An embedding model for which texts are alike that share words, see `tiny_embedding_model`."""
    return tiny_embedding_model()


@pytest.fixture(scope="session")
def tiny_embedder_folder(tiny_embedder: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedder.save(tmp_path_factory.mktemp("models") / "tiny-embedder")


@pytest.fixture(scope="session")
def built_workspace(tiny_folder: Path, tiny_embedder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a grounded system over `tiny_system.PAGES`, built once; who writes takes `workspace_copy`."""
    return build_workspace(tmp_path_factory.mktemp("built"), tiny_folder, tiny_embedder_folder)


@pytest.fixture
def workspace_copy(built_workspace: Path, tmp_path: Path) -> Path:
    """`built_workspace` at a place of the test's own, without a log."""
    return copy_workspace(built_workspace, tmp_path / "workspace")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The .gguf file of SmolLM2-135M-Instruct."""
    return _pulled("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return _pulled("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def smollm2_checkpoint(smollm2: Path) -> Checkpoint:
    return load(smollm2)


@pytest.fixture(scope="session")
def smollm2_folder(smollm2_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as the Hugging Face folder that `save` writes."""
    return smollm2_checkpoint.save(tmp_path_factory.mktemp("saved") / "smollm2")


@pytest.fixture(scope="session")
def minilm_checkpoint(minilm: Path) -> Checkpoint:
    return load(minilm)


def _pulled(name: str) -> Path:
    try:
        return pull(name)
    except PullError as error:  # a missing proof is a failure, not something to skip
        pytest.fail(f"this test needs the weights {name}: {error}")


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder()


@pytest.fixture(scope="session")
def make_encoder() -> type[HashingEncoder]:
    return HashingEncoder


@pytest.fixture(scope="session")
def document() -> Callable[..., Document]:
    return make_document


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The twenty slowest files: where a minute less can be had. And what was left out."""
    if not DATA.is_dir():
        terminalreporter.write_line(f"left out: the tests marked `data`, since there is no {DATA} (CONTRIBUTING.md)")
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    terminalreporter.section(f"slowest 20 of {len(seconds)} files, {sum(seconds.values()):.0f} s in all")
    for file, duration in seconds.most_common(20):
        terminalreporter.line(f"{duration:7.1f} s  {file}")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: what compresses may write the time into them, and each process that runs tests
    has to find the same names."""
    return argname if isinstance(val, bytes) else None
