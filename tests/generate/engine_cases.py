"""Tiny checkpoints whose blocks the kernels know, and engines that run them either way."""

from collections.abc import Sequence
from typing import Any, Literal
from unittest.mock import patch

import pytest
import torch

from byte_tokenizer import byte_tokenizer
from lmworks.generate import runner_choice
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Completion
from lmworks.generate.runner import Work
from lmworks.kernels import library
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama, mistral
from lmworks.model.transformer import Transformer

Kind = Literal["fused", "modules"]
KINDS: tuple[Kind, ...] = ("fused", "modules")

_SIZES: dict[str, Any] = {
    "vocabulary": 260,
    "width": 64,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "hidden": 96,
    "context_length": 256,
}
WINDOW = 20


def checkpoint(config: ModelConfig, seed: int = 3, chat_template: str | None = None) -> Checkpoint:
    """Random weights, so large that the distributions are far from flat; every byte is a token."""
    special = {"unk_token": "<|endoftext|>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    weights = initialise(Transformer(config), seed=seed, std=0.2).state_dict()
    return assemble(config, weights, byte_tokenizer(special), chat_template, source="tiny decoder")


def tiny_llama(chat_template: str | None = None) -> Checkpoint:
    return checkpoint(llama(**_SIZES, tied=True), chat_template=chat_template)


def tiny_mistral() -> Checkpoint:
    """Every layer sees the nearest `WINDOW` tokens."""
    return checkpoint(mistral(**_SIZES, window=WINDOW, tied=True))


def make_engine(kind: Kind, of: Checkpoint, **options: Any) -> Engine:
    """In float32 unless said otherwise. Where there are no compiled kernels, "fused" runs their definition."""
    options = {"weights": "float32", **options}
    if kind == "modules":
        return Engine(of, lowered=False, **options)
    with patch("lmworks.generate.engine.build_runner", lambda *given: runner_choice._fused(*given[:5])):
        return Engine(of, **options)


def tolerance(kind: Kind) -> float:
    """The compiled kernels add up each token's sums in one order, whatever stands beside it. Modules do not: float32,
    three layers, logits of magnitude 10 move by about 1e-5, and a wrong position or page moves them by more than 0.1.
    """
    return 0.0 if kind == "fused" and library.load() is not None else 5e-5


def assert_same(one: Completion, other: Completion, kind: Kind) -> None:
    assert (one.ids, one.text, one.finish_reason) == (other.ids, other.text, other.finish_reason)
    for values, expected in (
        (one.log_probabilities, other.log_probabilities),
        (one.sampled_log_probabilities, other.sampled_log_probabilities),
    ):
        if tolerance(kind):
            assert values == pytest.approx(expected, abs=tolerance(kind))
        else:
            assert values == expected


def finish(engine: Engine) -> None:
    """Step until nothing is in flight."""
    for _ in range(1000):
        if engine.batcher.idle:
            return
        engine.step()
    raise AssertionError("the engine does not become idle")


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


@torch.inference_mode()
def naive(of: Checkpoint, ids: tuple[int, ...], tokens: int) -> list[int]:
    """Greedy, the whole text anew for each token."""
    text = list(ids)
    for _ in range(tokens):
        text.append(int(of.model(torch.tensor([text]))[0, -1].argmax()))
    return text[len(ids) :]


def count_tokens(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> list[int]:
    """The tokens of each forward from now on."""
    tokens: list[int] = []
    forward = engine.batcher.runner.forward

    def spy(works: Sequence[Work], hidden: bool = False):
        tokens.append(sum(len(work.ids) for work in works))
        return forward(works, hidden)

    monkeypatch.setattr(engine.batcher.runner, "forward", spy)
    return tokens
