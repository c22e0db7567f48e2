"""Tiny random checkpoints, so that the engine is tested without weights. Every byte is a token of its own."""

from collections.abc import Iterator

import engine_cases
import pytest
from listeners import Gate

from byte_tokenizer import byte_tokenizer
from lmworks.generate.engine import Engine
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bart, bert, llama, t5
from lmworks.model.transformer import Transformer

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama() -> Checkpoint:
    """3 layers, grouped keys and values, context 256; large weights, so that its distributions are far from flat."""
    tokenizer = byte_tokenizer({"unk_token": "<|endoftext|>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    config = llama(260, width=48, layers=3, heads=4, kv_heads=2, hidden=96, context_length=256, tied=True)
    weights = initialise(Transformer(config), seed=3, std=0.2).state_dict()
    return assemble(config, weights, tokenizer, _CHAT_TEMPLATE, source="tiny llama")


@pytest.fixture(scope="session")
def tiny_bert() -> Checkpoint:
    """2 layers, mean pooling, at most 32 tokens."""
    tokenizer = byte_tokenizer({"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"})
    config = bert(260, width=32, layers=2, heads=4, hidden=64, context_length=32, head=PoolHead())
    weights = initialise(Transformer(config), seed=4, std=0.2).state_dict()
    return assemble(config, weights, tokenizer, source="tiny bert")


@pytest.fixture(scope="session", params=["t5", "bart"])
def tiny_encoder_decoder(request: pytest.FixtureRequest) -> Checkpoint:
    """Two layers on each side, context 128; its decoder begins with padding, token 256, and 257 ends a text."""
    sizes = {"width": 48, "layers": 2, "heads": 4, "hidden": 96, "context_length": 128}
    config = t5(260, head_dim=12, **sizes) if request.param == "t5" else bart(260, **sizes)
    model = initialise(Transformer(config), seed=5, std=0.4)
    if request.param == "t5":
        model.tokens.data *= 2  # its logits are scaled by width ** -0.5
    tokenizer = byte_tokenizer({"pad_token": "<pad>", "eos_token": "</s>"})
    return assemble(config, model.state_dict(), tokenizer, source=request.param)


@pytest.fixture(scope="module", params=engine_cases.KINDS)
def kind(request: pytest.FixtureRequest) -> engine_cases.Kind:
    """Each way to run a decoder, for tests of both."""
    return request.param


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """A decoder that can be run in either way."""
    return engine_cases.tiny_llama()


@pytest.fixture
def engine(tiny_llama) -> Engine:
    """Two slots; a module may have another one under this name."""
    return Engine(tiny_llama, slots=2, weights="float32")


@pytest.fixture
def worker(engine) -> Iterator[EngineWorker]:
    """Owns `engine`."""
    worker = EngineWorker(engine, max_waiting=64)
    yield worker
    worker.close()
    assert not worker._thread.is_alive()


@pytest.fixture
def gate(worker) -> Iterator[Gate]:
    """A long request of which the worker has just reported the first token; it goes on when the gate is opened."""
    gate = Gate()
    worker.submit(Request((1, 2, 3), sampling=SamplingParameters(max_tokens=30, ignore_eos=True), id="gate"), gate)
    assert gate.reached.wait(60)
    yield gate
    gate.opened.set()
