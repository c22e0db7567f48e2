"""BLEU, chrF and TER by sacrebleu, as sums over segments, so that a corpus has an interval and runs can be paired.

Values are per cent, as sacrebleu gives them. The value over items is that of sacrebleu's corpus, that of one item its
sentence's, for BLEU with effective order. Several references: BLEU clips an n-gram at its highest count in any of them
and compares lengths with the nearest, chrF takes the best one, TER the fewest edits over the mean length.

Sources: Papineni et al. 2002 (BLEU); Popović 2015 and 2017 (chrF, chrF++); Snover et al. 2006 (TER); Post 2018
(sacrebleu and its signatures).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from lmworks.evaluate.metric import Combine, Metric, each_referenced, ratio

ORDER = 4  # longest n-gram of BLEU


def segment_sums(scorer: Any, response: str, references: Sequence[str]) -> tuple[float, ...]:
    """Statistics of a segment, and 1 for the segment. sacrebleu's public calls give scores alone; its own significance
    tests take the statistics from here."""
    return (*map(float, scorer._extract_corpus_statistics([response], [[one] for one in references])[0]), 1.0)


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """BLEU of summed statistics, (..., 11) -> (...): length, reference length, matched n-grams and n-grams of 1 to 4
    words, segments. A single segment stops at the longest n-gram that it has, where a corpus without one is 0."""
    from sacrebleu.metrics.bleu import BLEU

    def one(row: np.ndarray) -> float:
        matched, ngrams, single = [*row[2 : 2 + ORDER]], [*row[2 + ORDER : -1]], bool(row[-1] == 1)
        return BLEU.compute_bleu(matched, ngrams, int(row[0]), int(row[1]), "exp", effective_order=single).score

    return np.apply_along_axis(one, -1, sums)


def chrf_of_sums(sums: np.ndarray) -> np.ndarray:
    """chrF of summed n-grams, (..., 3 * orders + 1) -> (...): of the response, of the reference, of both, for each
    order; six orders of characters, and chrF++ two of words."""
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF(word_order=sums.shape[-1] // 3 - CHRF.CHAR_ORDER)
    return np.apply_along_axis(lambda row: chrf._compute_f_score([*row[:-1]]), -1, sums)


def ter_of_sums(sums: np.ndarray) -> np.ndarray:
    """TER of edits, reference words and segments, (..., 3) -> (...); NaN where the references have no word."""
    return 100 * ratio(sums)


def sacrebleu_metric(name: str, scorer: str, combine: Combine, higher_is_better: bool = True, **options: Any) -> Metric:
    """A metric of sacrebleu with its options; "nrefs:var" of the signature: items may have any number of references."""
    import sacrebleu

    one = getattr(sacrebleu, scorer)(**options)
    one.num_refs = -1
    measure = each_referenced(lambda item, response: segment_sums(one, response.text, item.references))
    signature = {"sacrebleu": str(one.get_signature())}
    return Metric(name, measure, ("references",), higher_is_better, combine=combine, signature=signature)


# "force" keeps sacrebleu from warning of texts that end as tokenised ones do.
bleu_metric = partial(sacrebleu_metric, "bleu", "BLEU", bleu_of_sums, force=True)
bleu_zh_metric = partial(sacrebleu_metric, "bleu-zh", "BLEU", bleu_of_sums, force=True, tokenize="zh")
bleu_char_metric = partial(sacrebleu_metric, "bleu-char", "BLEU", bleu_of_sums, force=True, tokenize="char")
chrf_metric = partial(sacrebleu_metric, "chrf", "CHRF", chrf_of_sums)
chrf_plus_plus_metric = partial(sacrebleu_metric, "chrf++", "CHRF", chrf_of_sums, word_order=2)
ter_metric = partial(sacrebleu_metric, "ter", "TER", ter_of_sums, higher_is_better=False)
