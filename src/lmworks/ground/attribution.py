"""Which passage, and which sentence of it, a sentence rests on: by how much it raises the sentence's likelihood.

    support = (ln p(sentence | passage) - ln p(sentence | nothing)) / tokens of the sentence

This is the pointwise mutual information of sentence and passage under the language model, in nats per token. A sentence
that the model would write anyway gains nothing, however fluent it is; one that the passage says gains much.
"""

from collections.abc import Sequence

import numpy as np

from lmworks.generate.protocol import EngineProtocol
from lmworks.tokenizer.tokenizer import Tokenizer


def support(
    sentences: Sequence[str], evidence: Sequence[str], engine: EngineProtocol, tokenizer: Tokenizer
) -> np.ndarray:
    """(sentences, evidence) nats per token; every pair in one batch, each evidence text read once.

    Of what the engine's context cannot hold together, a sentence keeps its beginning, up to half of the context, and an
    evidence text what the longest sentence leaves of it.
    """
    if not sentences or not evidence:
        return np.zeros((len(sentences), len(evidence)))
    # A leading line break stands before the sentence in every context, so that its tokens are the same in each.
    continuations = [tokenizer.encode("\n" + " ".join(sentence.split())) for sentence in sentences]
    most = engine.capabilities.context_length
    room = None
    if most is not None:
        continuations = [ids[: most // 2] for ids in continuations]
        room = most - max(map(len, continuations))
    contexts: list[list[int]] = [[], *(tokenizer.encode(text)[:room] for text in evidence)]
    pairs = [(context, continuation) for context in contexts for continuation in continuations]
    scores = engine.score([context for context, _ in pairs], [continuation for _, continuation in pairs])
    table = np.array([score.total for score in scores]).reshape(len(contexts), len(sentences))
    lengths = np.array([len(continuation) for continuation in continuations])
    return ((table[1:] - table[0]) / lengths).T
