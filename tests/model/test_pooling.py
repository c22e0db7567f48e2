import torch

from lmworks.model.config import PoolHead
from lmworks.model.pooling import pool

HIDDEN = torch.tensor([[[3.0, 0.0], [1.0, 8.0], [100.0, 100.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 6.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_mean_of_the_real_tokens():
    assert torch.equal(pool(HIDDEN, MASK, PoolHead("mean", normalize=False)), torch.tensor([[2.0, 4.0], [2.0, 3.0]]))
    assert torch.equal(pool(HIDDEN[1:], None, PoolHead("mean", normalize=False)), torch.tensor([[2.0, 3.0]]))


def test_first_token():
    assert torch.equal(pool(HIDDEN, MASK, PoolHead("cls", normalize=False)), torch.tensor([[3.0, 0.0], [1.0, 1.0]]))


def test_normalised_vectors_have_length_one():
    pooled = pool(HIDDEN, MASK, PoolHead("mean", normalize=True))
    torch.testing.assert_close(pooled[0], torch.tensor([1.0, 2.0]) / 5**0.5)


def test_a_text_without_tokens_is_zero_not_nan():
    assert torch.equal(pool(HIDDEN[:1], torch.zeros(1, 3).bool(), PoolHead()), torch.zeros(1, 2))
