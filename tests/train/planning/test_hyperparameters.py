"""The critical batch size and the rules for learning rates."""

import pytest

from kit.tables import for_each
from lmworks.train.planning.hyperparameters import RULES, critical_batch_tokens


def test_the_critical_batch_of_a_loss():
    """Kaplan et al. 2020, section 5.1: it doubles for every fall of the loss by about 13 per cent."""
    assert critical_batch_tokens(1.0) == 2e8
    assert critical_batch_tokens(2.0 * 0.87) / critical_batch_tokens(2.0) == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="above 0"):
        critical_batch_tokens(0)


@for_each("name", RULES)
def test_larger_models_take_smaller_rates_and_more_tokens_no_smaller_batches(name):
    suggest = RULES[name].suggest
    small, large, longer = suggest(1e8, 2e9), suggest(1e10, 2e9), suggest(1e8, 2e11)
    assert large.learning_rate < small.learning_rate
    assert longer.batch_tokens >= small.batch_tokens
    # Of the size of what is used: GPT-3's 125M has 6e-4 and half a million tokens (Brown et al. 2020, table 2.1).
    typical = suggest(85e6, 300e9)
    assert 2e-4 < typical.learning_rate < 2e-2 and 1e5 < typical.batch_tokens < 3e6


def test_deepseeks_rule_is_their_equation():
    """Bi et al. 2024, equation 1, at the operations of 6 N D."""
    tiny, small, large = (RULES["deepseek"].suggest(*run) for run in ((1e5, 1e6), (1e6, 1e7), (1e9, 2e10)))
    assert tiny.learning_rate > small.learning_rate > large.learning_rate
    assert tiny.batch_tokens < small.batch_tokens < large.batch_tokens
    assert large.learning_rate == pytest.approx(0.3118 * 1.2e20**-0.125)
