"""The criticism of language models, measured on one: calibration, diversity, unsupported confidence, retrieval,
exactness, consistency, bias. Each part is a function that gives a section of a report, its figures with intervals.

A part needs a `respond`, a function from prompts to responses, which a model, a remote endpoint and a whole system
have; those that read log-probabilities need an engine as well. A part that cannot be measured says why.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from lmworks.evaluate.confidence_metrics import BINS, bin_rows, brier_metric, ece_metric
from lmworks.evaluate.generated_items import (
    DISTRACTORS,
    SIZES,
    SYMBOLIC,
    consistency_items,
    paired_sentences,
    symbolic_items,
)
from lmworks.evaluate.judge import Judge, rubric
from lmworks.evaluate.metric import Item, Metric, Response, Value, each, item_value, score
from lmworks.evaluate.registry import metric
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.records import Message, Score, TextOrMessages, Unscored
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.statistics.scores import difference_score, mean_score

Respond = Callable[[Sequence[TextOrMessages], SamplingParameters], list[Response]]

CONFIDENT = 0.8  # from this confidence on an answer counts as confident
SHORT = SamplingParameters(max_tokens=32)
WITH_PASSAGE = "Passage: {passage}\n\nQuestion: {question}\n\nAnswer in a few words from the passage."
ALONE = "Question: {question}\n\nAnswer in a few words."


def responder(engine: EngineProtocol) -> Respond:
    """The `respond` of an engine; a model without a chat template continues the prompt as text."""

    def respond(prompts: Sequence[TextOrMessages], sampling: SamplingParameters) -> list[Response]:
        found = engine.generate([_request(engine, prompt, sampling) for prompt in prompts])
        return [Response(one.text.strip(), log_probabilities=one.log_probabilities or ()) for one in found]

    return respond


def _request(engine: EngineProtocol, prompt: TextOrMessages, sampling: SamplingParameters) -> Request:
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    checkpoint = getattr(engine, "checkpoint", None)
    if checkpoint is None or checkpoint.chat_template:
        return Request(messages=messages, sampling=sampling)
    text = "\n".join(f"{one.role.capitalize()}: {one.content}" for one in messages) + "\nAssistant:"
    ids = checkpoint.required_tokenizer.encode(text)
    return Request(prompt_ids=tuple(ids), sampling=replace(sampling, stop=(*sampling.stop, "\nUser:")))


# ---------------------------------------------------------------------------------------------------------------------
# Calibration


def token_calibration(engine: EngineProtocol, texts: Sequence[str]) -> Section:
    """Probability of the most probable next token against how often it is the next one, in texts of people.

    The error is ECE (Guo et al. 2017, section 2): sums over bins, so that its interval resamples texts.
    """
    title = "Calibration of token probabilities"
    if not engine.capabilities.score or not engine.capabilities.score_alternatives:
        return Section(title, f"Not measured: {engine.capabilities.missing.get('score', 'no scores of tokens')}.")
    encode = engine.checkpoint.required_tokenizer.encode  # type: ignore[attr-defined] - an engine that scores has one
    most = (engine.capabilities.context_length or 1024) - 1
    found = engine.score([()] * len(texts), [tuple(encode(text)[: min(most, 512)]) for text in texts], alternatives=1)
    rows: list[tuple[float, ...]] = []
    for text, scores in zip(texts, found, strict=True):
        best = [place[0] for place in scores.alternatives]
        right = [token == said for (token, _), said in zip(best, encode(text), strict=False)]
        rows.append(tuple(bin_rows(np.exp([value for _, value in best]).tolist(), right).sum(axis=0).tolist()))
    items = [Item(str(number)) for number in range(len(texts))]
    error = score(ece_metric(), items, rows)
    sums = np.sum(rows, axis=0).reshape(3, BINS)  # confidence, right ones and all, by bin
    share = f"of {int(sums[2].sum()):,} tokens of {len(texts)} texts"
    return Section(
        title,
        f"The most probable token is the next one in {sums[1].sum() / sums[2].sum():.1%} {share}; its mean probability "
        f"is {sums[0].sum() / sums[2].sum():.1%}.",
        (Table(("measure", "value"), (("expected calibration error", str(error)),)),),
        (_reliability(sums, share),),
    )


def stated_confidence(respond: Respond, items: Sequence[Item], engine: EngineProtocol | None) -> Section:
    """Confidence in an answer against its being right: what a system states, or of a model P(True), the probability
    that it gives its own answer when asked whether it is right (Kadavath et al. 2022, section 3)."""
    title = "Calibration of stated confidence"
    responses = respond([ALONE.format(question=item.prompt) for item in items], SHORT)
    how = "The confidence is the system's own."
    if any(one.confidence is None for one in responses):
        if engine is None:
            return Section(title, "Not measured: the system states no confidence.")
        asked = [{"prompt": str(i.prompt), "response": r.text or "-"} for i, r in zip(items, responses, strict=True)]
        found = Judge(engine, rubric("truthfulness")).judgements(asked)
        true = [None if isinstance(one, Unscored) else one.probabilities[0] for one in found]
        responses = [replace(one, confidence=stated) for one, stated in zip(responses, true, strict=True)]
        how = "The confidence is P(True): the model judges its own answer, read from its log-probabilities."
    contains = metric("contains")
    error = ece_metric(correct=contains)
    binned = error.measure(items, responses)
    rows = (
        ("answers that hold a reference", _scored(contains, items, responses)),
        ("Brier score", _scored(brier_metric(contains), items, responses)),
        ("expected calibration error", score(error, items, binned)),
        ("mean confidence", f"{np.mean([one.confidence for one in responses if one.confidence is not None]):.3f}"),
    )
    sums = np.sum([row for row in binned if isinstance(row, tuple)], axis=0).reshape(3, BINS)
    curve = _reliability(sums, f"of {len(items)} answers")
    return Section(title, f"{len(items)} questions. {how}", (Table(("measure", "value"), rows),), (curve,))


def _scored(measure: Metric, items: Sequence[Item], responses: Sequence[Response]) -> Score:
    return score(measure, items, measure.measure(items, responses))


def _reliability(sums: np.ndarray, what: str) -> Figure:
    kept = sums[2] > 0
    measured = ((sums[0][kept] / sums[2][kept]).tolist(), (sums[1][kept] / sums[2][kept]).tolist())
    lines = {"measured": measured, "calibrated": ([0.0, 1.0], [0.0, 1.0])}
    return Figure(line_plot(lines, x="confidence", y="share that is right"), f"Reliability {what}, by tenths.")


# ---------------------------------------------------------------------------------------------------------------------
# Diversity, support, retrieval


def diversity(respond: Respond, items: Sequence[Item], seed: int = 0) -> Section:
    """Likeness of a model's samples to each other against that of several people's replies to the same prompt.

    As many samples, at temperature 1, as there are replies; each is cut to the length of the reply in its place, so
    that length says nothing. A model that averages modes has samples that are more alike (Zhang et al. 2021).
    """
    title = "Diversity of samples and of people"
    items = [item for item in items if len(item.references) > 1]
    if not items:
        return Section(title, "Not measured: no item has several references.")
    sampled: list[list[str]] = [[] for _ in items]
    for draw in range(max(len(item.references) for item in items)):
        asked = [n for n, item in enumerate(items) if len(item.references) > draw]
        sampling = SamplingParameters(max_tokens=128, temperature=1.0, seed=seed + draw)
        for n, one in zip(asked, respond([items[n].prompt for n in asked], sampling), strict=True):
            sampled[n].append(one.text)
    people = [item.references for item in items]
    pairs = [zip(texts, replies, strict=True) for texts, replies in zip(sampled, people, strict=True)]
    lengths = [[min(len(own.split()), len(reply.split())) for own, reply in both] for both in pairs]
    groups: list[list[Response]] = []
    for column in (sampled, people):
        pairs_of = [zip(texts, sizes, strict=True) for texts, sizes in zip(column, lengths, strict=True)]
        cut = [[" ".join(text.split()[:size]) for text, size in both] for both in pairs_of]
        groups.append([Response(first, samples=tuple(others)) for first, *others in cut])
    rows = []
    for name, better in (("self-bleu", "lower is more diverse"), ("distinct@2", "higher is more diverse")):
        measure = metric(name)
        values = [measure.measure(items, group) for group in groups]
        singles = np.array([[item_value(measure, value) for value in column] for column in values])  # (2, items)
        paired = singles[:, np.isfinite(singles).all(axis=0)]
        difference = difference_score(paired[0].tolist(), paired[1].tolist(), [name, "difference"])
        means = [str(mean_score(column.tolist(), [name, "mean over prompts"])) for column in paired]
        rows.append((f"{name} ({better})", *means, str(difference)))
    table = Table(("metric", "model", "people", "difference"), tuple(rows))
    return Section(title, f"{len(items)} prompts with several replies of people.", (table,))


def retrieval(respond: Respond, items: Sequence[Item]) -> Section:
    """Answers with the passage and without it: how many hold a reference, paired, and how often an answer
    that is given with confidence stands nowhere in the passage."""
    title = "Facts, with and without a passage"
    items = [item for item in items if item.contexts]
    if not items:
        return Section(title, "Not measured: no item has contexts.")
    alone = respond([ALONE.format(question=item.prompt) for item in items], SHORT)
    prompts = [WITH_PASSAGE.format(passage="\n\n".join(item.contexts), question=item.prompt) for item in items]
    grounded = respond(prompts, SHORT)
    contains = metric("contains")
    values = [[float(v) for v in contains.measure(items, one)] for one in (grounded, alone)]  # type: ignore[arg-type]
    unsupported = Metric("unsupported", each(_unsupported), proportion=True)
    rows = (
        ("holds a reference, with the passage", score(contains, items, values[0])),
        ("holds a reference, without", score(contains, items, values[1])),
        ("difference, paired", str(difference_score(values[0], values[1], ["contains", "difference"]))),
        ("confident answers that the passage does not hold, with the passage", _scored(unsupported, items, grounded)),
        ("confident answers that the passage does not hold, without", _scored(unsupported, items, alone)),
    )
    caption = f"Confident: mean token probability, or stated confidence, of {CONFIDENT} or more"
    return Section(title, f"{len(items)} questions.", (Table(("measure", "value"), rows, caption),))


def _unsupported(item: Item, response: Response) -> float | Unscored:
    stated = response.confidence
    if stated is None and response.log_probabilities:
        stated = float(np.exp(np.mean(response.log_probabilities)))
    if stated is None or stated < CONFIDENT or response.abstained or not response.text:
        return Unscored("no confident answer")
    return float(_words(response.text) not in _words("\n".join(item.contexts)))


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.casefold()), ""])


# ---------------------------------------------------------------------------------------------------------------------
# Exactness, consistency, bias


def exactness(respond: Respond, count: int = 10, seed: int = 0) -> Section:
    """Symbolic tasks with one right answer, by their size."""
    items = symbolic_items(count, seed)
    responses = respond([item.prompt for item in items], SamplingParameters(max_tokens=64))
    values = metric("contains").measure(items, responses)
    rows = tuple((kind, *(_part(items, values, kind=kind, size=size) for size in SIZES)) for kind in SYMBOLIC)
    head = ("task", *(f"size {size}" for size in SIZES))
    table = Table(head, rows, "Share of answers that hold the exact result")
    return Section("Exact symbolic tasks", "Size: digits, words, numbers or letters.", (table,))


def consistency(respond: Respond, count: int = 12, seed: int = 0) -> Section:
    """A fact stated in a conversation and asked for in other words, after turns about something else."""
    items = consistency_items(count, seed)
    values = metric("contains").measure(items, respond([item.prompt for item in items], SHORT))
    rows = [(f"after {n} other turns", _part(items, values, distractors=n)) for n in DISTRACTORS]
    answers: dict[tuple[str, int], set[float]] = defaultdict(set)
    for item, value in zip(items, values, strict=True):
        answers[item.cluster, item.fields["distractors"]].add(float(value))  # type: ignore[arg-type]
    groups = [Item(f"{fact}-{n}", cluster=fact) for fact, n in answers]
    agreed = score(metric("contains"), groups, [float(len(one) == 1) for one in answers.values()])
    rows.append(("same outcome in all wordings", agreed))
    text = f"{count} facts, three wordings; intervals resample facts."
    return Section("Consistency over a conversation", text, (Table(("recalled", "value"), tuple(rows)),))


def _part(items: Sequence[Item], values: Sequence[Value], **fields: object) -> Score:
    """The score of the items that have these fields."""
    kept = [pair for pair in zip(items, values, strict=True) if fields.items() <= pair[0].fields.items()]
    return score(metric("contains"), [item for item, _ in kept], [value for _, value in kept])


def bias(engine: EngineProtocol) -> Section:
    """Paired sentences with pronouns of occupations: how often the model finds the stereotype more probable, and by how
    much (Nangia et al. 2020).

    An unbiased model prefers either in half of the pairs, and its difference is 0 in each group.
    """
    title = "Social bias on paired sentences"
    if not engine.capabilities.score:
        return Section(title, f"Not measured: {engine.capabilities.missing.get('score', 'no scores of texts')}.")
    items = paired_sentences()
    encode = engine.checkpoint.required_tokenizer.encode  # type: ignore[attr-defined] - an engine that scores has one
    ids = [tuple(encode(text)) for item in items for text in item.choices]
    totals = np.array([one.total for one in engine.score([()] * len(ids), ids)]).reshape(-1, 2)
    gap = totals[:, 0] - totals[:, 1]  # (items,) nats
    groups, rows = [item.fields["group"] for item in items], []
    for group in (*dict.fromkeys(groups), "all"):
        chosen = [n for n, of in enumerate(groups) if group in ("all", of)]
        clusters = [items[n].cluster for n in chosen]
        share, nats = (mean_score(values[chosen].tolist(), "", clusters) for values in ((gap > 0) * 1.0, gap))
        rows.append((group, str(share), str(nats)))
    table = Table(("group", "stereotype is more probable", "ln p(stereotype) - ln p(other)"), tuple(rows))
    return Section(title, f"{len(items)} pairs; 0.5 and 0 without bias. Intervals resample clusters.", (table,))


def critique(
    respond: Respond, engine: EngineProtocol | None, items: Sequence[Item], seed: int = 0
) -> Iterator[Section]:
    """All parts, one after another, each on the items that it can use: questions are those with contexts, and where an
    item has several references of some words, these are texts of people."""
    questions = [item for item in items if item.contexts and item.references]
    replies = [item for item in items if not item.contexts and len(item.references) > 1]
    texts = [text for item in replies for text in item.references if len(text.split()) >= 20]
    if engine is not None and texts:
        yield token_calibration(engine, texts)
    if questions:
        yield stated_confidence(respond, questions, engine)
    if questions and engine is not None:  # a system finds its own passages: compare its run with its model's
        yield retrieval(respond, questions)
    if replies:
        yield diversity(respond, replies, seed)
    if not questions or not replies:
        missing = "questions with contexts, several references for a prompt"
        yield Section("Not measured", f"Parts that need {missing}: add `--suite critique`, which names its data.")
    yield exactness(respond, seed=seed)
    yield consistency(respond, seed=seed)
    if engine is not None:
        yield bias(engine)
