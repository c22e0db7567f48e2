"""BLEU, chrF and TER by sacrebleu, as sums over segments, so that a corpus has an interval and runs can be paired.

Values are per cent, as sacrebleu gives them. The value over items is that of sacrebleu's corpus; that of one item is the
segment's, for BLEU with effective order. Several references: BLEU clips an n-gram at its highest count in any of them
and compares lengths with the nearest, chrF takes the best one, TER the fewest edits over the mean length.

Sources: Papineni et al. 2002 (BLEU); Popović 2015 and 2017 (chrF, chrF++); Snover et al. 2006 (TER); Post 2018
(sacrebleu and its signatures).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, each

ORDER = 4  # longest n-gram of BLEU


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """BLEU of summed statistics, (..., 11) -> (...): length, reference length, matched n-grams and n-grams of 1 to 4
    words, segments. A single segment stops at the longest n-gram that it has, where a corpus without one is 0."""
    from sacrebleu.metrics.bleu import BLEU

    def one(row: np.ndarray) -> float:
        lengths, matched, ngrams = row[:2], row[2 : 2 + ORDER], row[2 + ORDER : -1]
        options = {"smooth_method": "exp", "effective_order": bool(row[-1] == 1)}
        return BLEU.compute_bleu([*matched], [*ngrams], int(lengths[0]), int(lengths[1]), **options).score

    return np.apply_along_axis(one, -1, sums)


def chrf_of_sums(sums: np.ndarray) -> np.ndarray:
    """chrF of summed n-grams, (..., 3 * orders) -> (...): of the response, of the reference, of both, for each order;
    six orders of characters, and chrF++ two of words."""
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF(word_order=sums.shape[-1] // 3 - CHRF.CHAR_ORDER)
    return np.apply_along_axis(lambda row: chrf._compute_f_score([*row]), -1, sums)


def ter_of_sums(sums: np.ndarray) -> np.ndarray:
    """TER of (edits, reference words), (..., 2) -> (...); NaN where the references have no word."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * sums[..., 0] / sums[..., 1]


def _segment_sums(scorer: Any) -> Callable[[str, Sequence[str]], tuple[float, ...]]:
    """The statistics of a segment. sacrebleu's public calls give them for BLEU alone, its significance tests take them
    from here."""

    def sums(response: str, references: Sequence[str]) -> tuple[float, ...]:
        return tuple(map(float, scorer._extract_corpus_statistics([response], [[one] for one in references])[0]))

    return sums


def _signature(scorer: Any) -> dict[str, str]:
    scorer.num_refs = -1  # any number: items may have different ones
    return {"sacrebleu": str(scorer.get_signature())}


def _corpus_metric(name: str, scorer: Any, combine: Callable[[np.ndarray], np.ndarray], **options: Any) -> Metric:
    sums = _segment_sums(scorer)
    measure = each(lambda item, response: sums(response.text, item.references))
    signature = _signature(scorer)
    return Metric(name, measure, needs=("references",), combine=combine, signature=signature, **options)


def _bleu(tokenize: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenize, force=True)  # "force" keeps it from warning of tokenised text


def bleu_metric(tokenize: str = "13a") -> Metric:
    """BLEU with one of sacrebleu's tokenisers: "13a" for languages that put spaces between words."""
    scorer = _bleu(tokenize)
    sums = _segment_sums(scorer)

    def measure(item: Item, response: Response) -> Value:
        return (*sums(response.text, item.references), 1.0)

    name = "bleu" if tokenize == "13a" else f"bleu-{tokenize}"
    return Metric(name, each(measure), ("references",), combine=bleu_of_sums, signature=_signature(scorer))


def bleu_zh_metric() -> Metric:
    return bleu_metric("zh")


def bleu_char_metric() -> Metric:
    return bleu_metric("char")


def chrf_metric() -> Metric:
    from sacrebleu.metrics.chrf import CHRF

    return _corpus_metric("chrf", CHRF(), chrf_of_sums)


def chrf_plus_plus_metric() -> Metric:
    from sacrebleu.metrics.chrf import CHRF

    return _corpus_metric("chrf++", CHRF(word_order=2), chrf_of_sums)


def ter_metric() -> Metric:
    from sacrebleu.metrics.ter import TER

    return _corpus_metric("ter", TER(), ter_of_sums, higher_is_better=False)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against all others as its references: 100 where all are the same (Zhu et al. 2018,
    "Texygen", section 3). Needs two texts."""
    sums = _segment_sums(_bleu("13a"))
    rows = [(*sums(text, [*texts[:i], *texts[i + 1 :]]), 1.0) for i, text in enumerate(texts)]
    return float(bleu_of_sums(np.array(rows)).mean())
