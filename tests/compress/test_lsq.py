"""Quantisation-aware training: gradients by LSQ's equation, and a matrix that is the one that was trained."""

import json

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import lmworks
from kit.tables import for_each
from lmworks.artefact import StageContext
from lmworks.compress.config import GridConfig, LSQConfig
from lmworks.compress.lsq import RoundedLinear, lsq, rounded_model
from lmworks.kernels.weight_formats import dequantise
from lmworks.train.config import FinetuneConfig, TrainConfig
from lmworks.train.optimizer_config import AdamW
from token_cases import write_dataset
from training_cases import new_checkpoint

GRIDS = [GridConfig(3), GridConfig(4, symmetric=True), GridConfig(2), GridConfig(8)]


@for_each("config", GRIDS)
def test_gradients_are_those_of_the_papers(config):
    torch.manual_seed(0)
    layer = RoundedLinear(nn.Linear(64, 8), config)
    layer.grown.data -= 0.3  # so that some weights lie beyond the levels
    levels = layer.levels()
    scales, minimums = levels.spread(layer.weight)
    upstream = torch.randn(8, 64)
    (layer.rounded() * upstream).sum().backward()
    low, high = config.levels
    v = ((layer.weight - minimums) / scales).detach()
    within = (v >= low) & (v <= high)
    assert 0 < within.sum() < within.numel()
    assert torch.allclose(layer.weight.grad, upstream * within)
    # LSQ, equation 3, with the minimum of LSQ+ (symmetric: -8 s, which moves with s); d s / d grown is s.
    q = v.round().clamp(low, high)
    moves = config.symmetric and config.bits < 8
    of_scale = torch.where(within, q - v, q - 8 if moves else q)
    wanted = (of_scale * upstream * scales).unflatten(1, (-1, 32)).sum(-1)
    assert torch.allclose(
        layer.grown.grad, wanted, atol=2e-3 * float(wanted.abs().max())
    )  # scales are rounded to float16
    if layer.shifted is not None:
        shift = (~within * upstream * layer.grid.scales.repeat_interleave(32, 1)).unflatten(1, (-1, 32)).sum(-1)
        assert torch.allclose(layer.shifted.grad, shift, atol=1e-5)


@for_each("config", GRIDS)
def test_the_matrix_that_is_delivered_is_the_one_in_the_forward(config):
    torch.manual_seed(0)
    layer = RoundedLinear(nn.Linear(64, 8), config)
    layer.grown.data += 0.1 * torch.randn_like(layer.grown)
    if layer.shifted is not None:
        layer.shifted.data += 0.5 * torch.randn_like(layer.shifted)
    with torch.no_grad():
        assert torch.equal(dequantise(layer.quantised()), layer.rounded())


def test_a_run_learns_with_rounded_weights_and_delivers_them(tmp_path):
    base = new_checkpoint()
    documents = [np.array([*(b"the sun is red and the moon is not. " * 3), 256]) for _ in range(40)]
    write_dataset(tmp_path / "shards", documents, vocabulary=base.required_tokenizer.hash)
    train = TrainConfig(AdamW(), validate=None, log=1)
    tune = FinetuneConfig(steps=30, length=32, batch=8, rate=3e-3, train=train)
    config = LSQConfig(str(base.save(tmp_path / "base")), GridConfig(2), tune=tune, format="float")
    for name in ("output", "work"):
        (tmp_path / name).mkdir()
    lsq(config, StageContext({"shards": tmp_path / "shards"}, tmp_path / "output", tmp_path / "work"))
    log = [json.loads(line) for line in (tmp_path / "output" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < 0.6 * losses[0]
    made = lmworks.load(tmp_path / "output")
    rows = made.weights["decoder.blocks.0.feed_forward.down.weight"]
    assert all(len(group.unique()) <= 4 for row in rows for group in row.split(32))
    ids = torch.tensor(np.stack([document[:64] for document in documents[:2]]))
    with torch.no_grad():
        models = (made.model, base.model)
        after, before = (F.cross_entropy(each(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) for each in models)
    assert after < 1.2 * losses[-1] < before


def test_the_rounded_model_shares_the_weights():
    model = new_checkpoint().model
    rounded = rounded_model(model, GridConfig(4))
    own = dict(rounded.named_parameters())
    assert all(own[name] is weight for name, weight in model.named_parameters())
    ids = torch.randint(0, 256, (2, 16))
    assert not torch.equal(rounded(ids), model(ids))
