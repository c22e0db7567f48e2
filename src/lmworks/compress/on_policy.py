"""On-policy distillation (Agarwal et al. 2024, algorithm 1): batches that the student writes itself, through the
engine, and the teacher judges token by token."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from lmworks.compress.distillation_config import OnPolicyConfig
from lmworks.data.batches import PADDING, Batch
from lmworks.data.config import LoaderConfig
from lmworks.data.loader import Loader
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.rollouts import Rollout, roll_out, seed_of
from lmworks.train.run import PROJECTIONS, Run

_SLOTS = 16

Write = Callable[[Sequence[Sequence[int]], str], list[Rollout]]  # prompts and a key of the sampling → completions


class OnPolicyLoader(Loader):
    """The batches of token shards; a share of them, drawn by the number of the step, is completed by the student.

    write  is set when the run is there: see `writer_of`.
    """

    write: Write | None = None

    def __init__(self, config: LoaderConfig, on_policy: OnPolicyConfig, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(config, rank, world_size)
        self.on_policy = on_policy

    def __next__(self) -> Batch:
        batch, key = super().__next__(), f"{self.config.seed} {self.step - 1}"
        if seed_of(key, 0, 0) >= self.on_policy.share * 2**63:
            self.metrics = {"written": 0.0}
            return batch
        assert self.write is not None
        made = batch_of_rollouts(self.write(beginnings(batch, self.on_policy.prompt), f"{key} {self.rank}"), batch)
        self.metrics = {"written": int(made.mask.sum()) / len(made)}  # tokens of each sequence
        return made


def writer_of(run: Run, config: OnPolicyConfig) -> Write:
    """A function that lets the run's model, as it is then, continue beginnings, by an engine of its own."""
    length = min(run.loader.config.length + config.completion, run.checkpoint.config.context_length)
    weights = "float32" if run.config.precision == "float32" else "bfloat16"
    engine = Engine(run.checkpoint.with_model(run.model), _SLOTS, length, weights, speculation=None)
    sampling = SamplingParameters(config.completion, config.temperature)

    def write(prompts: Sequence[Sequence[int]], key: str) -> list[Rollout]:
        version, state = engine.policy_version + 1, run.model.state_dict()
        own = {name: weight.detach() for name, weight in state.items() if not name.startswith(PROJECTIONS)}
        engine.load_weights(own, version, f"student {version}")
        return [group[0] for group in roll_out(engine, prompts, 1, sampling, key)]

    return write


def beginnings(batch: Batch, most: int) -> list[list[int]]:
    """The first `most` ids of each row's first document; where its first tokens are not to be learned, all up to the
    first that is."""
    prompts = []
    for ids, documents, mask in zip(batch.ids, batch.documents, batch.mask, strict=True):
        of_document, learned = int((documents == documents[0]).sum()), mask.nonzero()[:, 0]
        asked = int(learned[0]) + 1 if len(learned) and learned[0] else most
        prompts.append(ids[: min(asked, of_document)].tolist())
    return prompts


def batch_of_rollouts(rollouts: Sequence[Rollout], batch: Batch) -> Batch:
    """A batch of the rollouts, padded behind, in which the sampled tokens are learned; with the sources and sequences
    of `batch`."""
    ids, sampled = (
        F.pad(pad_sequence([torch.tensor(getattr(rollout, name)) for rollout in rollouts], batch_first=True), (0, 1))
        for name in ("ids", "sampled")
    )
    positions = torch.arange(ids.shape[1] - 1)[None]
    real = positions < torch.tensor([len(rollout.ids) for rollout in rollouts])[:, None]
    return replace(
        batch,
        ids=ids[:, :-1],
        positions=positions * real,
        documents=torch.arange(len(rollouts))[:, None].where(real, PADDING),
        targets=ids[:, 1:],
        mask=sampled[:, 1:],
    )
