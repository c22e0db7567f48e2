"""The stage `evaluate.suite`: tasks of a suite, asked of a model or of a whole system, item by item.

All tasks are read, rendered and tokenised before weights are loaded, so that whatever is wrong with a row is said at
once. Items are sorted by their tokens: those that begin alike, with the same shots, follow each other, and the engine's
prefix cache computes what they share once. Each response is kept as it comes, and a run that was stopped goes on.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lmworks.artefact import StageContext, StageResult, hash_json
from lmworks.config import from_mapping, to_mapping
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.critique import Respond, critique, responder
from lmworks.evaluate.metric import Metric, Response, check_items
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import Result, TaskScore, task_score, write_results
from lmworks.evaluate.suite_report import sections
from lmworks.evaluate.task import Example, Task, data_digest, examples, read_tasks

if TYPE_CHECKING:
    from lmworks.generate.protocol import EngineProtocol
    from lmworks.model.checkpoint import Checkpoint

KEPT = 64  # responses between two writes to the disk: what a kill costs

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # ids of a context and of its continuation
Answers = Callable[[Task, Sequence[Example]], Iterator[tuple[int, Response]]]  # (place among the examples, response)


@dataclass(frozen=True, slots=True)
class TaskItems:
    """A task, rendered: its examples, the hash of their data, and its metrics."""

    task: Task
    examples: list[Example]
    data: str
    metrics: list[Metric]


def evaluate(config: SuiteConfig, context: StageContext) -> StageResult:
    """The suite with the model of the role "model"; errors as `read`, `encoded` and `load` raise them."""
    from lmworks.generate.engine import Engine
    from lmworks.model.checkpoint import load

    tasks = read(config, context.base)
    checkpoint = load(context.models["model"])
    length = config.context_length or min(checkpoint.config.context_length, 2048)
    ids = {one.task.name: encoded(one, checkpoint, length) for one in tasks}
    engine = Engine(checkpoint, context_length=length, weights=config.weights, slots=config.slots)
    signature = {"model": checkpoint.fingerprint, "weights": config.weights}

    def answers(task: Task, asked: Sequence[Example]) -> Iterator[tuple[int, Response]]:
        return model_responses(engine, task, asked, [ids[task.name][example.item.id] for example in asked])

    return run(config, context, tasks, answers, signature, responder(engine), engine)


def read(config: SuiteConfig, base: Path = Path()) -> list[TaskItems]:
    """The tasks of a config with their examples. Errors of `read_tasks` and `examples`; LookupError for a metric that
    is unknown, ValueError for one that needs a model of its own, for an item without what a metric needs, and for a
    task that runs code that was not allowed."""
    made = []
    for task in read_tasks(config.suite, base):
        if task.runs_code and not config.allow_code:
            raise ValueError(f"{task.name} runs what the model writes: allow it with --allow-code, or leave it out")
        if config.shots is not None:
            task = replace(task, shots=replace(task.shots, count=config.shots))
        metrics = [metric(name) for name in task.metrics]
        found, data = examples(task, base / config.data, config.limit, config.seed)
        for one in metrics:
            check_items(one, [example.item for example in found])
        made.append(TaskItems(task, found, data, metrics))
    return made


def run(
    config: SuiteConfig,
    context: StageContext,
    tasks: Sequence[TaskItems],
    answers: Answers,
    signature: object,
    respond: Respond,
    engine: "EngineProtocol | None" = None,
) -> StageResult:
    """Ask, measure, and write the run: a row for each item, the scores, the report, with the criticism where it is
    asked for."""
    total, kept, done = sum(len(one.examples) for one in tasks), 0, 0
    results: list[Result] = []
    scores: dict[str, dict[str, TaskScore]] = {}
    for one in tasks:
        path = context.work / f"{one.task.name}.jsonl"
        responses = _kept(path)
        kept, done = kept + len(responses), done + len(responses)
        left = [place for place in range(len(one.examples)) if place not in responses]
        asked = [one.examples[place] for place in left]
        answered = answers(one.task, asked)
        while asked and (found := {left[place]: response for place, response in islice(answered, KEPT)}):
            with path.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps([key, to_mapping(value)]) + "\n" for key, value in found.items())
            responses |= found
            done += len(found)
            context.progress(done, total, "items", kept, one.task.name)
        rows, of_task = _measured(one, responses, {"run": signature, "seed": config.seed})
        results += rows
        scores[one.task.name] = of_task
    write_results(context.output, results, scores)
    metrics = {name: {key: each.score for key, each in of_task.items()} for name, of_task in scores.items()}
    report = sections([one.task for one in tasks], results, scores)
    if config.critique:
        found = [example.item for one in tasks if one.task.request == "generation" for example in one.examples]
        parts = critique(respond, engine, found, config.seed)
        for number, part in enumerate(parts, 1):
            report += (part,)
            context.progress(number, None, "parts of the criticism")
    return StageResult(metrics, report)


def _kept(path: Path) -> dict[int, Response]:
    """The responses of an interrupted run; half a line of a kill is none."""
    lines = path.read_text("utf-8").split("\n")[:-1] if path.is_file() else []
    return {key: from_mapping(Response, value, [str(path)]) for key, value in map(json.loads, lines)}


def _measured(
    one: TaskItems, responses: dict[int, Response], signature: object
) -> tuple[list[Result], dict[str, TaskScore]]:
    items = [example.item for example in one.examples]
    given = [responses[place] for place in range(len(items))]
    signed = {"how": signature, "task": to_mapping(one.task), "data": one.data}
    values = {each.name: each.measure(items, given) for each in one.metrics}
    scores = {each.name: task_score(each, items, values[each.name], signed) for each in one.metrics}
    rows = [
        Result(one.task.name, item, response, {name: column[place] for name, column in values.items()})
        for place, (item, response) in enumerate(zip(items, given, strict=True))
    ]
    return rows, scores


def outside_digest(config: SuiteConfig, base: Path) -> str:
    """SHA-256 of the tasks and of the files that they read."""
    tasks = read_tasks(config.suite, base)
    return hash_json([to_mapping(tasks), [data_digest(task, base / config.data) for task in tasks]])


def check(config: SuiteConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read`."""
    read(config, base)


# ---------------------------------------------------------------------------------------------------------------------
# A model: scores and generations


def encoded(one: TaskItems, checkpoint: "Checkpoint", length: int) -> dict[str, list[Pair]]:
    """Item id -> the ids of the example: pairs to score, or the prompt of a generation and nothing behind it.

    ValueError, with the row and the remedy, for what is longer than `length` tokens, and for a continuation that is
    none of its own: the tokens of the context with it begin and end as those of the context.
    """
    task, tokenizer = one.task, checkpoint.required_tokenizer
    made: dict[str, list[Pair]] = {}
    window = min(length, checkpoint.config.context_length - 1)  # of a text, behind one token
    ids = _context_ids(one, checkpoint)
    moved = [_moved(context, text) for each in one.examples for context, text in _texts(task, each)]
    wholes = iter(tokenizer.encode_batch([context + text for context, text in moved]))
    for example in one.examples:
        if task.request == "rolling":
            pairs = rolling_windows(tuple(next(wholes)), window)
        elif task.request == "generation":
            pairs = [(ids[example.contexts[0]], ())]
        else:
            pairs = []
            for context in example.contexts:
                own, whole = ids[context], tuple(next(wholes))
                pairs.append((own, whole if task.chat else whole[len(own) :]))
        for number, (before, after) in enumerate(pairs):
            size = len(before) + (task.max_tokens if task.request == "generation" else len(after))
            if size > length and task.request != "rolling":
                raise ValueError(
                    f"{task.name}, row {example.item.id}: {size} tokens, and the model takes {length}: lower --shots, "
                    f"or raise context_length"
                )
            if task.request == "choices" and not after:
                choice = example.item.choices[number]
                raise ValueError(
                    f"{task.name}, row {example.item.id}: the choice {choice!r} adds no token to its context: change "
                    f"the delimiter or the choice"
                )
        made[example.item.id] = pairs
    return made


def _context_ids(one: TaskItems, checkpoint: "Checkpoint") -> dict[object, tuple[int, ...]]:
    """The ids of each distinct context, without the spaces at its end, which move to what follows."""
    contexts = list(dict.fromkeys(context for example in one.examples for context in example.contexts))
    if one.task.chat:
        return {
            each: checkpoint.chat.render(each, add_generation_prompt=True).ids
            for each in contexts
            if not isinstance(each, str)
        }
    texts = [str(each) if one.task.request == "generation" else str(each).rstrip() for each in contexts]
    return dict(zip(contexts, map(tuple, checkpoint.required_tokenizer.encode_batch(texts)), strict=True))


def _texts(task: Task, example: Example) -> Iterable[tuple[str, str]]:
    """(context, continuation) to be encoded as one text; of a chat, whose template ends in special tokens, the
    continuation alone."""
    if not example.continuations:
        return ()
    contexts = [""] * len(example.continuations) if task.chat else example.contexts
    return zip(map(str, contexts), example.continuations, strict=True)


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """The spaces at the end of a context belong to its continuation, whose first word they begin."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def rolling_windows(ids: tuple[int, ...], length: int) -> list[Pair]:
    """Cut a text so that each token is scored once, behind at least one token; the first stands behind the token that
    begins a document, and the last window reaches back as far as the model takes (lm-evaluation-harness's rule)."""
    pairs: list[Pair] = [((), ids[:length])]
    for start in range(length, len(ids), length):
        end = min(start + length, len(ids))
        pairs.append((ids[end - length - 1 : start], ids[start:end]))
    return pairs


def model_responses(
    engine: "EngineProtocol", task: Task, asked: Sequence[Example], ids: Sequence[Sequence[Pair]]
) -> Iterator[tuple[int, Response]]:
    """The responses of a model, those that begin with the same tokens after each other."""
    order = sorted(range(len(asked)), key=lambda place: ids[place][0])
    for start in range(0, len(order), KEPT):
        places = order[start : start + KEPT]
        if task.request == "generation":
            yield from zip(places, _generated(engine, task, [ids[place][0][0] for place in places]), strict=True)
            continue
        pairs = [pair for place in places for pair in ids[place]]
        scores = iter(engine.score([before for before, _ in pairs], [after for _, after in pairs]))
        for place in places:
            own = [next(scores) for _ in ids[place]]
            if task.request == "rolling":
                tokens = tuple(value for score in own for value in score.log_probabilities)
                yield place, Response(asked[place].continuations[0], log_probabilities=tokens)
            else:
                totals = tuple(score.total for score in own)
                best = max(range(len(totals)), key=totals.__getitem__)
                yield place, Response(asked[place].item.choices[best], choices=totals)


def _generated(engine: "EngineProtocol", task: Task, prompts: Sequence[tuple[int, ...]]) -> list[Response]:
    from lmworks.generate.protocol import Request, SamplingParameters

    sampling = SamplingParameters(task.max_tokens, stop=task.stop, seed=0)
    completions = engine.generate([Request(prompt, sampling=sampling) for prompt in prompts])
    return [Response(one.text, log_probabilities=one.log_probabilities or ()) for one in completions]


# ---------------------------------------------------------------------------------------------------------------------
# A system


def system_responses(tasks: Sequence[TaskItems], answer: Callable[[str], Response]) -> Answers:
    """The responses of a whole system, which is asked each prompt by itself, without shots.

    ValueError for a task of another kind than generation.
    """
    for one in tasks:
        if one.task.request != "generation":
            raise ValueError(f"{one.task.name}: a system gives answers, no ln p of given texts: evaluate its model")
    return lambda _, asked: ((place, answer(str(example.item.prompt))) for place, example in enumerate(asked))
