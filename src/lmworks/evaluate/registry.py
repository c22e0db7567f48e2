"""The table of metrics: one for reports, suites, prompt tests, experiments and drift.

`metric("rouge-l")`, `metric("recall@5")`, `metric("bertscore", encoder=encoder)`.
"""

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lmworks.evaluate.metric import Metric, Role


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric of the table: `make` ("module:function", imported on use) takes the `roles` by keyword, and `k` where
    the name ends with `@k`."""

    make: str
    purpose: str
    roles: tuple[Role, ...] = ()


_LIKELIHOOD, _BERTSCORE = "lmworks.evaluate.likelihood", "lmworks.evaluate.bertscore"
_LEARNED = "lmworks.evaluate.learned_metric"
_SELF = "lmworks.evaluate.self_consistency"
_NUMBER, _CHECK = "lmworks.evaluate.numeric_answer", "lmworks.evaluate.instruction_checks"
_CHOICE = "lmworks.evaluate.choice_metrics"
_STRING, _TRANSLATION = "lmworks.evaluate.string_metrics", "lmworks.evaluate.translation_metrics"
_ROUGE, _DIVERSITY = "lmworks.evaluate.rouge", "lmworks.evaluate.diversity"
_CONFIDENCE = "lmworks.evaluate.confidence_metrics"
_RANKING, _SPANS = "lmworks.evaluate.ranking_metrics", "lmworks.evaluate.span_overlap"
_ABSTENTION, _FAITHFULNESS = "lmworks.evaluate.abstention", "lmworks.evaluate.faithfulness"
_ATTRIBUTION, _ANSWERS = "lmworks.evaluate.attribution", "lmworks.evaluate.answer_metrics"
_SUMMARY = "lmworks.evaluate.summary_metrics"
METRICS: dict[str, Entry] = {
    "judge": Entry("lmworks.evaluate.judge:judge_metric", "the verdict of a judge by its rubric", ("judge",)),
    "g-eval": Entry("lmworks.evaluate.judge:g_eval", "the expected verdict of a judge, sum of p(s) s", ("judge",)),
    "gsm8k-strict": Entry(f"{_NUMBER}:gsm8k_strict", 'the first number behind "#### " is the answer'),
    "gsm8k-flexible": Entry(f"{_NUMBER}:gsm8k_flexible", "the last number is the answer"),
    "last-number": Entry(f"{_NUMBER}:last_number", "the last number is the answer, however written"),
    "verbatim": Entry(f"{_NUMBER}:verbatim", "the response is a reference, letter by letter"),
    "ifeval-prompt-strict": Entry(f"{_CHECK}:prompt_strict", "prompts whose instructions are all followed"),
    "ifeval-prompt-loose": Entry(f"{_CHECK}:prompt_loose", "the same, of any of eight variants of the response"),
    "ifeval-instruction-strict": Entry(f"{_CHECK}:instruction_strict", "instructions that are followed"),
    "ifeval-instruction-loose": Entry(f"{_CHECK}:instruction_loose", "the same, of any of eight variants"),
    "pass@k": Entry("lmworks.evaluate.pass_at_k:pass_at_k", "one of k programs passes the tests; runs them"),
    "perplexity": Entry(f"{_LIKELIHOOD}:perplexity", "e to the nats a token, by the responses' own log-probabilities"),
    "bits-per-byte": Entry(f"{_LIKELIHOOD}:bits_per_byte", "bits a byte, by the responses' own log-probabilities"),
    "model-perplexity": Entry(f"{_LIKELIHOOD}:perplexity", "perplexity to a given model", ("model",)),
    "model-bits-per-byte": Entry(f"{_LIKELIHOOD}:bits_per_byte", "bits a byte to a given model", ("model",)),
    "gptscore": Entry(f"{_LIKELIHOOD}:gptscore", "mean ln p of the response to an instruction", ("model",)),
    "bertscore": Entry(f"{_BERTSCORE}:bertscore", "F1 of greedily matched token vectors", ("encoder",)),
    "bertscore-precision": Entry(f"{_BERTSCORE}:bertscore_precision", "of the response's tokens", ("encoder",)),
    "bertscore-recall": Entry(f"{_BERTSCORE}:bertscore_recall", "of the reference's tokens", ("encoder",)),
    "selfcheck-ngram@k": Entry(f"{_SELF}:selfcheck_ngram", "surprisal of k-grams among those of the samples"),
    "selfcheck-ngram-max@k": Entry(f"{_SELF}:selfcheck_ngram_max", "the same, of the most surprising one a sentence"),
    "selfcheck-bertscore": Entry(f"{_SELF}:selfcheck_bertscore", "1 - BERTScore with the samples", ("encoder",)),
    "selfcheck-prompt": Entry(f"{_SELF}:selfcheck_prompt", "1 - the judge's support by the samples", ("judge",)),
    "selfcheck-entailment": Entry(f"{_SELF}:selfcheck_entailment", "P(contradiction) by the samples", ("verifier",)),
    "acc": Entry(f"{_CHOICE}:accuracy", "the choice of the largest ln p is right"),
    "acc_norm": Entry(f"{_CHOICE}:accuracy_by_character", "the choice of the largest ln p by character is right"),
    "acc_bytes": Entry(f"{_CHOICE}:accuracy_by_byte", "the choice of the largest ln p by UTF-8 byte is right"),
    "mc1": Entry(f"{_CHOICE}:truthful_choice", "TruthfulQA: a right choice has the largest ln p"),
    "mc2": Entry(f"{_CHOICE}:truthful_mass", "TruthfulQA: the share of probability of the right choices"),
    "levenshtein": Entry(f"{_STRING}:levenshtein_metric", "1 - edit distance / longer length"),
    "exact-match": Entry(f"{_STRING}:exact_match_metric", "equal to a reference as SQuAD compares"),
    "contains": Entry(f"{_STRING}:contains_metric", "holds the words of a reference, as SQuAD compares"),
    "token-f1": Entry(f"{_STRING}:token_f1_metric", "F1 of words as SQuAD compares"),
    "bleu": Entry(f"{_TRANSLATION}:bleu_metric", "n-grams in common (sacrebleu), per cent"),
    "bleu-zh": Entry(f"{_TRANSLATION}:bleu_zh_metric", "BLEU of Chinese, character by character"),
    "bleu-char": Entry(f"{_TRANSLATION}:bleu_char_metric", "BLEU of characters, for any script"),
    "chrf": Entry(f"{_TRANSLATION}:chrf_metric", "F2 of character n-grams (sacrebleu), per cent"),
    "chrf++": Entry(f"{_TRANSLATION}:chrf_plus_plus_metric", "chrF with words and pairs of words"),
    "ter": Entry(f"{_TRANSLATION}:ter_metric", "edits and shifts of words (sacrebleu), per cent"),
    "rouge-1": Entry(f"{_ROUGE}:rouge_1_metric", "F1 of stemmed words"),
    "rouge-2": Entry(f"{_ROUGE}:rouge_2_metric", "F1 of pairs of stemmed words"),
    "rouge-l": Entry(f"{_ROUGE}:rouge_l_metric", "F1 of the longest common subsequence of words"),
    "rouge-lsum": Entry(f"{_ROUGE}:rouge_lsum_metric", "ROUGE-L of summaries with a sentence a line"),
    "meteor": Entry("lmworks.evaluate.meteor:meteor_metric", "words aligned exactly, by stem, by synonym; English"),
    "distinct@k": Entry(f"{_DIVERSITY}:distinct_metric", "different k-grams, of all k-grams of the samples"),
    "repetition@k": Entry(f"{_DIVERSITY}:repetition_metric", "k-grams of the response that repeat"),
    "self-bleu": Entry(f"{_DIVERSITY}:self_bleu_metric", "BLEU of samples against each other"),
    "ece": Entry(f"{_CONFIDENCE}:ece_metric", "gap of confidence and accuracy over bins"),
    "ece-equal-mass": Entry(f"{_CONFIDENCE}:ece_equal_mass_metric", "over bins of as many items each"),
    "brier": Entry(f"{_CONFIDENCE}:brier_metric", "mean square of confidence - correctness"),
    "recall@k": Entry(f"{_RANKING}:recall", "gold spans that k passages point to, of those that exist"),
    "precision@k": Entry(f"{_RANKING}:precision", "relevant passages among the first k, over k"),
    "success@k": Entry(f"{_RANKING}:success", "whether one of the first k passages is relevant"),
    "ndcg@k": Entry(f"{_RANKING}:ndcg", "discounted gain of the first k passages over the ideal"),
    "mrr": Entry(f"{_RANKING}:mean_reciprocal_rank", "1 / rank of the first relevant passage"),
    "map": Entry(f"{_RANKING}:mean_average_precision", "average precision over the gold there is"),
    "context-precision": Entry(f"{_RANKING}:context_precision", "the same of the passages given"),
    "context-recall": Entry(f"{_RANKING}:context_recall", "gold characters that passages cover"),
    "span-f1": Entry(f"{_SPANS}:span_f1_metric", "character F1 of citations and the best gold span"),
    "citation-precision": Entry(f"{_SPANS}:citation_precision", "citations that point to gold"),
    "citation-precision-characters": Entry(f"{_SPANS}:cited_characters", "cited characters of gold"),
    "citation-recall": Entry(f"{_SPANS}:citation_recall", "whether half of a gold span is cited"),
    "abstention-precision": Entry(f"{_ABSTENTION}:abstention_precision", "abstentions that are due"),
    "abstention-recall": Entry(f"{_ABSTENTION}:abstention_recall", "abstained from, of the unanswerable"),
    "answered": Entry(f"{_ABSTENTION}:answered", "share that is answered"),
    "selective-risk": Entry(f"{_ABSTENTION}:selective_risk", "wrong ones among the answered"),
    "calibration-error": Entry(f"{_ABSTENTION}:calibration_error", "ECE of the stated confidence"),
    "faithfulness": Entry(f"{_FAITHFULNESS}:faithfulness", "statements that are supported", ("judge",)),
    "faithfulness-verified": Entry(f"{_FAITHFULNESS}:entailed", "statements that are entailed", ("verifier",)),
    "carrier-similarity": Entry(f"{_FAITHFULNESS}:carrier_similarity", "statements by source", ("encoder",)),
    "attribution": Entry(f"{_ATTRIBUTION}:attribution", "nats that contexts add to an answer", ("model",)),
    "statement-attribution": Entry(f"{_ATTRIBUTION}:by_statement", "the same by token", ("model",)),
    "answer-relevance": Entry(f"{_ANSWERS}:answer_relevance", "cosine with the question", ("encoder",)),
    "fragment-coverage": Entry(f"{_SUMMARY}:fragment_coverage", "words copied from the source"),
    "fragment-density": Entry(f"{_SUMMARY}:fragment_density", "mean length of a copied fragment"),
    "compression": Entry(f"{_SUMMARY}:compression", "words of the source for each of the summary"),
    "content-coverage": Entry(f"{_SUMMARY}:content_coverage", "key content that is held", ("encoder",)),
    "learned-quality": Entry(f"{_LEARNED}:learned_quality", "rating by an encoder trained on ratings", ("learned",)),
}


def metric(name: str, **roles: Any) -> Metric:
    """The metric of this name, with the models that it needs: `metric("bertscore", encoder=...)`.

    Raises LookupError for an unknown name, with the nearest ones, and ValueError where a role is missing.
    """
    base, _, k = name.partition("@")
    key = f"{base}@k" if k else base
    if key not in METRICS:
        near = difflib.get_close_matches(key, METRICS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(METRICS)}"
        raise LookupError(f"no metric is called {name!r}; {hint}")
    if k and not (k.isdecimal() and int(k)):
        raise LookupError(f"{name!r}: behind the @ stands a whole number from 1, such as {base}@5")
    entry = METRICS[key]
    if missing := [role for role in entry.roles if roles.get(role) is None]:
        raise ValueError(f"{name} needs a model in the role {missing[0]}: metric({name!r}, {missing[0]}=...)")
    module, _, function = entry.make.partition(":")
    options: dict[str, Any] = {role: roles[role] for role in entry.roles} | ({"k": int(k)} if k else {})
    return getattr(import_module(module), function)(**options)
