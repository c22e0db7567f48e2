import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmworks.model.heads import pool

HIDDEN = torch.tensor([[[3.0, 0.0], [1.0, 8.0], [100.0, 100.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 6.0]]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [[2.0, 4.0], [2.0, 3.0]]), ("cls", [[3.0, 0.0], [1.0, 1.0]]), ("last", [[1.0, 8.0], [3.0, 6.0]])],
)
def test_of_the_real_tokens(pooling, expected):
    assert torch.equal(pool(HIDDEN, MASK, pooling), torch.tensor(expected))
    assert torch.equal(pool(HIDDEN[1:], None, pooling), torch.tensor(expected[1:]))


@given(st.data())
def test_padding_on_either_side_changes_nothing(data):
    before, after = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    length = data.draw(st.integers(1, 4))
    pooling = data.draw(st.sampled_from(["mean", "cls", "last"]))
    hidden = torch.randn(1, before + length + after, 3, generator=torch.Generator().manual_seed(length))
    mask = torch.zeros(1, hidden.shape[1], dtype=torch.bool)
    mask[:, before : before + length] = True
    alone = pool(hidden[:, before : before + length], None, pooling)
    # the mean adds zeros, in another order
    torch.testing.assert_close(pool(hidden, mask, pooling), alone, atol=1e-6, rtol=1e-6)


def test_a_text_without_tokens_is_zero_not_nan():
    assert torch.equal(pool(HIDDEN[:1], torch.zeros(1, 3).bool(), "mean"), torch.zeros(1, 2))
