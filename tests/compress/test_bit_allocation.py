"""Mixed precision: the best choice under a budget, and sensitivities that are what rounding costs."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.build import run_alone
from lmworks.compress.bit_allocation import Choice, allot, measure_choices
from lmworks.compress.block_calibration import read_calibration
from lmworks.compress.config import CalibrationConfig, GridConfig
from lmworks.compress.quantisation import float_copy
from lmworks.compress.stage import file_bytes
from lmworks.compress.weight_grid import round_to_nearest
from lmworks.kernels.weight_formats import dequantise
from lmworks.model.presets import llama

GRIDS = (GridConfig(2), GridConfig(8), None)


def random_choices(seed, count=7):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(20, 60, count)
    harms = generator.exponential(1.0, count)
    return [
        Choice((f"m{n}",), GRIDS, (int(4 * s), int(8 * s), int(16 * s)), (float(h), float(h) / 50, 0.0))
        for n, (s, h) in enumerate(zip(sizes, harms, strict=True))
    ]


@for_each("seed", range(5))
def test_no_other_choice_within_the_budget_harms_less(seed):
    choices = random_choices(seed)
    budget = sum(choice.nbytes[0] for choice in choices) * 2
    grids = allot(choices, budget)
    picked = [GRIDS.index(grids[choice.names[0]]) for choice in choices]

    def total(numbers, of):
        return sum(getattr(choice, of)[n] for choice, n in zip(choices, numbers, strict=True))

    allowed = [numbers for numbers in product(range(3), repeat=7) if total(numbers, "nbytes") <= budget]
    assert total(picked, "nbytes") <= budget
    assert total(picked, "harm") == pytest.approx(min(total(numbers, "harm") for numbers in allowed))


def test_the_least_bytes_are_a_budget_that_is_kept():
    choices = random_choices(0)
    assert set(allot(choices, sum(choice.nbytes[0] for choice in choices)).values()) == {GRIDS[0]}


def test_a_matrixs_harm_is_the_loss_of_the_model_with_it_rounded(tiny_tokenizer):
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    text = read_calibration(["The head of department approves. " * 40] * 4, tiny_tokenizer, CalibrationConfig(8, 64))
    model, ids = float_copy(checkpoint.model), text.ids

    def loss():
        with torch.no_grad():
            return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()

    choices = measure_choices(model, text, GRIDS)
    base = loss()
    assert [len(choice.names) for choice in choices] == [3, 1, 2, 1] * 2
    for choice in choices:
        kept = {name: model.get_submodule(name).weight.data for name in choice.names}
        for name, weight in kept.items():
            model.get_submodule(name).weight.data = dequantise(round_to_nearest(weight, GRIDS[0]))
        assert choice.harm[0] == pytest.approx(max(loss() - base, 0), abs=2e-5)
        for name, weight in kept.items():
            model.get_submodule(name).weight.data = weight
        assert choice.nbytes[2] == sum(2 * weight.numel() for weight in kept.values()) and choice.harm[2] == 0


@for_each(("format", "group"), [("gguf", 32), ("compressed-tensors", 128)])
def test_a_file_keeps_to_its_budget_to_the_byte(format, group, tiny_tokenizer, tmp_path):  # noqa: A002
    config = llama(267, width=128, layers=2, heads=4, kv_heads=2, hidden=128, context_length=64)
    base = replace(random_checkpoint(config, tiny_tokenizer), dtype=torch.bfloat16).save(tmp_path / "base")
    (tmp_path / "text.txt").write_text("The head of department approves. " * 40)
    run_alone("corpus.read", tmp_path / "texts", [], [], [f'sources=["{tmp_path}/text.txt"]'])
    given = [f'base="{base}"', "held_out=0", "method.kind=rtn", "embedding=bfloat16", "calibration.length=64"]
    given += [f"format={format}", f"grid.group={group}", "grid.symmetric=true"]

    def size(name, budget):
        run_alone("compress.quantise", tmp_path / name, [tmp_path / "texts"], [], [*given, f"budget={budget}"])
        return file_bytes(tmp_path / name)

    whole = size("whole", 10**9)
    assert size("less", whole - 1) < whole
