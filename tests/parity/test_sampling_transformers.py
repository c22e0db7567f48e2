"""Parity of every sampler with the processors of `transformers`, put into our order."""

from typing import Any

import numpy as np
import torch
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from kit.tables import for_each
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import sample
from sampling_cases import SAMPLERS, processors

_VOCABULARY, _DRAWS = 3000, 512
_PROMPT, _COMPLETION = [5, 5, 9, 2000], [17, 4, 17]

_CASES = {
    **SAMPLERS,
    "repetition, top-k": SamplingParameters(temperature=1.0, repetition_penalty=1.4, top_k=300),
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
    chain.extend(processors(p))
    given: Any = torch.tensor([[0] if forced else ids])
    scores: Any = logits[None].double()
    found = chain(given, scores)[0]
    return found.softmax(-1) if p.temperature else (found == found.max()).double()


@for_each("name", _CASES)
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
