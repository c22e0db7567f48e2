"""A cross-encoder reads two texts as one: where the answer stands in a passage, whether a passage answers, whether a
claim follows from it (Devlin et al. 2019, section 4; Nogueira & Cho 2019).

    reader = CrossEncoder(lmworks.load("minilm-reader"))
    reader.read("Who wrote it?", ["It was written by Ada Lovelace.", "It rained."])   # an `AnswerSpan` of each
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lmworks.generate.encoder_states import SequenceEncoder, WeightFormat, map_states
from lmworks.generate.protocol import ContextLengthError, UnsupportedError
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import ClassificationHead, SpanHead
from lmworks.tokenizer.text_pair import JoinedPair, join_pairs

LONGEST_ANSWER = 40  # tokens of a span


@dataclass(frozen=True, slots=True, eq=False)
class AnswerSpan:
    """The best span of a passage, `[start, end)` in its characters, and how much likelier it is than no answer.

    log_odds   ln p(span) - ln p(no answer)
    offsets    (tokens, 2) where each token of the passage begins and ends
    starts     (tokens,) ln p that the answer starts with it, less that of no answer; `ends` likewise
    """

    start: int
    end: int
    log_odds: float
    offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def within(self, start: int, end: int) -> "AnswerSpan":
        """The best span of the characters `[start, end)`, such as those of a sentence; log-odds -inf where none is."""
        inside = np.flatnonzero((self.offsets[:, 0] >= start) & (self.offsets[:, 1] <= end))
        if not len(inside):
            return AnswerSpan(start, start, -np.inf, self.offsets, self.starts, self.ends)
        first, last = inside[0], inside[-1] + 1
        return best_span(self.offsets, self.starts, self.ends, first, last)


def best_span(offsets: np.ndarray, starts: np.ndarray, ends: np.ndarray, first: int, last: int) -> AnswerSpan:
    """The likeliest span of the tokens `[first, last)`, of at most `LONGEST_ANSWER`."""
    scores = starts[first:last, None] + ends[None, first:last]  # (tokens, tokens)
    count = last - first
    allowed = np.tri(count, count, LONGEST_ANSWER - 1).astype(bool) & np.tri(count, dtype=bool).T
    scores = np.where(allowed, scores, -np.inf)
    start, end = np.unravel_index(int(scores.argmax()), scores.shape)
    left, right = int(offsets[first + start, 0]), int(offsets[first + end, 1])
    return AnswerSpan(left, right, float(scores[start, end]), offsets, starts, ends)


class CrossEncoder(SequenceEncoder):
    """A checkpoint with a head for spans or for labels. What is longer than the model was made for loses its end."""

    def __init__(self, checkpoint: Checkpoint, weights: WeightFormat = "auto") -> None:
        config = checkpoint.config
        if not isinstance(config.head, SpanHead | ClassificationHead):
            raise UnsupportedError(
                f"{checkpoint.source} reads no pairs of texts: it has neither a head for spans nor one for labels; "
                "name one such as minilm-reader, or train one (lmworks train --help)"
            )
        super().__init__(checkpoint, weights)
        self.checkpoint, self.config = checkpoint, config.head
        head = checkpoint.model.head
        assert head is not None
        self.head = copy.deepcopy(head).float().eval()
        self.tokenizer, self.max_length = checkpoint.required_tokenizer, config.context_length

    def read(self, question: str, passages: Sequence[str]) -> list[AnswerSpan]:
        """The best span of each passage. UnsupportedError for a head without spans."""
        if not isinstance(self.config, SpanHead):
            raise UnsupportedError(f"{self.checkpoint.source} finds no spans: name a reader")
        spans = []
        for pair, logits in self._outputs([(question, passage) for passage in passages]):
            logits = logits - np.log(np.exp(logits - logits.max(0)).sum(0)) - logits.max(0)  # ln p, (length, 2)
            starts, ends = (logits[pair.start : pair.start + len(pair.offsets)] - logits[0]).T
            whole = AnswerSpan(0, 0, -np.inf, np.array(pair.offsets, np.int32).reshape(-1, 2), starts, ends)
            spans.append(best_span(whole.offsets, starts, ends, 0, len(starts)) if len(starts) else whole)
        return spans

    def relevance(self, question: str, passages: Sequence[str]) -> np.ndarray:
        """(passages,) float64 logits that each answers the question."""
        return self._labels([(question, passage) for passage in passages], 1)[:, 0]

    def entailment(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """(pairs, 3) float64 probabilities that a premise entails its hypothesis, is neutral, contradicts it."""
        logits = self._labels(pairs, 3)
        exponents = np.exp(logits - logits.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)

    __call__ = entailment  # as the metrics that need a verifier ask for it

    @property
    def labels(self) -> int:
        """How many labels it gives a pair: 1 of a reranker, 3 of a verifier, 0 of a reader."""
        return self.config.labels if isinstance(self.config, ClassificationHead) else 0

    def judge(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, int]:
        """(pairs,) float64 probabilities that the second text answers the first, or of a verifier that it follows from
        it; and the number of tokens read. ContextLengthError for a pair of which a part would be left out."""
        joined = join_pairs(self.tokenizer, pairs, self.max_length)
        if cut := [index for index, pair in enumerate(joined) if not pair.whole]:
            raise ContextLengthError(
                f"pair {cut[0]} is longer than the {self.max_length} tokens that this model reads, half of them of the "
                "first text: send it in parts, or shorten it"
            )
        reranks = self.labels == 1
        values = 1 / (1 + np.exp(-self._labels(pairs, 1)[:, 0])) if reranks else self.entailment(pairs)[:, 0]
        return values, sum(len(pair.ids) for pair in joined)

    @property
    def signature(self) -> dict[str, str]:
        return {"verifier": self.fingerprint}

    def _labels(self, pairs: Sequence[tuple[str, str]], labels: int) -> np.ndarray:
        if self.labels != labels:
            missing = "relevance: name a reranker" if labels == 1 else "entailment: name a verifier"
            raise UnsupportedError(f"{self.checkpoint.source} gives no {missing}")
        return np.array([logits for _, logits in self._outputs(pairs)], np.float64).reshape(-1, labels)

    @torch.inference_mode()
    def _outputs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[JoinedPair, np.ndarray]]:
        """Each pair with what the head gives: (length, 2) or (labels,) float32."""
        joined = join_pairs(self.tokenizer, pairs, self.max_length)
        self.truncated += sum(not pair.whole for pair in joined)
        ids = [pair.ids for pair in joined]
        outputs = map_states(self.model, ids, lambda _, x: self.head(torch.from_numpy(x)[None], x).numpy()[0])
        return [(pair, outputs[row]) for row, pair in enumerate(joined)]
