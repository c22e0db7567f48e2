"""Models and adapters of a few thousand weights for the tests beside this file."""

import torch

from lmworks.adapt import Lora, LoraConfig, initialise_lora
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import initialise
from lmworks.model.presets import gpt2, llama, mixtral, t5
from lmworks.model.transformer import Transformer

VOCABULARY = 89
LLAMA = llama(VOCABULARY, 32, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64)
TIED = gpt2(VOCABULARY, 32, layers=2, heads=4, hidden=48, context_length=64)
T5 = t5(VOCABULARY, 32, layers=2, heads=4, hidden=48, context_length=64)
MIXTRAL = mixtral(VOCABULARY, 32, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64, experts=4, top_k=2)


def build(config: ModelConfig, seed: int = 0) -> Transformer:
    return initialise(Transformer(config), seed=seed, std=0.15).eval()


def random_lora(config: ModelConfig, seed: int, lora_config: LoraConfig | None = None) -> Lora:
    """With a B that is not zero, so that it changes something."""
    generator = torch.Generator().manual_seed(seed)
    fresh = initialise_lora(config, lora_config or LoraConfig(r=4), generator)
    return Lora(
        {name: c._replace(b=0.3 * torch.randn(c.b.shape, generator=generator)) for name, c in fresh.changes.items()}
    )


def random_ids(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))
