"""Small models and small data that can be learnt, for the tests of training."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from byte_tokenizer import byte_tokenizer
from lmworks.data.batches import Batch
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import PUBLISHED, initialise
from lmworks.model.presets import gpt2, llama, mixtral, switch
from lmworks.model.transformer import Transformer
from lmworks.train.config import TrainConfig
from lmworks.train.losses import Loss
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run
from token_cases import write_dataset

SPECIAL = {"eos_token": "<|end|>"}
CONFIGS = {
    "gpt2": gpt2(vocabulary=257, width=32, layers=2, heads=2, context_length=64),
    "llama": llama(vocabulary=257, width=32, layers=2, heads=2, kv_heads=1, hidden=64, context_length=64),
    "mixtral": mixtral(257, width=32, layers=2, heads=2, kv_heads=1, hidden=32, context_length=64),
    "switch": switch(257, width=32, layers=2, heads=2, hidden=32, experts=4, head_dim=16, context_length=64),
}


def new_checkpoint(family: str = "llama", seed: int = 0) -> Checkpoint:
    config = CONFIGS[family]
    model = initialise(Transformer(config), seed, scheme=PUBLISHED[family])
    return assemble(config, model.state_dict(), byte_tokenizer(SPECIAL))


def write_text_dataset(folder: Path) -> Path:
    """Documents in which most bytes follow from the one before: there is something to learn in a few steps."""
    generator = np.random.default_rng(0)
    follows = generator.permutation(96) + 32
    documents = []
    for length in generator.integers(5, 150, 200).tolist():
        ids = [int(generator.integers(32, 128))]
        while len(ids) < length:
            ids.append(int(follows[ids[-1] - 32]) if generator.random() < 0.9 else int(generator.integers(32, 128)))
        documents.append(np.array([*ids, 256]))
    write_dataset(folder, documents, vocabulary_size=257)
    return folder


def run_of(folder: Path, dataset: Path, steps: int = 20, family: str = "llama", seed: int = 0, **settings: Any) -> Run:
    """A run that predicts next tokens; `settings` are of `TrainConfig`."""
    config = TrainConfig(**({"log": 1, "validate": None, "optimizer": AdamW(rate=3e-3)} | settings))
    loader = Loader(loader_config(dataset, steps=steps, seed=seed))
    return Run(new_checkpoint(family), CausalLanguageModel(), loader, config, folder)


def spoil(run: Run, bad: Container[int], value: float = float("nan")) -> Run:
    """The run whose reported loss gets this much higher at the batches at the places `bad`: no number, by default."""

    class Spoilt(CausalLanguageModel):
        def losses(self, model: Transformer, examples: Batch) -> Mapping[str, Loss]:
            losses = super().losses(model, examples)
            if run.position.cursor in bad:
                losses["next_token"].metrics["nats"].add_(value * losses["next_token"].count)
            return losses

    run.objective = Spoilt()
    return run


def stage_inputs(folder: Path, seed: int = 0) -> dict[str, Path]:
    """What `train.pretrain` reads: shards of random bytes, and their tokenizer."""
    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.save(folder / "vocabulary")
    generator = np.random.default_rng(seed)
    documents = [generator.integers(0, 257, length) for length in generator.integers(5, 90, 100).tolist()]
    path, first = folder / "tokens", 1000 * seed
    write_dataset(path, documents, vocabulary_size=257, vocabulary=tokenizer.hash, first=first)
    return {"tokens": folder / "tokens", "vocabulary": folder / "vocabulary"}


def loader_config(folder: Path, **settings: object) -> LoaderConfig:
    defaults = {"length": 32, "batch": 8, "steps": 20, "ahead": 2}
    return LoaderConfig({"text": SourceConfig(str(folder))}, **(defaults | settings))  # type: ignore[arg-type]
