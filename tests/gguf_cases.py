"""Tiny models of every architecture that a GGUF file can hold, for the tests that write and read them."""

from pathlib import Path
from typing import Any

import torch

from lmworks.model import presets
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import LinearScaling, Llama3Scaling, ModelConfig, Rope, YarnScaling
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer

SIZES: dict[str, Any] = {
    "vocabulary": 267,
    "width": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "hidden": 96,
    "context_length": 128,
}
LLAMA3 = Rope(500_000.0, scaling=Llama3Scaling(8.0, 8192))

CONFIGS: dict[str, ModelConfig] = {
    "llama": presets.llama(**SIZES),
    "llama, tied, wide heads": presets.llama(**SIZES, tied=True, head_dim=32),
    "llama, biases": presets.llama(**SIZES, attention_bias=True, feed_forward_bias=True),
    "llama 3": presets.llama(**SIZES, head_dim=64, rope=LLAMA3),
    "llama 3, qwen's biases": presets.qwen2(**SIZES, head_dim=64, rope=LLAMA3),
    "llama, linear": presets.llama(**SIZES, rope=Rope(10_000.0, scaling=LinearScaling(2.0))),
    "llama, yarn": presets.llama(**SIZES, rope=Rope(10_000.0, scaling=YarnScaling(4.0, 32))),
    "mixtral": presets.mixtral(**SIZES, experts=4),
    "qwen2": presets.qwen2(**SIZES, tied=True),
    "qwen3": presets.qwen3(**SIZES, head_dim=32),
    "phi3": presets.phi3(**SIZES, rope=Rope(10_000.0, fraction=0.75), head_dim=16),
    "gemma": presets.gemma(**SIZES, head_dim=32),
    "gemma 2": presets.gemma2(**{**SIZES, "layers": 4}, head_dim=32, window=8),
    "gemma 3": presets.gemma3(**{**SIZES, "layers": 7}, head_dim=32, window=8),
    "gpt2": presets.gpt2(vocabulary=267, width=64, layers=2, heads=4, context_length=128),
}
ARCHITECTURES = {name: name.split(",")[0].replace(" ", "").replace("llama3", "llama") for name in CONFIGS} | {
    "mixtral": "llama"
}


def random_checkpoint(config: ModelConfig, tokenizer: Tokenizer) -> Checkpoint:
    """Every parameter matters: biases are not 0, and norms weigh their dimensions differently."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, parameter in Transformer(config).state_dict().items():
        drawn = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            weights[name] = parameter + 0.2 * drawn  # around what the norm begins with
        else:
            weights[name] = drawn * (0.3 if "bias" in name else parameter.shape[-1] ** -0.5)
    return assemble(config, weights, tokenizer, chat_template="{{ messages[0].content }}", licence="apache-2.0")


def copy_of(path: Path, folder: Path, length: int | None = None) -> Path:
    """The first `length` bytes of a file, as another file."""
    target = folder / f"copy-{length}.gguf"
    target.write_bytes(path.read_bytes()[:length])
    return target
