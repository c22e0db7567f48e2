"""Parity of every sampler with the processors of `transformers`, put into our order."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from lmworks.generate.logit_rows import LogitRows
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.sampling import sample

_VOCABULARY, _DRAWS = 3000, 512
_PROMPT, _COMPLETION = [5, 5, 9, 2000], [17, 4, 17]

_CASES = {
    "temperature": SamplingParameters(temperature=0.6),
    "top-k": SamplingParameters(temperature=1.3, top_k=40),
    "top-p": SamplingParameters(temperature=1.0, top_p=0.85),
    "wide top-p": SamplingParameters(temperature=3.0, top_p=0.9),
    "min-p": SamplingParameters(temperature=1.5, min_p=0.02),
    "typical": SamplingParameters(temperature=1.0, typical_p=0.7),
    "wide typical": SamplingParameters(temperature=3.0, typical_p=0.9),
    "top-k, typical, top-p, min-p": SamplingParameters(
        temperature=1.4, top_k=200, typical_p=0.9, top_p=0.8, min_p=0.05
    ),
    "repetition": SamplingParameters(temperature=1.0, repetition_penalty=1.4, top_k=300),
    "bias": SamplingParameters(temperature=0.7, logit_bias={3: 6.0, 1000: -4.0, 17: 2.5}),
    "banned": SamplingParameters(temperature=1.0, banned_tokens=(3, 17, 2999), min_p=0.01),
    "forced": SamplingParameters(temperature=1.0, forced_tokens=(2500,), top_p=0.5),
    "mask": SamplingParameters(temperature=1.1, top_p=0.95),
}


def _theirs(logits: torch.Tensor, parameters: SamplingParameters, ids: list[int], allowed: list[int]) -> torch.Tensor:
    """The probabilities (vocabulary,) float64 that `transformers` draws from."""
    p, chain = parameters, LogitsProcessorList()
    bias: Any = {(token,): value for token, value in p.logit_bias.items()}
    # `transformers` forces a first token only: prompt and completion are then the single token that it expects
    forced = [ForcedBOSTokenLogitsProcessor(token) for token in p.forced_tokens]
    chain.extend(forced)
    chain.append(PrefixConstrainedLogitsProcessor(lambda batch, before: allowed, num_beams=1))
    if p.banned_tokens:
        chain.append(NoBadWordsLogitsProcessor([[token] for token in p.banned_tokens]))
    if bias:
        chain.append(SequenceBiasLogitsProcessor(bias))
    chain.append(RepetitionPenaltyLogitsProcessor(p.repetition_penalty))
    chain.append(TemperatureLogitsWarper(p.temperature))
    if p.top_k:
        chain.append(TopKLogitsWarper(p.top_k))
    if p.typical_p < 1:
        chain.append(TypicalLogitsWarper(p.typical_p))
    if p.top_p < 1:
        chain.append(TopPLogitsWarper(p.top_p))
    if p.min_p > 0:
        chain.append(MinPLogitsWarper(p.min_p))
    given: Any = torch.tensor([[0] if forced else ids])
    scores: Any = logits[None].double()
    return chain(given, scores).softmax(-1)[0]


@pytest.mark.parametrize("name", _CASES)
def test_every_sampler_draws_from_the_distribution_of_transformers(name: str) -> None:
    parameters = _CASES[name]
    logits = torch.randn(_VOCABULARY, generator=torch.Generator().manual_seed(3)) * 2
    completion = [] if parameters.forced_tokens else _COMPLETION
    allowed = range(0, _VOCABULARY, 7 if name == "mask" else 1)
    words = np.zeros(-(-_VOCABULARY // 32), dtype=np.uint32)
    for token in allowed:
        words[token // 32] |= np.uint32(1 << token % 32)
    expected = _theirs(logits, parameters, [*_PROMPT, *completion], list(allowed))

    rows = LogitRows.from_logits(logits.expand(_DRAWS, -1).contiguous())
    draws = [(number + 0.5) / _DRAWS for number in range(_DRAWS)]
    many = [parameters] * _DRAWS, [_PROMPT] * _DRAWS, [completion] * _DRAWS, draws, [words] * _DRAWS
    sampled = sample(rows, *many)
    # evenly spaced draws, each token gets n · p of them, rounded; beside that float32
    histogram = torch.bincount(sampled.ids, minlength=_VOCABULARY)
    assert (histogram - _DRAWS * expected).abs().max() < 1.01
    assert histogram[expected == 0].sum() == 0
    # a few 1e-6 for float32 logits of magnitude 10, divided by the temperature
    torch.testing.assert_close(
        sampled.sampled_log_probabilities.double(), expected[sampled.ids].log(), atol=2e-5, rtol=0
    )
