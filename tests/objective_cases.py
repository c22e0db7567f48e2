"""What must hold for every objective, whatever it asks: the tests of each call these."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from byte_tokenizer import byte_tokenizer
from lmworks.data.batches import PADDING, Batch, make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.data.config import PackingMode
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import PUBLISHED, initialise
from lmworks.model.transformer import Transformer
from lmworks.train.config import TrainConfig
from lmworks.train.loop import train
from lmworks.train.objectives.objective import Objective, count_rows, select_rows
from lmworks.train.optimizer_config import AdamW, Linear
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from token_cases import write_dataset
from training_cases import SPECIAL, loader_config

TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # float32 sums in another order


def means_and_gradients(model: Transformer, objective: Objective, examples: Any) -> tuple[dict[str, float], list[Any]]:
    """The mean of each loss, and the gradients of their sum, as the loop takes them of one part."""
    model.zero_grad(set_to_none=True)
    losses = objective.losses(model, examples)
    counts = objective.counts(examples)
    assert {name: loss.count for name, loss in losses.items()} == counts
    sum(loss.sum / counts[name] for name, loss in losses.items()).backward()  # type: ignore[union-attr]
    means = {name: float(loss.sum.detach()) / counts[name] for name, loss in losses.items()}
    return means, [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def check_parts(model: Transformer, objective: Objective, batch: Batch, seed: int = 3) -> None:
    """Parts of a batch have the batch's losses and gradients, and rows in another order have them too: what is drawn
    for a row does not depend on its neighbours."""
    examples = objective.examples(batch, seed)
    counts = objective.counts(examples)
    whole, gradients = means_and_gradients(model, objective, examples)
    model.zero_grad(set_to_none=True)
    sums = dict.fromkeys(counts, 0.0)
    for row in range(count_rows(examples)):
        losses = objective.losses(model, select_rows(examples, slice(row, row + 1)))
        total = sum(loss.sum / counts[name] for name, loss in losses.items())
        if isinstance(total, torch.Tensor) and total.requires_grad:
            total.backward()
        for name, loss in losses.items():
            sums[name] += float(loss.sum.detach())
    for name, mean in whole.items():
        torch.testing.assert_close(sums[name] / counts[name], mean, **TOLERANCE)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, **TOLERANCE)
    order = torch.arange(len(batch) - 1, -1, -1)
    other = objective.examples(select_rows(batch, order), seed)
    again, _ = means_and_gradients(model, objective, other)
    for name, mean in whole.items():
        torch.testing.assert_close(again[name], mean, **TOLERANCE)


def check_padding(model: Transformer, objective: Objective, batch: Batch, more: int = 5, seed: int = 3) -> None:
    """Padding behind every row changes nothing."""
    whole, gradients = means_and_gradients(model, objective, objective.examples(batch, seed))
    padded, others = means_and_gradients(model, objective, objective.examples(pad(batch, more), seed))
    for name, mean in whole.items():
        torch.testing.assert_close(padded[name], mean, **TOLERANCE)
    for ours, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def pad(batch: Batch, more: int) -> Batch:
    """The batch with `more` places of padding behind each row."""

    def longer(tensor: torch.Tensor, value: int) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, more), value=value)

    return replace(
        batch,
        ids=longer(batch.ids, 0),
        positions=longer(batch.positions, 0),
        documents=longer(batch.documents, PADDING),
        targets=longer(batch.targets, 0),
        mask=longer(batch.mask, False),
    )


def check_packing(
    model: Transformer, objective: Objective, packed: Batch, alone: Callable[[], list[Batch]], seed: int = 3
) -> None:
    """Documents packed into rows have the losses and gradients of each alone in its row. For objectives that draw
    nothing at random: what another row draws is something else."""
    whole, gradients = means_and_gradients(model, objective, objective.examples(packed, seed))
    batches = [objective.examples(batch, seed) for batch in alone()]
    counts = {name: sum(objective.counts(batch)[name] for batch in batches) for name in whole}
    model.zero_grad(set_to_none=True)
    for batch in batches:
        sum(loss.sum / counts[name] for name, loss in objective.losses(model, batch).items()).backward()  # type: ignore[union-attr]
    assert counts == objective.counts(objective.examples(packed, seed))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, **TOLERANCE)


def check_nothing(model: Transformer, objective: Objective, batch: Batch) -> None:
    """A batch without a target has losses, and gradients, of nothing."""
    examples = objective.examples(batch, 0)
    losses = objective.losses(model, examples)
    counts = objective.counts(examples)
    assert {name: (float(loss.sum.detach()), loss.count) for name, loss in losses.items()} == dict.fromkeys(
        counts, (0.0, 0)
    )
    model.zero_grad(set_to_none=True)
    total = sum(loss.sum for loss in losses.values())
    if isinstance(total, torch.Tensor) and total.requires_grad:
        total.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def batch_of(
    folder: Path,
    documents: Sequence[NDArray[np.int64]],
    length: int,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    mode: PackingMode = "pack",
) -> Batch:
    """All documents as one batch of rows of `length` places."""
    dataset = write_dataset(folder, documents, masks, vocabulary_size=257)
    plan = plan_sequences(dataset.lengths, length, mode)
    rows = np.arange(plan.sequences)
    return make_batch([dataset], [plan], np.zeros_like(rows), rows)


def some_documents(lengths: Sequence[int] = (7, 20, 3, 12, 9, 15, 1, 18), last: int | None = None) -> list[Any]:
    """Documents of the 256 byte tokens; with `last`, each ends in that token."""
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, 256, length) for length in lengths]
    return documents if last is None else [np.append(document, last) for document in documents]


def new_model(config: ModelConfig, scheme: str, seed: int = 0) -> Transformer:
    return initialise(Transformer(config), seed, scheme=PUBLISHED[scheme])


def unigram_nats(dataset: TokenDataset) -> float:
    """The mean loss of the best guess that looks at nothing: the entropy of the tokens."""
    counts = np.bincount(dataset.read(0, dataset.tokens))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def learn(
    config: ModelConfig,
    scheme: str,
    objective: Objective,
    dataset: Path,
    folder: Path,
    rate: float = 5e-3,
    **loader: Any,
) -> list[dict[str, float]]:
    """The log of a short run: a line for each step, with each of the objective's losses."""
    checkpoint = assemble(config, new_model(config, scheme).state_dict(), byte_tokenizer(SPECIAL))
    settings = TrainConfig(optimizer=AdamW(rate=rate), schedule=Linear(warmup=5), log=1, validate=None)
    batches = Loader(loader_config(dataset, **({"batch": 16, "steps": 120} | loader)))
    train(Run(checkpoint, objective, batches, settings, folder))
    return [line for line in read_log(folder / "log.jsonl") if line["kind"] == "step"]
