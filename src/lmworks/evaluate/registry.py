"""The table of metrics: one for reports, suites, prompt tests, experiments and drift.

`compute("bleu", predictions, references)` gives a number; `metric("rouge-l")`, `metric("recall@5")`,
`metric("bertscore", encoder="all-minilm-l6-v2")` the metric, whose values of each item can be kept and compared.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lmworks.evaluate.metric import Item, Metric, Response, Role, check_items, score
from lmworks.records import Score, TextOrMessages


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric of the table: `make` ("module:function" of this package, imported on use) takes the `roles` by keyword,
    and `k` where the name ends with `@k`."""

    make: str
    purpose: str
    roles: tuple[Role, ...] = ()


METRICS: dict[str, Entry] = {
    "judge": Entry("judge:judge_metric", "the verdict of a judge by its rubric", ("judge",)),
    "g-eval": Entry("judge:g_eval", "the expected verdict of a judge, sum of p(s) s", ("judge",)),
    "gsm8k-strict": Entry("verifier_metrics:gsm8k_strict", 'the first number behind "#### " is the answer'),
    "gsm8k-flexible": Entry("verifier_metrics:gsm8k_flexible", "the last number is the answer"),
    "last-number": Entry("verifier_metrics:last_number", "the last number is the answer, however written"),
    "verbatim": Entry("verifier_metrics:verbatim", "the response is a reference, letter by letter"),
    "final-answer": Entry("verifier_metrics:final_answer_metric", 'what is behind "Answer: " is a reference'),
    "regex": Entry("verifier_metrics:regex", "a reference, an expression, is found in the response"),
    "json": Entry("verifier_metrics:json_text", "JSON, of whatever schema"),
    "json-schema": Entry("verifier_metrics:json_schema", "JSON that a reference, a schema, accepts"),
    "unit-tests": Entry("verifier_metrics:unit_tests", "tests that its program passes; runs it"),
    "format": Entry("verifier_metrics:reasoning_format", "<think>, reasoning, </think>, then an answer, no more"),
    "length": Entry("verifier_metrics:length", "words of the response"),
    "step-format": Entry("step_metrics:step_format", "the steps of the reasoning are numbered, in order"),
    "equations": Entry("step_metrics:equations", "equations of the response that hold, of those it has"),
    "ifeval-prompt-strict": Entry("instruction_checks:prompt_strict", "prompts whose instructions are all followed"),
    "ifeval-prompt-loose": Entry("instruction_checks:prompt_loose", "the same, of any of eight variants"),
    "ifeval-instruction-strict": Entry("instruction_checks:instruction_strict", "instructions that are followed"),
    "ifeval-instruction-loose": Entry("instruction_checks:instruction_loose", "the same, of any of eight variants"),
    "pass@k": Entry("verifier_metrics:pass_at_k", "one of k programs passes the tests; runs them"),
    "perplexity": Entry("likelihood:perplexity", "e to the nats a token, by the responses' own log-probabilities"),
    "bits-per-byte": Entry("likelihood:bits_per_byte", "bits a byte, by the responses' own log-probabilities"),
    "model-perplexity": Entry("likelihood:perplexity", "perplexity to a given model", ("model",)),
    "model-bits-per-byte": Entry("likelihood:bits_per_byte", "bits a byte to a given model", ("model",)),
    "gptscore": Entry("likelihood:gptscore", "mean ln p of the response to an instruction", ("model",)),
    "bertscore": Entry("bertscore:bertscore", "F1 of greedily matched token vectors", ("encoder",)),
    "bertscore-precision": Entry("bertscore:bertscore_precision", "of the response's tokens", ("encoder",)),
    "bertscore-recall": Entry("bertscore:bertscore_recall", "of the reference's tokens", ("encoder",)),
    "selfcheck-ngram@k": Entry("self_consistency:by_ngram", "surprisal of k-grams among those of the samples"),
    "selfcheck-ngram-max@k": Entry("self_consistency:by_ngram_max", "the same, of the most surprising one a sentence"),
    "selfcheck-bertscore": Entry("self_consistency:by_bertscore", "1 - BERTScore with the samples", ("encoder",)),
    "selfcheck-prompt": Entry("self_consistency:by_prompt", "1 - the judge's support by the samples", ("judge",)),
    "selfcheck-entailment": Entry("self_consistency:by_entailment", "P(contradiction) by the samples", ("verifier",)),
    "acc": Entry("choice_metrics:accuracy", "the choice of the largest ln p is right"),
    "acc_norm": Entry("choice_metrics:accuracy_by_character", "the choice of the largest ln p by character is right"),
    "acc_bytes": Entry("choice_metrics:accuracy_by_byte", "the choice of the largest ln p by UTF-8 byte is right"),
    "mc1": Entry("choice_metrics:truthful_choice", "TruthfulQA: a right choice has the largest ln p"),
    "mc2": Entry("choice_metrics:truthful_mass", "TruthfulQA: the share of probability of the right choices"),
    "stereotype": Entry("choice_metrics:stereotype", "the first of two choices is likelier; 0.5 without bias"),
    "levenshtein": Entry("string_metrics:levenshtein_metric", "1 - edit distance / longer length"),
    "exact-match": Entry("string_metrics:exact_match_metric", "equal to a reference as SQuAD compares"),
    "contains": Entry("string_metrics:contains_metric", "holds the words of a reference, as SQuAD compares"),
    "token-f1": Entry("string_metrics:token_f1_metric", "F1 of words as SQuAD compares"),
    "bleu": Entry("translation_metrics:bleu_metric", "n-grams in common (sacrebleu), per cent"),
    "bleu-zh": Entry("translation_metrics:bleu_zh_metric", "BLEU of Chinese, character by character"),
    "bleu-char": Entry("translation_metrics:bleu_char_metric", "BLEU of characters, for any script"),
    "chrf": Entry("translation_metrics:chrf_metric", "F2 of character n-grams (sacrebleu), per cent"),
    "chrf++": Entry("translation_metrics:chrf_plus_plus_metric", "chrF with words and pairs of words"),
    "ter": Entry("translation_metrics:ter_metric", "edits and shifts of words (sacrebleu), per cent"),
    "rouge-1": Entry("rouge:rouge_1_metric", "F1 of stemmed words"),
    "rouge-2": Entry("rouge:rouge_2_metric", "F1 of pairs of stemmed words"),
    "rouge-l": Entry("rouge:rouge_l_metric", "F1 of the longest common subsequence of words"),
    "rouge-lsum": Entry("rouge:rouge_lsum_metric", "ROUGE-L of summaries with a sentence a line"),
    "meteor": Entry("meteor:meteor_metric", "words aligned exactly, by stem, by synonym; English"),
    "distinct@k": Entry("diversity:distinct_metric", "different k-grams, of all k-grams of the samples"),
    "repetition@k": Entry("diversity:repetition_metric", "k-grams of the response that repeat"),
    "self-bleu": Entry("diversity:self_bleu_metric", "BLEU of samples against each other"),
    "ece": Entry("confidence_metrics:ece_metric", "gap of confidence and accuracy over bins"),
    "ece-equal-mass": Entry("confidence_metrics:ece_equal_mass_metric", "over bins of as many items each"),
    "brier": Entry("confidence_metrics:brier_metric", "mean square of confidence - correctness"),
    "recall@k": Entry("ranking_metrics:recall", "gold spans that k passages point to, of those that exist"),
    "precision@k": Entry("ranking_metrics:precision", "relevant passages among the first k, over k"),
    "success@k": Entry("ranking_metrics:success", "whether one of the first k passages is relevant"),
    "ndcg@k": Entry("ranking_metrics:ndcg", "discounted gain of the first k passages over the ideal"),
    "mrr": Entry("ranking_metrics:mean_reciprocal_rank", "1 / rank of the first relevant passage"),
    "map": Entry("ranking_metrics:mean_average_precision", "average precision over the gold there is"),
    "context-precision": Entry("ranking_metrics:context_precision", "the same of the passages given"),
    "context-recall": Entry("ranking_metrics:context_recall", "gold characters that passages cover"),
    "span-f1": Entry("span_overlap:span_f1_metric", "character F1 of citations and the best gold span"),
    "citation-precision": Entry("span_overlap:citation_precision", "citations that point to gold"),
    "citation-precision-characters": Entry("span_overlap:cited_characters", "cited characters of gold"),
    "citation-recall": Entry("span_overlap:citation_recall", "whether half of a gold span is cited"),
    "abstention-precision": Entry("abstention:abstention_precision", "abstentions that are due"),
    "abstention-recall": Entry("abstention:abstention_recall", "abstained from, of the unanswerable"),
    "answered": Entry("abstention:answered", "share that is answered"),
    "selective-risk": Entry("abstention:selective_risk", "wrong ones among the answered"),
    "calibration-error": Entry("abstention:calibration_error", "ECE of the stated confidence"),
    "refusal-precision": Entry("refusal_metrics:refusal_precision_metric", "refusals that are due, of all refusals"),
    "refusal-recall": Entry("refusal_metrics:refusal_recall_metric", "refused, of what is not known"),
    "over-refusal": Entry("refusal_metrics:over_refusal_metric", "refused, of what is known"),
    "coverage": Entry("refusal_metrics:coverage_metric", "responses that are no refusals"),
    "selective-accuracy": Entry("refusal_metrics:selective_accuracy_metric", "right ones among those"),
    "aurc": Entry("refusal_metrics:aurc_metric", "area under the risk-coverage curve; a refusal is wrong"),
    "faithfulness": Entry("faithfulness:faithfulness", "statements that are supported", ("judge",)),
    "faithfulness-verified": Entry("faithfulness:entailed", "statements that are entailed", ("verifier",)),
    "carrier-similarity": Entry("faithfulness:carrier_similarity", "statements by source", ("encoder",)),
    "attribution": Entry("attribution:attribution", "nats that contexts add to an answer", ("model",)),
    "statement-attribution": Entry("attribution:by_statement", "the same by token", ("model",)),
    "answer-relevance": Entry("summary_metrics:answer_relevance", "cosine with the question", ("encoder",)),
    "fragment-coverage": Entry("summary_metrics:fragment_coverage", "words copied from the source"),
    "fragment-density": Entry("summary_metrics:fragment_density", "mean length of a copied fragment"),
    "compression": Entry("summary_metrics:compression", "words of the source for each of the summary"),
    "content-coverage": Entry("summary_metrics:content_coverage", "key content that is held", ("encoder",)),
    "learned-quality": Entry("learned_metric:learned_quality", "rating by an encoder trained on ratings", ("learned",)),
    "reward-model": Entry("model_rewards:reward_model", "score of a reward model", ("reward",)),
}


_MADE_BY: dict[Role, str] = {
    "encoder": "lmworks.generate.text_embedding:TextEncoder",
    "model": "lmworks.generate.engine:Engine",
    "verifier": "lmworks.generate.cross_encoder:CrossEncoder",
    "reward": "lmworks.generate.reward_scores:RewardModel",
    "judge": "lmworks.evaluate.judge:measured_judge",
    "learned": "lmworks.evaluate.learned_metric:load_learned",
}


def metric(name: str, **roles: Any) -> Metric:
    """The metric of this name, with the models that it needs: `metric("bertscore", encoder=...)`.

    A model is given as an object, or as text, as `open_role` takes it; the verifier is the packaged one where none is
    given. Raises LookupError for an unknown name, with the nearest ones and all there are, and ValueError where another
    role is missing.
    """
    base, _, k = name.partition("@")
    key = f"{base}@k" if k else base
    if key not in METRICS:
        near = difflib.get_close_matches(key, METRICS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise LookupError(f"no metric is called {name!r}; {hint}There are {', '.join(METRICS)}")
    if k and not (k.isdecimal() and int(k)):
        raise LookupError(f"{name!r}: the number after @ must be a whole number from 1, such as {base}@5")
    entry = METRICS[key]
    given = {"verifier": "minilm-verifier", **{n: one for n, one in roles.items() if one not in (None, "")}}
    if missing := [role for role in entry.roles if role not in given]:
        raise ValueError(f"{name} needs a model in the role {missing[0]}: metric({name!r}, {missing[0]}=...)")
    models = {role: given[role] for role in entry.roles}
    options = {role: open_role(role, str(one)) if isinstance(one, (str, Path)) else one for role, one in models.items()}
    return resolve_name(f"{__package__}.{entry.make}")(**options, **({"k": int(k)} if k else {}))


@lru_cache(maxsize=4)  # the tasks of a suite share them
def open_role(role: Role, source: str) -> Any:
    """The model of a role: a model's name or folder; of "learned" the folder that `evaluate.learned` made, of "judge"
    MODEL:RUBRIC:CALIBRATION (`judge.measured_judge`). Encoders and language models are held in float32."""
    from lmworks.adapt.adapter import load

    make = resolve_name(_MADE_BY[role])
    if role in ("judge", "learned"):
        return make(source)
    return make(load(source), **({"weights": "float32"} if role in ("encoder", "model") else {}))


def compute(
    name: str | Metric,
    predictions: Sequence[str | Response],
    references: Sequence[str | Sequence[str] | Item] = (),
    *,
    prompts: Sequence[TextOrMessages] = (),
    contexts: Sequence[Sequence[str]] = (),
    **roles: Any,
) -> Score:
    """The value of a metric over predictions, with its 95 % interval, the number of items and the signature.

        compute("bleu", ["the cat sat"], [["a cat sat", "the cat was sitting"]])
        compute("bertscore", predictions, references, encoder="all-minilm-l6-v2")

    Of each prediction: its reference or references, its prompt, the contexts that it rests on. What a metric needs
    beyond that, such as gold spans, is given as an `Item` in the place of its references, and as a `Response`. Errors
    as of `metric`; ValueError for columns of different lengths, and for an item without what the metric needs.
    """
    made, count = metric(name, **roles) if isinstance(name, str) else name, len(predictions)
    columns = {"predictions": predictions, "references": references, "prompts": prompts, "contexts": contexts}
    for column, values in columns.items():
        if isinstance(values, str):
            raise ValueError(f"{column} are several texts: write [{values[:80]!r}]")
        if values and len(values) != count:
            raise ValueError(f"{count} predictions and {len(values)} {column}: give one for each")
    rows = zip(references or [()] * count, prompts or [""] * count, contexts or [()] * count, strict=True)
    items = [_item(str(number), *row) for number, row in enumerate(rows, 1)]
    check_items(made, items)
    responses = [Response(one) if isinstance(one, str) else one for one in predictions]
    return score(made, items, made.measure(items, responses), {"items": items})


def _item(name: str, references: str | Sequence[str] | Item, prompt: TextOrMessages, contexts: Sequence[str]) -> Item:
    if isinstance(references, Item):
        return references
    return Item(name, prompt, (references,) if isinstance(references, str) else tuple(references), tuple(contexts))
