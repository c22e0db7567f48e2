"""The policy in training, and the engine that samples from it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.adapt.adapter import save_adapter
from lmworks.adapt.config import FullConfig, Method
from lmworks.adapt.lora_layers import lora_of
from lmworks.align.log_probabilities import Sequences, log_probabilities_and_values
from lmworks.align.online_config import OnlineConfig
from lmworks.generate.engine import Engine
from lmworks.generate.remote_engine import RemoteEngine
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import has_adapter
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import to_device
from lmworks.train.run import CRITIC, Run


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
    sends: tuple[Path, Method, Checkpoint] | None = None

    def refresh(self, version: int) -> str:
        """Sample from the weights as they are now; returns the engine's adapter."""
        name = f"policy-{version}"
        match self.engine:
            case RemoteEngine() if self.sends is not None:
                folder, method, checkpoint = self.sends
                if not (folder / name).exists():  # a run that goes on makes the same
                    save_adapter(folder / name, self.model, method, checkpoint)
                self.engine.load_adapter(name, folder / name)
                return name
            case Engine() if has_adapter(self.model):
                for other in self.engine.adapters:
                    self.engine.unload_adapter(other)
                self.engine.load_adapter(name, lora_of(self.model))
                return name
            case Engine():
                self.engine.weights_changed(version)
        return ""

    @torch.no_grad()
    def log_probabilities(
        self, model: Transformer, sequences: Sequences, temperature: float, critic: nn.Module | None = None
    ) -> tuple[Tensor, Tensor]:
        """ln p and the critic's values as the trainer computes them, without dropout."""
        training = model.training
        model.eval()
        found = log_probabilities_and_values(model, to_device(sequences, model.tokens.device), temperature, critic)
        model.train(training)
        return found[0].float().cpu(), found[1].float().cpu()


def policy_of(run: Run, config: OnlineConfig, method: Method, fixed: bool = False) -> Policy:
    """The run's model with an engine, unless completions are `fixed`; its reference is the model without its adapter,
    or a frozen copy."""
    model, reference, checkpoint = run.model, run.checkpoint.model, run.checkpoint
    if isinstance(method, FullConfig):
        weights = {name: w.clone() for name, w in reference.state_dict().items() if not name.startswith(CRITIC)}
        reference = replace(checkpoint, weights=weights).model.to(run.weights.dtype)
    if fixed:
        return Policy(model, reference, None)
    if (remote := config.remote) is not None:
        able: dict[str, Any] = {"log_probabilities": True, "token_ids": True, "runtime_adapters": bool(remote.adapters)}
        engine = RemoteEngine(remote.url, remote.model, concurrency=remote.concurrency, **able)
        sends = (Path(remote.adapters), method, checkpoint) if remote.adapters else None
        return Policy(model, reference, engine, sends)
    precision = "float32" if run.config.precision == "float32" else "bfloat16"
    served = checkpoint if has_adapter(model) else checkpoint.with_model(model)
    return Policy(model, reference, Engine(served, config.slots, config.length, precision))
