"""A language model as a reranker, by what it says of each passage alone: does it answer the question, yes or no?

    engine = Engine(lmworks.load("qwen2.5-coder-1.5b-instruct"))
    reranker = PointwiseReranker(lambda: engine, engine.checkpoint)
    reranker.relevance("Who wrote it?", ["It was written by Ada Lovelace.", "It rained."])   # a logit of each

Pointwise relevance generation (Qin et al. 2023, "Large Language Models are Effective Text Rankers with Pairwise Ranking
Prompting", section 2.1): the probabilities are read, no text is sampled and none is parsed. The question stands before
the passage, so that the engine's cache holds all that the prompts of one question share.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lmworks.generate.protocol import EngineProtocol
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Message

PROMPT = """Does the passage answer the question? Reply with one word, yes or no.

Question: {question}

Passage: {passage}

Does the passage answer the question (yes or no)?"""


class PointwiseReranker:
    """A language model, run by what `engine` gives, behind the same call as a `CrossEncoder` with one label; ValueError
    for a tokenizer that has no token for the words."""

    def __init__(self, engine: Callable[[], EngineProtocol], checkpoint: Checkpoint) -> None:
        self.engine, self.checkpoint = engine, checkpoint
        self.words = [self._tokens(word) for word in ("yes", "no")]

    def relevance(self, question: str, passages: Sequence[str]) -> np.ndarray:
        """(passages,) float64: ln P(yes) - ln P(no) of the next token, the logit of yes among the two."""
        prompts = [self._prompt(PROMPT.format(question=question, passage=passage)) for passage in passages]
        tokens = [token for word in self.words for token in word]
        asked = [ids for ids in prompts for _ in tokens], [[token] for _ in prompts for token in tokens]
        scores = self.engine().score(*asked)
        table = np.array([score.total for score in scores]).reshape(len(passages), len(tokens))
        yes, no = np.split(table, [len(self.words[0])], axis=1)
        return np.logaddexp.reduce(yes, axis=1) - np.logaddexp.reduce(no, axis=1)

    def _prompt(self, text: str) -> Sequence[int]:
        if self.checkpoint.chat_template:
            return self.checkpoint.chat.render([Message("user", text)], add_generation_prompt=True).ids
        return self.checkpoint.required_tokenizer.encode(text)

    def _tokens(self, word: str) -> list[int]:
        """The ways to begin an answer with a word, as far as the tokenizer has one token for them."""
        encode = self.checkpoint.required_tokenizer.encode
        written = [encode(space + form) for space in ("", " ") for form in (word, word.title(), word.upper())]
        if tokens := sorted({ids[0] for ids in written if len(ids) == 1}):
            return tokens
        raise ValueError(f"{self.checkpoint.source} has no token for {word!r}, by which passages are ranked")
