"""Experts stay in balance, whatever the run's objective and however its steps are divided."""

import pytest
import torch

from kit.tables import for_each
from lmworks.data.loader import Loader
from lmworks.model.mixture_of_experts import load_balancing_loss, observe_routing, router_z_loss
from lmworks.train.config import TrainConfig
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.loop import train
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.span_corruption import SpanCorruption
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.run import Run
from lmworks.train.run_log import LOG, read_log
from lmworks.train.run_report import curve_section
from training_cases import loader_config, new_checkpoint, run_of


def effective(run):
    lines = [line for line in read_log(run.folder / LOG) if line["kind"] == "experts"]
    return [line["effective_experts"] for line in lines if line["step"] == run.position.step]


def collapsing(folder, dataset, **settings):
    """A run whose routers begin with a strong preference for some experts."""
    run = run_of(folder, dataset, 60, "mixtral", optimizer=AdamW(rate=3e-3, decay=0.0), **settings)
    with torch.no_grad():
        for name, weight in run.weights.masters.items():
            if name.endswith("router.weight"):
                weight[:2] += 3 * torch.sign(weight[:1])
    run.weights.load(dict(run.weights.masters), {})
    train(run)
    return run


def test_experts_are_balanced_unless_told_otherwise(text_dataset, tmp_path):
    balanced = collapsing(tmp_path / "balanced", text_dataset, balance=0.1)
    left = collapsing(tmp_path / "left", text_dataset, balance=0.0)
    assert min(effective(balanced)) > max(effective(left)) + 1
    last = [line for line in read_log(tmp_path / "balanced" / LOG) if line["kind"] == "step"][-1]
    assert 2 <= last["load_balancing"] < 4 and last["router_z"] > 0
    section, _ = curve_section(tmp_path / "balanced" / LOG)
    assert [row[0] for table in section.tables for row in table.rows if "feed_forward" in str(row[0])] == [
        "decoder.blocks.0.feed_forward",
        "decoder.blocks.1.feed_forward",
    ]


def objective_of(family):
    return SpanCorruption(tuple(range(200, 250)), 256) if family == "switch" else CausalLanguageModel()


@for_each("family", ["mixtral", "switch"])
def test_micro_batches_and_padding_change_no_gradient(family, text_dataset, tmp_path):
    gradients, reported = [], []
    for size in (None, 3, 1):
        loader = Loader(loader_config(text_dataset, steps=2))
        run = Run(new_checkpoint(family), objective_of(family), loader, TrainConfig(), tmp_path)
        examples = run.examples(next(loader), 0)
        taken = compute_gradients(run.model, run.weights, run.objective, examples, size)
        gradients.append({name: gradient.clone() for name, gradient in run.weights.gradients()})
        reported.append({**taken.metrics, "loss": taken.loss, "targets": taken.targets})
    assert {"load_balancing", "router_z"} <= reported[0].keys()
    for other, numbers in zip(gradients[1:], reported[1:], strict=True):
        assert numbers == pytest.approx(reported[0], rel=1e-5)
        torch.testing.assert_close(other, gradients[0], rtol=1e-3, atol=1e-6)


def test_the_penalty_is_that_of_the_rows_real_tokens(text_dataset, tmp_path):
    loader = Loader(loader_config(text_dataset, length=64, steps=1))
    run = Run(
        new_checkpoint("mixtral"), CausalLanguageModel(), loader, TrainConfig(balance=0.3, router_z=0.2), tmp_path
    )
    batch = run.examples(next(loader), 0)
    losses = run.objective.losses(run.model, batch)["next_token"]
    plain = CausalLanguageModel().losses(run.model, batch)["next_token"]
    expected = 0.0
    for row in range(len(batch)):
        length = int((batch.documents[row] >= 0).sum())
        with observe_routing(run.model) as routing:
            CausalLanguageModel().losses(run.model, batch[row : row + 1])
        for layer in routing.values():
            logits = layer.logits[0, :length]  # without what stands behind the texts
            each = 0.3 * load_balancing_loss(logits, 2) + 0.2 * router_z_loss(logits)
            expected += float(each.detach()) * int(batch.mask[row].sum())
    assert float(losses.sum - plain.sum) == pytest.approx(expected, rel=1e-4)
    assert losses.metrics["nats"] == plain.metrics["nats"]


def test_what_divides_rows_is_refused(text_dataset, tmp_path):
    from lmworks.train.objectives.balanced_experts import balanced

    model = new_checkpoint("mixtral").model
    with pytest.raises(ValueError, match=r"train\.balance=0"):
        balanced(CausalLanguageModel(), model, TrainConfig(parallel=ParallelConfig(pipeline=2)))
