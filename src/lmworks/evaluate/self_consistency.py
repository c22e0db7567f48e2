"""SelfCheckGPT (Manakul et al. 2023): what a model states, but states otherwise when it is sampled again, it made up.

A response is compared with `Response.samples`, drawn from the same prompt at a temperature of 1 or so. All values rise
with how likely the response is not factual. They need no reference and no source.

    metric("selfcheck-ngram@1").measure([Item("1")], [Response("Bell was born in 1847.", samples=(...,))])
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lmworks.evaluate.bertscore import bert_scores
from lmworks.evaluate.judge import Judge
from lmworks.evaluate.metric import Item, Metric, Response, Value, Verifier, each
from lmworks.evaluate.rouge import ngrams
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import Unscored
from lmworks.tokenizer.sentence_splitter import sentences

# (sentence, sample) of each -> how far the sample is from stating the sentence
Contradictions = Callable[[Sequence[tuple[str, str]]], Sequence[float | Unscored]]
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_NO_SAMPLES = "the response has no samples: draw several at a temperature, as best-of-n does"


def ngram_surprisal(text: str, samples: Sequence[str], n: int = 1, most: bool = False) -> float:
    """-ln of the relative frequency of the n-grams of a text in the text and its samples (section 5.4).

    Frequencies of n > 1 are those of whole n-grams, not conditional ones, as in the authors' code; each sentence begins
    behind n - 1 marks. The mean over all words, or over sentences of the `most` surprising word of each. ValueError for
    a text without a word.
    """
    own = [_ngrams(sentence, n) for sentence in sentences(text)]
    if not any(own):
        raise ValueError("the text has no word")
    counts = Counter(gram for each in (text, *samples) for sentence in sentences(each) for gram in _ngrams(sentence, n))
    surprisals = [-np.log([counts[gram] / counts.total() for gram in grams]) for grams in own if grams]
    return float(np.mean([one.max() for one in surprisals] if most else np.concatenate(surprisals)))


def _ngrams(sentence: str, n: int) -> list[tuple[str, ...]]:
    return ngrams(["<s>"] * (n - 1) + _WORD.findall(sentence.lower()), n)


def by_ngram(k: int = 1, most: bool = False) -> Metric:
    """`ngram_surprisal` with n-grams of k words; it has no upper end."""

    def measure(item: Item, response: Response) -> Value:
        if not response.samples or not _WORD.search(response.text):
            return Unscored("an empty response" if response.samples else _NO_SAMPLES)
        return ngram_surprisal(response.text, response.samples, k, most)

    return Metric(f"selfcheck-ngram{'-max' * most}@{k}", each(measure), higher_is_better=False)


def by_bertscore(encoder: TextEncoder) -> Metric:
    """1 - BERTScore (F1) of a sentence with the most similar one of a sample (section 5.1), not rescaled. Sampled
    sentences of three words or fewer are left out. In float32."""
    encoder = encoder.in_float32()

    def distances(pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        sampled = [[one for one in sentences(sample) if len(_WORD.findall(one)) > 3] for _, sample in pairs]
        flat = [(sentence, one) for (sentence, _), some in zip(pairs, sampled, strict=True) for one in some]
        own, others = [sentence for sentence, _ in flat], [one for _, one in flat]
        matches = iter(bert_scores(encoder, own, others))
        found = [[match.f1 for _ in some if (match := next(matches))] for some in sampled]
        return [1 - max(some) if some else Unscored("a sample without a sentence of four words") for some in found]

    return _over_samples("selfcheck-bertscore", distances, {"encoder": encoder.fingerprint})


def by_prompt(judge: Judge) -> Metric:
    """1 - the judge's value, by a rubric with {response} and {context} whose verdicts lie in [0, 1] (section 5.5): each
    sentence is a response, and a sample is the context that should support it. Where the authors count answers, this
    takes the probabilities of the verdicts."""
    if not {"response", "context"} <= judge.rubric.fields or not all(0 <= v <= 1 for v in judge.rubric.values):
        raise ValueError("selfcheck-prompt takes a rubric with {response}, {context} and verdicts in [0, 1]")

    def doubts(pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        rows = [{"response": sentence, "context": sample, "prompt": ""} for sentence, sample in pairs]
        return [one if isinstance(one, Unscored) else 1 - one.value for one in judge.judgements(rows)]

    return _over_samples("selfcheck-prompt", doubts, judge.signature)


def by_entailment(verifier: Verifier) -> Metric:
    """P(contradiction) of a sentence, over entailment and contradiction, with a sample as premise (section 5.3)."""

    def contradictions(pairs: Sequence[tuple[str, str]]) -> list[float | Unscored]:
        entailed, _, contradicted = np.transpose(verifier([(sample, own) for own, sample in pairs]))
        return [*(contradicted / (entailed + contradicted)).tolist()]

    return _over_samples("selfcheck-entailment", contradictions, getattr(verifier, "signature", {}))


def _over_samples(name: str, contradictions: Contradictions, signature: dict) -> Metric:
    """The mean over the sentences of a response of the mean over its samples."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        pairs = [
            [(sentence, sample) for sentence in sentences(response.text) for sample in response.samples]
            for response in responses
        ]
        found = iter(contradictions([pair for own in pairs for pair in own]))
        rows = [[next(found) for _ in own] for own in pairs]
        values: list[Value] = []
        for row, response in zip(rows, responses, strict=True):
            numbers = [value for value in row if not isinstance(value, Unscored)]
            missing = next((value for value in row if isinstance(value, Unscored)), None)
            if not row:
                missing = Unscored("an empty response" if response.samples else _NO_SAMPLES)
            values.append(missing or float(np.mean(numbers)))
        return values

    return Metric(name, measure, higher_is_better=False, signature=signature)


by_ngram_max = partial(by_ngram, most=True)
