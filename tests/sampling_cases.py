"""The samplers that tests hold against definitions and a benchmark against the clock, and for `transformers`."""

from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from lmworks.generate.protocol import SamplingParameters

# The wide ones keep hundreds of tokens or thousands, wherever they are used.
SAMPLERS = {
    "greedy": SamplingParameters(),
    "temperature": SamplingParameters(temperature=0.8),
    "top-k": SamplingParameters(temperature=0.8, top_k=50),
    "top-p": SamplingParameters(temperature=0.8, top_p=0.9),
    "min-p": SamplingParameters(temperature=1.0, min_p=0.05),
    "typical": SamplingParameters(temperature=1.0, typical_p=0.9),
    "hot top-p": SamplingParameters(temperature=1.5, top_p=0.95),
    "hot typical": SamplingParameters(temperature=1.5, typical_p=0.95),
    "wide top-p": SamplingParameters(temperature=3.0, top_p=0.6),
    "widest top-p": SamplingParameters(temperature=5.0, top_p=0.999),
    "wide typical": SamplingParameters(temperature=3.0, typical_p=0.7),
    "wide top-k, typical, top-p": SamplingParameters(temperature=2.0, top_k=1000, typical_p=0.9, top_p=0.9),
    "top-k, typical, top-p, min-p": SamplingParameters(
        temperature=1.4, top_k=200, typical_p=0.9, top_p=0.8, min_p=0.05
    ),
    "repetition": SamplingParameters(repetition_penalty=1.2),
    "repetition, top-p": SamplingParameters(temperature=0.8, top_p=0.9, repetition_penalty=1.1),
}


def processors(p: SamplingParameters) -> LogitsProcessorList:
    """Repetition penalty, temperature and truncations by the processors of `transformers`, in our order."""
    chain = LogitsProcessorList()
    if p.repetition_penalty != 1:
        chain.append(RepetitionPenaltyLogitsProcessor(p.repetition_penalty))
    if p.temperature:
        chain.append(TemperatureLogitsWarper(p.temperature))
    if p.top_k:
        chain.append(TopKLogitsWarper(p.top_k))
    if p.typical_p < 1:
        chain.append(TypicalLogitsWarper(p.typical_p))
    if p.top_p < 1:
        chain.append(TopPLogitsWarper(p.top_p))
    if p.min_p > 0:
        chain.append(MinPLogitsWarper(p.min_p))
    return chain
