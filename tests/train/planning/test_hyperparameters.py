"""The critical batch size and the rules for learning rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.train.planning.hyperparameters import (
    RULES,
    TradeOff,
    critical_batch_tokens,
    transfer_by_width,
)


@given(st.floats(1, 1e6), st.floats(1e3, 1e12), st.floats(1, 1e9))
def test_steps_and_examples_lie_on_the_hyperbola(least_steps, least_examples, batch):
    trade = TradeOff(least_steps, least_examples)
    steps, examples = trade.steps(batch), trade.examples(batch)
    assert steps * batch == pytest.approx(examples)
    excess = (steps / least_steps - 1) * (examples / least_examples - 1)
    # Where one of the factors is almost zero its digits are lost in the one that is taken off.
    assert excess == pytest.approx(1, rel=1e-4 * max(1.0, trade.critical_batch / batch, batch / trade.critical_batch))


def test_at_the_critical_batch_both_are_twice_their_least():
    trade = TradeOff(1000, 5e6)
    assert trade.critical_batch == 5000
    assert (trade.steps(5000), trade.examples(5000)) == (2000, 1e7)


def test_the_critical_batch_of_a_loss():
    """Kaplan et al. 2020, section 5.1: it doubles for every fall of the loss by about 13 per cent."""
    assert critical_batch_tokens(1.0) == 2e8
    assert critical_batch_tokens(2.0 * 0.87) / critical_batch_tokens(2.0) == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="above 0"):
        critical_batch_tokens(0)


@pytest.mark.parametrize("name", RULES)
def test_larger_models_take_smaller_rates_and_more_tokens_no_smaller_batches(name):
    suggest = RULES[name].suggest
    small, large, longer = suggest(1e8, 2e9), suggest(1e10, 2e9), suggest(1e8, 2e11)
    assert large.learning_rate < small.learning_rate
    assert longer.batch_tokens >= small.batch_tokens
    # Of the size of what is used: GPT-3's 125M has 6e-4 and half a million tokens (Brown et al. 2020, table 2.1).
    typical = suggest(85e6, 300e9)
    assert 2e-4 < typical.learning_rate < 2e-2 and 1e5 < typical.batch_tokens < 3e6


def test_rates_of_hidden_matrices_move_with_the_inverse_of_the_width():
    assert transfer_by_width(0.01, 256, 4096) == 0.01 / 16
    assert transfer_by_width(transfer_by_width(0.01, 256, 4096), 4096, 256) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="1 or more"):
        transfer_by_width(0.01, 0, 64)


def test_deepseeks_rule_is_their_equation():
    """Bi et al. 2024, equation 1, at the operations of 6 N D."""
    tiny, small, large = (RULES["deepseek"].suggest(*run) for run in ((1e5, 1e6), (1e6, 1e7), (1e9, 2e10)))
    assert tiny.learning_rate > small.learning_rate > large.learning_rate
    assert tiny.batch_tokens < small.batch_tokens < large.batch_tokens
    assert large.learning_rate == pytest.approx(0.3118 * 1.2e20**-0.125)
