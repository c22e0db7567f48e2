"""Lion and Muon against their papers' formulas, and which weight gets which optimizer."""

import pytest
import torch

from kit.tables import for_each
from lmworks.model.presets import gopher
from lmworks.model.transformer import Transformer
from lmworks.train.optimizer_config import AdamW, Muon, Sgd
from lmworks.train.optimizers import muon
from lmworks.train.optimizers.build_optimizers import Lion, build_optimizers


def test_lion_is_algorithm_2():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator)
    ours = weight.clone()
    optimizer = Lion([ours], 0.01, (0.9, 0.99), 0.5)
    momentum = torch.zeros(4, 3)
    for _ in range(5):
        gradient = torch.randn(4, 3, generator=generator)
        ours.grad = gradient.clone()
        optimizer.step()
        update = torch.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
        weight = weight - 0.01 * (update + 0.5 * weight)
        torch.testing.assert_close(ours, weight)


@for_each("shape", [(16, 16), (48, 16), (16, 64)])
def test_newton_schulz_moves_singular_values_to_one(shape):
    """Between 0.7 and 1.2, as the authors say of these coefficients, from a tenth of the largest one on; the singular
    vectors stay."""
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))
    values = torch.linspace(0.1, 1, min(shape))
    (result,) = muon.orthogonalise((left @ values.diag() @ right.T)[None]).float()
    assert result.shape == shape
    found = left.T @ result @ right
    assert found.diagonal().min() > 0.65
    assert found.diagonal().max() < 1.25
    assert (found - found.diagonal().diag()).abs().max() < 0.05  # bfloat16


def test_muon_against_torch():
    """torch's own Muon, with the same size of updates, where this torch has it."""
    theirs_class = getattr(torch.optim, "Muon", None)
    if theirs_class is None:
        pytest.skip("this torch has no Muon")
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(8, 24, generator=generator)
    ours, theirs = weight.clone(), torch.nn.Parameter(weight.clone())
    first = muon.Muon([ours], 0.02, 0.95, 0.1)
    # torch keeps a mean where the authors keep a sum: the direction is the same.
    second = theirs_class([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(8, 24, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
        torch.testing.assert_close(ours, theirs.detach(), atol=2e-3, rtol=0)  # bfloat16 inside of both


@for_each("together", [1, 40, muon.BATCHED_VALUES])
def test_muon_gives_a_matrix_what_it_gives_it_alone(together, monkeypatch):
    """To the bit, whichever matrices are orthogonalised beside it."""
    monkeypatch.setattr(muon, "BATCHED_VALUES", together)
    generator = torch.Generator().manual_seed(3)
    shapes = [(4, 6), (6, 4), (4, 6), (4, 6), (5, 5), (4, 6)]
    beside = [torch.randn(shape, generator=generator) for shape in shapes]
    alone = [weight.clone() for weight in beside]
    optimizers = [muon.Muon([each], 0.02, 0.95, 0.1) for each in alone] + [muon.Muon(beside, 0.02, 0.95, 0.1)]
    for _ in range(3):
        for ours, theirs in zip(beside, alone, strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(beside, alone, strict=True))
    assert not torch.equal(beside[0], beside[2])


def weights():
    names = ("embedding.tokens.weight", "decoder.blocks.0.attention.query.weight", "decoder.norm.weight", "head.bias")
    return dict(zip(names, (torch.zeros(5, 4), torch.zeros(4, 4), torch.zeros(4), torch.zeros(5)), strict=True))


def test_vectors_are_not_decayed():
    given = weights()
    (optimizer,) = build_optimizers(AdamW(decay=0.3), given)
    decay = {id(weight): group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    assert [decay[id(weight)] for weight in given.values()] == [0.3, 0.3, 0.0, 0.0]


def test_muon_takes_the_matrices_of_blocks():
    given = weights()
    mine, rest = build_optimizers(Muon(), given)
    taken = [[id(weight) for group in each.param_groups for weight in group["params"]] for each in (mine, rest)]
    assert taken[0] == [id(given["decoder.blocks.0.attention.query.weight"])]
    assert sorted(taken[0] + taken[1]) == sorted(map(id, given.values()))


def test_muon_leaves_tables_of_positions_to_the_rest():
    """They stand in blocks and are matrices, and no vector is ever multiplied with one as a linear map."""
    named = dict(Transformer(gopher(11, 8, 1, 2, 16, context_length=4)).named_parameters())
    tables = {name for name, weight in named.items() if name.endswith("_bias") and weight.dim() == 2}
    mine, _ = build_optimizers(Muon(), named)
    taken = {id(weight) for group in mine.param_groups for weight in group["params"]}
    assert tables
    assert {name for name, weight in named.items() if id(weight) in taken and name in tables} == set()
    assert id(named["decoder.blocks.0.attention.relative.projection.weight"]) in taken


@for_each(("names", "classes"), [(slice(1, 2), ["Muon"]), (slice(2, 4), ["AdamW"])])
def test_an_optimizer_without_weights_is_left_out(names, classes):
    given = dict(list(weights().items())[names])
    found = build_optimizers(Muon(), given)
    assert [type(each).__name__ for each in found] == classes
    assert sum(len(group["params"]) for each in found for group in each.param_groups) == len(given)


@for_each("build", [lambda: AdamW(rate=0), lambda: AdamW(beta1=1.0), lambda: Sgd(momentum=2)])
def test_what_no_optimizer_can_be_is_refused(build):
    with pytest.raises(ValueError, match="must"):
        build()
