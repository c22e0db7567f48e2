"""The stage `ground.refusals`: rows for refusal-aware tuning (Zhang et al. 2024, "R-Tuning", section 2).

closed book     the base model is asked; what it knows keeps its answer, the rest gets a refusal
passage         a question behind a passage that answers it keeps its answer
other passage   the same question behind one that does not, and
no answer       one that nothing answers, get a refusal

conversations.jsonl   the rows, for data.tokenize: messages, and as `provenance` what the base said and whether it knew
held_out.jsonl        questions that became no rows, for the task `refusals`. The artefact is the base model's run of
                      this task: `lmworks eval compare` compares a tuned model's with it
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, hash_json, write_rows
from lmworks.data.conversations import CONVERSATIONS
from lmworks.evaluate import suite
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.question_set import QUESTIONS
from lmworks.evaluate.refusal_metrics import is_right
from lmworks.evaluate.string_metrics import normalised_answer
from lmworks.evaluate.task import Example, data_digest, examples, read_tasks
from lmworks.ground.asked_questions import Asked, asked_of_corpus, asked_of_task, share_of, tasks_of
from lmworks.ground.config import RefusalsConfig
from lmworks.records import Message
from lmworks.report import Section, Table
from lmworks.retrieve.rendered_text import shortened

CLOSED, PASSAGE, OTHER, NOTHING = KINDS = ("closed book", "passage", "other passage", "no answer")
GROUNDED = "Answer from this passage, or say that you don't know.\n\n{passage}\n\nQuestion: {question}"
REFUSALS = (
    "I don't know.",
    "I do not know the answer.",
    "I don't know the answer to that question.",
    "I'm not sure about that, so I'd rather not guess.",
    "I am not sure what the answer is.",
    "I can't answer that: I don't know.",
    "I don't have enough information to answer that.",
    "I'm unsure, and I don't want to guess.",
)
SURE = "Are you sure that this answer is right?"
IS_SURE, IS_UNSURE = "I am sure.", "I am unsure."
HELD_OUT, TASK = "held_out.jsonl", "refusals"
SAMPLES = 5  # as the paper draws
EXCERPT, SHOWN = 160, 3


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt of a kind, its references, and whether it should be answered; the `response` of the base, if asked."""

    id: str
    question: str
    kind: str
    prompt: str
    references: tuple[str, ...]
    known: bool
    held_out: bool
    response: str = ""


def refusals(config: RefusalsConfig, context: StageContext) -> StageResult:
    """Ask, decide, write rows and held-out questions, and run the base model on these.

    ValueError where there is nothing to ask, or nothing is left on either side.
    """
    tasks, left_out = tasks_of(config, context.base), Counter[str]()
    asked = [question for task in tasks for question in asked_of_task(task, config, context.base)]
    if any((folder / QUESTIONS).exists() for folder in context.inputs.values()):
        asked += asked_of_corpus(context)
    if not asked:
        raise ValueError("there is nothing to ask: set tasks and data, or read from ground.questions and an index")
    cases = [case for question in asked for case in cases_of(question, left_out)]
    closed = _decided([case for case in cases if case.kind == CLOSED], config, context)
    cases = [*closed, *(case for case in cases if case.kind != CLOSED)]
    rows, held_out = (_thinned(cases, share, side, left_out) for side, share in ((False, config.refusals), (True, 0.5)))
    if not rows or not held_out:
        raise ValueError(f"{len(rows)} rows and {len(held_out)} held-out questions are left of {len(cases)}: ask more")
    write_rows(context.output / CONVERSATIONS, [_row(case, config) for case in rows])
    write_rows(context.output / HELD_OUT, [_question(case) for case in held_out])
    surroundings = replace(context, inputs={TASK: context.output}, models={"model": context.models["base"]})
    before = suite.evaluate(SuiteConfig((TASK,)), surroundings)
    metrics = {"rows": len(rows), "refusals": sum(not case.known for case in rows), "held_out": len(held_out)}
    metrics |= {"left_out": sum(left_out.values()), "before": before.metrics[TASK]}
    return StageResult(metrics, (_section(config, (cases, rows, held_out), left_out), *before.sections))


def cases_of(question: Asked, left_out: Counter[str]) -> list[Case]:
    """The prompts of a question, with and without its passage; what it lacks for one is counted in `left_out`."""

    def case(kind: str, passage: str = "", known: bool = False) -> Case:
        prompt = GROUNDED.format(passage=passage.strip(), question=question.text) if passage else question.text
        references = question.references or (REFUSALS[0],)  # nothing else is a good response
        return Case(f"{question.id}/{kind}", question.id, kind, prompt, references, known, question.held_out)

    if not question.passage and question.answerable:
        return [case(CLOSED)]
    if not question.passage or (question.answerable and not question.other):
        left_out["no passage shares a word with the question and does not answer it"] += 1
    if not question.answerable:
        return [case(NOTHING, question.passage)] if question.passage else []
    return [case(PASSAGE, question.passage, known=True), *([case(OTHER, question.other)] if question.other else [])]


def _decided(closed: Sequence[Case], config: RefusalsConfig, context: StageContext) -> list[Case]:
    """The cases with what the base said and whether it knew."""
    responses = _responses(closed, config, context) if closed else []
    if config.known_by == "reference":
        items = [Item(case.id, references=case.references) for case in closed]
        knew = list(map(is_right, items, responses))
    else:
        order = sorted(range(len(closed)), key=lambda index: doubt(responses[index]))
        knew = [index in set(order[: len(order) // 2]) for index in range(len(order))]
    texts = [response.text.strip() for response in responses]
    return [replace(case, known=k, response=text) for case, k, text in zip(closed, knew, texts, strict=True)]


def doubt(response: Response) -> tuple[float, float]:
    """Entropy of the samples in nats, equal ones after normalisation; behind it, for ties, -ln p a token."""
    counts, samples = Counter(map(normalised_answer, response.samples)).values(), len(response.samples)
    entropy = -sum(count / samples * math.log(count / samples) for count in counts)
    return entropy, -sum(response.log_probabilities) / max(len(response.log_probabilities), 1)


def _responses(closed: Sequence[Case], config: RefusalsConfig, context: StageContext) -> list[Response]:
    """Greedy answers of the base model, and samples, as the task `refusals` asks; ValueError for too long a prompt."""
    from lmworks.adapt.adapter import load
    from lmworks.evaluate.model_responses import encoded, model_responses
    from lmworks.generate.engine import Engine

    (task,), checkpoint = read_tasks([TASK]), load(context.models["base"])
    task = replace(task, samples=SAMPLES if config.known_by == "samples" else 0)
    asked = [Example(Item(case.id), ((Message("user", case.prompt),),)) for case in closed]
    pairs = encoded(task, asked, checkpoint, checkpoint.config.context_length)
    longest = max(len(prompt) for ((prompt, _),) in pairs) + task.max_tokens
    ids, responses = dict(zip((case.id for case in closed), pairs, strict=True)), dict[int, Response]()
    for index, response in model_responses(Engine(checkpoint, context_length=longest), task, asked, ids):
        responses[index] = response
        context.progress(len(responses), len(closed), "questions asked closed book")
    return [responses[index] for index in range(len(closed))]


def _thinned(cases: Sequence[Case], share: float, held_out: bool, left_out: Counter[str]) -> list[Case]:
    """One side with at most this share of refusals, closed book and with passages each, chosen by hash."""
    thinned: list[Case] = []
    for name, kinds in ((CLOSED, (CLOSED,)), ("with a passage", (PASSAGE, OTHER, NOTHING))):
        side = [case for case in cases if case.kind in kinds and case.held_out == held_out]
        known = [case for case in side if case.known]
        unknown = sorted((case for case in side if not case.known), key=lambda case: share_of(case.id))
        most = int(len(known) * share / (1 - share))
        thinned += [*known, *unknown[:most]]
        if cut := unknown[most:]:
            side_of = "held out" if held_out else "rows"
            left_out[f"{name}, {side_of}: refusals beyond a share of {share:.0%}"] += len(cut)
    return sorted(thinned, key=lambda case: share_of(case.question))


def taught(case: Case, config: RefusalsConfig) -> str:
    """The answer, or the refusal that the case's hash draws."""
    if case.known or (config.variant == "unsure" and case.kind == CLOSED):
        return case.response if config.known_by == "samples" and case.kind == CLOSED else case.references[0]
    return REFUSALS[int(share_of(f"refusal of {case.id}") * len(REFUSALS))]


def _row(case: Case, config: RefusalsConfig) -> dict[str, Any]:
    turns = [("user", case.prompt), ("assistant", taught(case, config))]
    if config.variant == "unsure" and case.kind == CLOSED:
        turns += [("user", SURE), ("assistant", IS_SURE if case.known else IS_UNSURE)]
    provenance = {"source": case.id, "kind": case.kind, "known": case.known, "said": case.response}
    return {"messages": [{"role": role, "content": text} for role, text in turns], "provenance": provenance}


def _question(case: Case) -> dict[str, Any]:
    columns = {"id": case.id, "prompt": case.prompt, "answers": case.references, "cluster": case.question}
    return columns | {"kind": case.kind, "known": case.known}


def _section(config: RefusalsConfig, sides: Sequence[Sequence[Case]], left_out: Counter[str]) -> Section:
    """The report; `sides` are all cases, the rows, and what is held out."""
    cases, rows, _ = sides
    share = sum(not case.known for case in rows) / len(rows)
    by = "its answer holds a reference" if config.known_by == "reference" else "its samples agree most"
    text = (
        f"{share:.0%} of {len(rows)} rows teach a refusal, of at most {config.refusals:.0%}: over-refusal follows from "
        f"this share. Closed book, the base model knows a question where {by}, and some of that is luck."
    )

    def counts(among: Sequence[Case], kind: str) -> tuple[int, int]:
        known = [case.known for case in among if case.kind == kind]
        return sum(known), len(known) - sum(known)

    kinds = [kind for kind in KINDS if any(case.kind == kind for case in cases)]
    counted = [(kind, *(n for side in sides for n in counts(side, kind))) for kind in kinds]
    shown = [
        (kind, f"…{case.prompt[-EXCERPT:]}", shortened(case.response, EXCERPT), taught(case, config))
        for kind in kinds
        for known in (True, False)
        for case in [row for row in rows if row.kind == kind and row.known == known][:SHOWN]
    ]
    columns = ("kind", "known", "unknown", "answers", "refusals", "held out, known", "held out, unknown")
    tables = [
        Table(columns, tuple(counted)),
        Table(("kind", "prompt", "the base said", "taught"), tuple(shown), "Rows"),
    ]
    if left_out:
        tables.append(Table(("left out", "questions"), tuple(left_out.most_common())))
    return Section("Rows for refusal-aware tuning", text, tuple(tables))


def check(config: RefusalsConfig, base: Path) -> None:
    """Before any stage runs: the errors of reading the tasks' questions."""
    for task in tasks_of(config, base):
        examples(task, base / config.data, config.limit)


def outside_digest(config: RefusalsConfig, base: Path) -> str:
    """SHA-256 of the tasks and of the files that they read."""
    return hash_json([[task, data_digest(task, base / config.data)] for task in tasks_of(config, base)])
