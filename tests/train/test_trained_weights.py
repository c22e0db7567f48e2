"""Weights with and without masters, and the measures taken of gradients."""

import pytest
import torch

from kit.tables import for_each
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import load
from lmworks.train.config import TrainConfig
from lmworks.train.exponential_moving_average import ExponentialMovingAverage
from lmworks.train.loop import train
from lmworks.train.master_weights import Weights
from lmworks.train.mixed_precision import LossScale
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW, Sgd
from lmworks.train.run import Run
from training_cases import loader_config, new_checkpoint, write_text_dataset


def linear(dtype=torch.float32):
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(2, 3) / 7)
        layer.bias.fill_(1.0)
    return layer.to(dtype)


def test_adamw_is_torchs():
    ours, theirs = linear(), linear()
    weights = Weights(ours, AdamW(rate=0.1, decay=0.0), "float32")
    other = torch.optim.AdamW(theirs.parameters(), 0.1, (0.9, 0.95), weight_decay=0.0)
    for number in range(3):
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
        weights.clear()
        other.zero_grad()
        ours(inputs).square().sum().backward()
        theirs(inputs).square().sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        torch.testing.assert_close(weights.gradient_norm(), norm)
        weights.update(0.5, 0.5 / float(norm))
        other.param_groups[0]["lr"] = 0.05
        other.step()
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_adamw_in_bfloat16_is_torchs_on_the_masters_and_then_rounds_them():
    ours, theirs = linear(), linear()
    weights = Weights(ours, AdamW(rate=0.1, decay=0.2), "bfloat16")
    other = torch.optim.AdamW([theirs.weight], 0.1, (0.9, 0.95), weight_decay=0.2)
    for number in range(3):
        gradient = torch.randn(2, 3, generator=torch.Generator().manual_seed(number)).bfloat16()
        ours.weight.grad, theirs.weight.grad = gradient, gradient.float() * 0.5
        weights.update(1.0, 0.5)
        other.step()
        torch.testing.assert_close(weights.masters["weight"], theirs.weight.detach())
        assert torch.equal(ours.weight, weights.masters["weight"].bfloat16())
        assert ours.weight.grad is None
    assert {path: tuple(value.shape) for path, value in weights.state().items()} == {
        "0/step/weight": (), "0/exp_avg/weight": (2, 3), "0/exp_avg_sq/weight": (2, 3),
    }  # fmt: skip


def test_steps_with_and_without_the_kernel_go_on_from_one_another(monkeypatch):
    """As on a machine where the kernels were not built, with the checkpoint of one where they were."""
    layers = [linear(), linear()]
    both = [Weights(layer, AdamW(rate=0.1), "bfloat16") for layer in layers]
    for number in range(4):
        gradient = torch.randn(2, 3, generator=torch.Generator().manual_seed(number)).bfloat16()
        for place, (layer, weights) in enumerate(zip(layers, both, strict=True)):
            layer.weight.grad = gradient.clone()
            with monkeypatch.context() as patched:
                if (number + place) % 2:
                    patched.setattr("lmworks.kernels.training_kernels.loaded", lambda kernels: None)
                weights.update(1.0)
    torch.testing.assert_close(both[0].masters["weight"], both[1].masters["weight"])
    assert both[0].state()["0/step/weight"] == both[1].state()["0/step/weight"] == 4


def test_updates_too_small_for_bfloat16_add_up_on_the_masters():
    """1 + 1e-3 is 1 in bfloat16; eight of them are not."""
    layer = linear(torch.float32)
    weights = Weights(layer, Sgd(rate=1e-3, momentum=0.0), "bfloat16")
    for _ in range(8):
        weights.clear()
        layer.bias.grad = torch.full((2,), -1.0, dtype=torch.bfloat16)
        weights.update(1.0)
    torch.testing.assert_close(weights.masters["bias"], torch.full((2,), 1.008))
    assert layer.bias.tolist() == [1.0078125] * 2


def test_parts_in_bfloat16_are_summed_in_float32():
    layer = linear()
    weights = Weights(layer, Sgd(), "bfloat16")
    for _ in range(1000):
        layer.bias.grad = torch.ones(2, dtype=torch.bfloat16)
        weights.accumulate()
    assert dict(weights.gradients())["bias"].tolist() == [1000.0, 1000.0]  # bfloat16 would stop at 256


def test_frozen_weights_stay():
    model = new_checkpoint().model.train()
    model.embedding.requires_grad_(False)
    before = model.tokens.clone()
    weights = Weights(model, AdamW(), "bfloat16")
    assert "embedding.tokens.weight" not in weights.masters
    model(torch.arange(9)[None]).float().square().sum().backward()
    weights.update(1.0)
    assert torch.equal(model.tokens, before.bfloat16())


def test_frozen_weights_are_kept_unrounded(tmp_path):
    """A checkpoint and the end of a run in bfloat16 hold the frozen weights as they were given, bit for bit."""
    checkpoint = new_checkpoint()
    checkpoint.model.embedding.requires_grad_(False)
    before = checkpoint.model.tokens.detach().clone()
    dataset = write_text_dataset(tmp_path / "tokens")
    config = TrainConfig(precision="bfloat16", validate=None)
    run = Run(checkpoint, CausalLanguageModel(), Loader(loader_config(dataset, steps=2)), config, tmp_path / "run")
    train(run)
    assert not torch.equal(before.bfloat16().float(), before)
    assert torch.equal(run.finished().model.tokens, before)
    assert torch.equal(load(run.checkpoints.path(2)).model.tokens, before)


def test_a_bfloat16_model_is_trained_in_float32_where_that_is_asked_for(tmp_path):
    """As its float32 copy is, bit for bit."""
    dataset = write_text_dataset(tmp_path / "tokens")
    ends = []
    for name, first, then in (("low", "bfloat16", "bfloat16"), ("copy", "bfloat16", "float32")):
        checkpoint = new_checkpoint()
        checkpoint.model.to(getattr(torch, first)).to(getattr(torch, then))
        loader = Loader(loader_config(dataset, steps=3))
        run = Run(checkpoint, CausalLanguageModel(), loader, TrainConfig(validate=None), tmp_path / name)
        train(run)
        assert {p.dtype for p in run.model.parameters()} == {torch.float32}
        ends.append(run.weights.masters)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


@for_each("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_saved_state_goes_to_where_the_weights_are(device):
    """All of it: fused AdamW counts its steps beside them."""
    layer = linear().to(device)
    weights = Weights(layer, AdamW(), "float32")
    layer(torch.ones(1, 3, device=device)).sum().backward()
    weights.update(1.0)
    masters = {name: master.detach().cpu() for name, master in weights.masters.items()}
    weights.load(masters, {name: value.cpu() for name, value in weights.state().items()})
    assert {value.device.type for value in weights.state().values()} == {device}
    assert {float(value) for name, value in weights.state().items() if "/step/" in name} == {1.0}
    weights.clear()
    layer(torch.ones(1, 3, device=device)).sum().backward()
    weights.update(1.0)
    assert {float(value) for name, value in weights.state().items() if "/step/" in name} == {2.0}


def test_no_gradient_has_no_length():
    assert float(Weights(linear(), AdamW(), "float32").gradient_norm()) == 0


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        Weights(linear().requires_grad_(False), AdamW(), "float32")


def test_state_of_another_optimizer_is_refused():
    layer = linear()
    weights = Weights(layer, AdamW(), "float32")
    with pytest.raises(ValueError, match="another optimizer's"):
        weights.load(
            {name: p.detach() for name, p in layer.named_parameters()}, {"1/momentum/weight": torch.zeros(2, 3)}
        )


def test_a_loss_scale_halves_at_infinities_and_doubles_after_patience():
    scale = LossScale.of("float16")
    assert scale.overflowed(float("inf"))
    assert scale.value == 2.0**15
    assert not any(scale.overflowed(1.0) for _ in range(1000))
    assert scale.value == 2.0**16
    assert not LossScale.of("bfloat16").overflowed(float("nan"))  # for the guard to judge


def test_an_average_is_the_weighted_sum_of_what_was():
    master = torch.tensor([1.0])
    average = ExponentialMovingAverage({"w": master}, 0.5)
    values = [1.0]
    for step in range(6):
        master.fill_(step * step)
        average.update(step)
        keep = min(0.5, (1 + step) / (10 + step))
        values.append(keep * values[-1] + (1 - keep) * step * step)
    assert average.weights["w"].item() == pytest.approx(values[-1])
    assert ExponentialMovingAverage({"w": master}, None).weights == {}
