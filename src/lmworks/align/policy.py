"""The policy in training, and the engine that samples from it."""

import secrets
import shutil
from dataclasses import dataclass, field, replace
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
    sent       the adapter that a remote engine has
    """

    model: Transformer
    reference: Transformer
    engine: Engine | RemoteEngine | None
    sends: tuple[Path, Method, Checkpoint] | None = None
    sent: str = ""
    _sender: str = field(default_factory=lambda: secrets.token_hex(4))

    def refresh(self, version: int) -> str:
        """Sample from the weights as they are now; returns the engine's adapter."""
        match self.engine:
            case RemoteEngine() if self.sends is not None:
                folder, method, checkpoint = self.sends
                # An endpoint may keep what it computed under a name: one of other weights, or another process, differs.
                name = f"policy-{self._sender}-{lora_of(self.model).fingerprint[:16]}"
                if name == self.sent:
                    return name
                if self.sent:  # first, as it may have room for one alone
                    self.engine.unload_adapter(self.sent)
                    shutil.rmtree(folder / self.sent)
                save_adapter(folder / name, self.model, method, checkpoint)
                self.engine.load_adapter(name, folder / name)
                self.sent = name
                return name
            case Engine() if has_adapter(self.model):
                for other in self.engine.adapters:
                    self.engine.unload_adapter(other)
                self.engine.load_adapter(name := f"policy-{version}", lora_of(self.model))
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
        statistics = log_probabilities_and_values(model, to_device(sequences, model.tokens.device), temperature, critic)
        model.train(training)
        return statistics[0].float().cpu(), statistics[1].float().cpu()


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
