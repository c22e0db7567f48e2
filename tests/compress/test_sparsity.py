"""Layer solutions of Wanda and SparseGPT beside their papers' definitions, written out in float64."""

import numpy as np
import pytest
import torch

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.compress.block_calibration import CalibrationText
from lmworks.compress.config import Sparsity
from lmworks.compress.sparsity import sparsegpt_matrix, sparsify, wanda_mask
from lmworks.model.checkpoint import assemble
from objective_cases import new_model
from training_cases import CONFIGS, SPECIAL

PATTERNS = pytest.mark.parametrize("sparsity, pattern", [(0.5, "unstructured"), (0.3, "unstructured"), (0.5, "2:4")])


def a_layer(rows: int = 6, columns: int = 200, tokens: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Weights (rows, columns), and inputs (tokens, columns) that are correlated, of unequal sizes."""
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(tokens, columns)) @ generator.normal(size=(columns, columns)) / columns**0.5
    return generator.normal(size=(rows, columns)), mixed * generator.uniform(0.1, 3, columns)


@PATTERNS
def test_wanda_is_the_papers_definition(sparsity, pattern):
    """Equation 1: S_ij = |W_ij| · ‖X_j‖₂, and the least of each output's weights, or of each four of them, go."""
    weight, inputs = a_layer()
    expected = np.zeros(weight.shape, bool)
    for row in range(len(weight)):
        scores = [abs(weight[row, j]) * np.sqrt((inputs[:, j] ** 2).sum()) for j in range(weight.shape[1])]
        size, count = (4, 2) if pattern == "2:4" else (len(scores), round(sparsity * len(scores)))
        for start in range(0, len(scores), size):
            expected[row, sorted(range(start, start + size), key=scores.__getitem__)[:count]] = True
    mean_square = torch.from_numpy((inputs**2).mean(0))
    found = wanda_mask(torch.from_numpy(weight), mean_square, Sparsity(sparsity, pattern))
    np.testing.assert_array_equal(found, expected)


@PATTERNS
def test_sparsegpt_is_the_papers_definition(sparsity, pattern):
    """Equations 2 and 4: the Hessian of the columns that are left is inverted anew for each column, and the optimal
    update of optimal brain surgeons is made with its first row; masks by w² / [H⁻¹]_jj of these inverses."""
    weight, inputs = a_layer()
    hessian = inputs.T @ inputs / len(inputs)
    hessian += 0.01 * hessian.diagonal().mean() * np.eye(len(hessian))
    expected, columns, size = weight.copy(), weight.shape[1], 4 if pattern == "2:4" else 128
    inverses = [np.linalg.inv(hessian[j:, j:]) for j in range(columns)]
    for start in range(0, columns, size):
        end = min(start + size, columns)
        scores = np.stack([expected[:, j] ** 2 / inverses[j][0, 0] for j in range(start, end)], axis=1)
        mask = np.zeros(scores.shape, bool)
        if pattern == "2:4":
            np.put_along_axis(mask, np.argsort(scores, axis=1)[:, :2], True, axis=1)
        else:
            mask.flat[np.argsort(scores, axis=None)[: round(sparsity * scores.size)]] = True
        for j in range(start, end):
            gone = np.where(mask[:, j - start], expected[:, j], 0.0)
            expected[:, j:] -= np.outer(gone / inverses[j][0, 0], inverses[j][0])
            expected[mask[:, j - start], j] = 0.0
    moment = torch.from_numpy(inputs.T @ inputs / len(inputs))
    found = sparsegpt_matrix(torch.from_numpy(weight), moment, Sparsity(sparsity, pattern, kind="sparsegpt"))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    assert ((found == 0).numpy() == (expected == 0)).all()


@for_each("pattern", ["unstructured", "2:4"])
def test_a_pruned_model_has_its_zeros_and_sparsegpt_the_least_error(pattern):
    checkpoint = assemble(CONFIGS["llama"], new_model(CONFIGS["llama"], "llama").state_dict(), byte_tokenizer(SPECIAL))
    ids = torch.randint(257, (8, 64), generator=torch.Generator().manual_seed(0))
    logits, errors = checkpoint.model(ids), {}
    for kind in ("magnitude", "wanda", "sparsegpt"):
        pruned = sparsify(checkpoint, Sparsity(pattern=pattern, kind=kind), CalibrationText(ids, ())).model
        for block in pruned.decoder.blocks:
            for linear in (block.attention.query, block.attention.output, block.feed_forward.down):
                zeros = linear.weight == 0
                assert float(zeros.double().mean()) == 0.5
                assert pattern != "2:4" or (zeros.view(-1, 4).sum(-1) == 2).all()
        errors[kind] = float((pruned(ids) - logits).square().mean())
    assert errors["sparsegpt"] < errors["wanda"] < errors["magnitude"]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"sparsity of 0\.5: set it so"):
        Sparsity(0.25, "2:4")
    with pytest.raises(ValueError, match="no multiple of 4"):
        wanda_mask(torch.ones(2, 6), torch.ones(6), Sparsity(pattern="2:4"))
