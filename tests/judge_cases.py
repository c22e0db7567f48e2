"""A judge whose mind is a known function: an engine that scores verdicts by it, over byte tokens and plain text."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np

from byte_tokenizer import byte_tokenizer
from lmworks.generate.protocol import Capabilities, Score

TOKENIZER = byte_tokenizer({"eos_token": "<end>"})


class PlantedEngine:
    """Scores a continuation " VERDICT\\n" with `mind(prompt)[VERDICT]`, ln p on its first token."""

    def __init__(self, mind: Callable[[str], dict[str, float]], name: str = "planted") -> None:
        self.mind, self.name, self.scored = mind, name, 0
        self.checkpoint = SimpleNamespace(chat_template=None, required_tokenizer=TOKENIZER)
        self.capabilities = Capabilities(True, True, False, False, True, True, context_length=None)

    def fingerprint(self) -> str:
        return self.name

    def score(self, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[Score]:
        self.scored += len(contexts)
        texts = [TOKENIZER.decode(context).rstrip() for context in contexts]
        verdicts = [TOKENIZER.decode(continuation).strip() for continuation in continuations]
        values = [self.mind(text)[verdict] for text, verdict in zip(texts, verdicts, strict=True)]
        return [Score((v, *[0.0] * (len(c) - 1))) for v, c in zip(values, continuations, strict=True)]


def yes_no(logit: float) -> dict[str, float]:
    """ln p of yes and no at these odds."""
    return {"yes": float(-np.logaddexp(0, -logit)), "no": float(-np.logaddexp(0, logit))}
