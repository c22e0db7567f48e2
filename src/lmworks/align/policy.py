"""The policy in training, and the engine that samples from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.adapt.adapter import save_adapter
from lmworks.adapt.config import Method
from lmworks.adapt.lora_layers import lora_of
from lmworks.align.log_probabilities import Sequences, log_probabilities_and_values
from lmworks.generate.engine import Engine
from lmworks.generate.remote_engine import RemoteEngine
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import has_adapter
from lmworks.model.transformer import Transformer


@dataclass
class Policy:
    """The model in training and the engine that samples from it, with one set of weights.

    model      with its adapter, where it has one: then the engine has the base, and the adapter by a new name for each
               version. Else they share their tensors.
    reference  what the KL divergence is measured to
    sends      a remote engine's way to the adapter: the folder that it reads, and what a saved adapter names
    """

    model: Transformer
    reference: Transformer
    engine: Engine | RemoteEngine | None
    device: torch.device | str = "cpu"
    sends: tuple[Path, Method, Checkpoint] | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: Transformer, reference: Transformer, **options: Any) -> "Policy":
        """`options` are the engine's."""
        served = checkpoint if has_adapter(model) else checkpoint.with_model(model)
        return cls(model, reference, Engine(served, **options), model.tokens.device)

    def refresh(self, version: int) -> str:
        """Sample from the weights as they are now; returns the engine's adapter."""
        name = f"policy {version}"
        match self.engine:
            case None:
                return ""
            case RemoteEngine():
                if self.sends is None:
                    return ""
                folder, method, checkpoint = self.sends
                name = f"policy-{version}"
                if not (folder / name).exists():  # a run that goes on makes the same
                    save_adapter(folder / name, self.model, method, checkpoint)
                self.engine.load_adapter(name, folder / name)
                return name
        if not has_adapter(self.model):
            self.engine.weights_changed(version)
            return ""
        for other in self.engine.adapters:
            self.engine.unload_adapter(other)
        self.engine.load_adapter(name, lora_of(self.model))
        return name

    @torch.no_grad()
    def log_probabilities(
        self, model: Transformer, sequences: Sequences, temperature: float, critic: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """ln p and the critic's values as the trainer computes them, without dropout."""
        training = model.training
        model.eval()
        moved = Sequences(*(part.to(self.device) for part in sequences))
        found = log_probabilities_and_values(model, moved, temperature, critic)
        model.train(training)
        return found[0].float().cpu(), found[1].float().cpu()
