"""The stage `evaluate.suite`: tasks of a suite, asked of a model or of a whole system, item by item.

All tasks are read, rendered and tokenised before weights are loaded, so that whatever is wrong with a row is said at
once. Items are sorted by their tokens: those that begin alike, with the same shots, follow each other, and the engine's
prefix cache computes what they share once. Each response is kept as it comes, and a run that was stopped continues.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import get_args

from lmworks.artefact import StageContext, StageResult, hash_json, read_json, write_json
from lmworks.compiled import choose_device
from lmworks.config import from_mapping, to_mapping
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.critique import Respond, critique, responder
from lmworks.evaluate.judge import model_fingerprint
from lmworks.evaluate.metric import Metric, Response, Role, check_items
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import Result, TaskScore, task_score, write_results
from lmworks.evaluate.suite_report import sections
from lmworks.evaluate.task import Example, Task, data_digest, examples, read_tasks
from lmworks.generate.protocol import EngineProtocol, UnsupportedError
from lmworks.generate.remote_engine import open_engine
from lmworks.model.download import digest_of_model
from lmworks.records import Unscored

WINDOW = 2048  # tokens of a text whose ln p is asked, at most, unless the config says
CACHE_TOKENS = 16_384  # or the longest item: what items share is found again, and the memory is bounded
KEPT = 64  # responses between two writes to the disk: what a kill costs

Answers = Callable[[Task, Sequence[Example]], Iterator[tuple[int, Response]]]  # (place among the examples, response)


@dataclass(frozen=True, slots=True)
class TaskItems:
    """A task, rendered: its examples, the hash of their data, and its metrics; or why it is skipped."""

    task: Task
    examples: list[Example]
    data: str
    metrics: list[Metric]
    missing: str = ""


def evaluate(config: SuiteConfig, context: StageContext) -> StageResult:
    """The suite with the model of the role "model", or that of the endpoint; errors as `read`, `encoded` and `load`
    raise them, and UnsupportedError for tasks that the endpoint cannot do."""
    from lmworks.adapt.adapter import load
    from lmworks.evaluate.model_responses import encoded, model_responses, text_generations
    from lmworks.generate.engine import Engine

    tasks = read(config, context.base, data_of(config, context))
    if config.endpoint:
        remote = open_engine(config.endpoint, concurrency=config.slots)
        if scoring := [one.task.name for one in tasks if one.task.request != "generation"]:
            raise UnsupportedError(f"{', '.join(scoring)}: {remote.capabilities.missing['score']}")
        signature = {"model": model_fingerprint(remote)}
        return run(config, context, tasks, partial(text_generations, remote), signature, responder(remote), remote)
    checkpoint = load(context.models["model"])
    ids, longest = {}, min(WINDOW, checkpoint.config.context_length) if config.critique else 0
    for one in tasks:
        most = WINDOW if one.task.request == "rolling" else checkpoint.config.context_length
        length = config.context_length or min(checkpoint.config.context_length, most)
        pairs = encoded(one.task, one.examples, checkpoint, length)
        names = [example.item.id for example in one.examples]
        ids[one.task.name] = dict(zip(names, pairs, strict=True))
        longest = max([longest, *(len(a) + (len(b) or one.task.max_tokens) for each in pairs for a, b in each)])
    cached = max(CACHE_TOKENS, longest)
    engine = Engine(checkpoint, config.slots, longest, config.weights, cache_tokens=cached, device=config.device)

    def answers(task: Task, asked: Sequence[Example]) -> Iterator[tuple[int, Response]]:
        return model_responses(engine, task, asked, ids[task.name])

    signature = {"model": checkpoint.fingerprint, "weights": config.weights}
    return run(config, context, tasks, answers, signature, responder(engine), engine)


def data_of(config: SuiteConfig, context: StageContext) -> Path:
    """The folder of the tasks' files: that of the config, or the one input. ValueError where there is neither."""
    if config.data is not None:
        return context.base / config.data
    if len(context.inputs) != 1:
        raise ValueError("where are the tasks' files? Set data to their folder, or read from the stage that makes them")
    return next(iter(context.inputs.values()))


def read(config: SuiteConfig, base: Path = Path(), data: Path | None = None) -> list[TaskItems]:
    """The tasks of a config with their examples, of files below `data`, or the config's folder.

    Errors of `read_tasks` and `examples`, for missing files where they may not be skipped or no task is left;
    LookupError for a metric that is unknown, ValueError for one whose model neither the config nor its task names, for
    an item without what a metric needs, for a task that runs code that was not allowed, and as of `choose_device`.
    """
    if config.device != "auto":  # which is always there, and takes no import of torch
        choose_device(config.device, config.weights)
    made, data = [], data or base / (config.data or "")
    for task in read_tasks(config.suite, base):
        if task.runs_code and not config.allow_code:
            raise ValueError(f"{task.name} runs what the model writes: allow it with --allow-code, or leave it out")
        if config.shots is not None:
            task = replace(task, shots=replace(task.shots, count=config.shots))
        try:
            found, digest, missing = *examples(task, data, config.limit, config.seed), ""
        except FileNotFoundError as error:
            if not config.skip_missing:
                raise
            found, digest, missing = [], "", str(error)
        metrics = [metric(name, **models_of(task, base, config)) for name in task.metrics]
        for one in metrics:
            check_items(one, [example.item for example in found])
        made.append(TaskItems(task, found, digest, metrics, missing))
    if made and all(one.missing for one in made):
        raise FileNotFoundError(made[0].missing)
    return made


def models_of(task: Task, base: Path = Path(), config: SuiteConfig | None = None) -> dict[str, str]:
    """The models that the task's metrics need, by role: those of the config before the task's; paths from `base`."""
    named = {role: getattr(config, role, "") or getattr(task, role) for role in get_args(Role)}
    parts = {role: text.rsplit(":", 2 if role == "judge" else 0) for role, text in named.items() if text}
    return {role: ":".join(str(base / p) if (base / p).exists() else p for p in own) for role, own in parts.items()}


def run(
    config: SuiteConfig,
    context: StageContext,
    tasks: Sequence[TaskItems],
    answers: Answers,
    signature: object,
    respond: Respond,
    engine: EngineProtocol | None = None,
) -> StageResult:
    """Write the run (`write_run`), and make its report, with the criticism where it is asked for."""
    results, scores = write_run(config, context, tasks, answers, signature)
    metrics = {name: {key: each.score for key, each in of_task.items()} for name, of_task in scores.items()}
    model = config.endpoint or Path(context.models["model"]).name
    settings = {"model": model, "data": config.data, "rows of each task": config.limit}
    settings |= {name: getattr(config, name) for name in ("shots", "weights", "seed")}
    report = sections([one.task for one in tasks], results, scores, settings)
    if config.critique:
        found = [example.item for one in tasks if one.task.request == "generation" for example in one.examples]
        parts = critique(respond, engine, found, config.seed)
        for number, part in enumerate(parts, 1):
            report += (part,)
            context.progress(number, None, "parts of the criticism")
    return StageResult(metrics, report)


def write_run(
    config: SuiteConfig, context: StageContext, tasks: Sequence[TaskItems], answers: Answers, signature: object
) -> tuple[list[Result], dict[str, dict[str, TaskScore]]]:
    """Ask, measure, and write a row for each item and the scores: what it returns too."""
    total, kept, done = sum(len(one.examples) for one in tasks), 0, 0
    results: list[Result] = []
    scores: dict[str, dict[str, TaskScore]] = {}
    for one in tasks:
        folder = context.work / one.task.name
        parts = [(path, read_json(path)) for path in folder.glob("[0-9]*.json")]  # of an interrupted run
        responses = {
            int(place): from_mapping(Response, given, [str(path)])
            for path, part in parts
            for place, given in part.items()
        }
        kept, done = kept + len(responses), done + len(responses)
        left = [place for place in range(len(one.examples)) if place not in responses]
        asked = [one.examples[place] for place in left]
        answered = answers(one.task, asked)
        while asked and (found := {left[place]: response for place, response in islice(answered, KEPT)}):
            write_json(folder / f"{len(responses)}.json", found)
            responses |= found
            done += len(found)
            context.progress(done, total, "items", kept, one.task.name)
        rows, of_task = _measured(one, responses, {"run": signature, "seed": config.seed})
        results += rows
        scores[one.task.name] = of_task
    write_results(context.output, results, scores)
    return results, scores


def _measured(
    one: TaskItems, responses: dict[int, Response], signature: object
) -> tuple[list[Result], dict[str, TaskScore]]:
    items = [example.item for example in one.examples]
    given = [responses[place] for place in range(len(items))]
    signed = {"how": signature, "task": to_mapping(one.task), "data": one.data}
    values = {each.name: each.measure(items, given) for each in one.metrics}
    scores = {each.name: task_score(each, items, values[each.name], signed) for each in one.metrics}
    if one.missing:
        scores = {name: replace(each, score=Unscored(one.missing)) for name, each in scores.items()}
    rows = [
        Result(one.task.name, item, response, {name: column[place] for name, column in values.items()})
        for place, (item, response) in enumerate(zip(items, given, strict=True))
    ]
    return rows, scores


def outside_digest(config: SuiteConfig, base: Path) -> str:
    """SHA-256 of the tasks and of the files that they read."""
    tasks = read_tasks(config.suite, base)
    data = config.data
    named = [path for task in tasks for text in models_of(task, base, config).values() for path in text.rsplit(":", 2)]
    models = {path: digest_of_model(Path(path)) for path in named if Path(path).exists()}
    digests = [data_digest(task, base / data) for task in tasks] if data is not None else []
    return hash_json([to_mapping(tasks), digests, list(models.values())])


def check(config: SuiteConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read`, or of the tasks alone whose files an input is to hold."""
    if config.data is None:
        read_tasks(config.suite, base)
    else:
        read(config, base)


def system_responses(tasks: Sequence[TaskItems], answer: Callable[[str], Response]) -> Answers:
    """The responses of a whole system, which is asked each prompt by itself, without shots.

    ValueError for a task of another kind than generation.
    """
    for one in tasks:
        if one.task.request != "generation":
            raise ValueError(f"{one.task.name}: a system gives answers, no ln p of given texts: evaluate its model")
    return lambda _, asked: ((place, answer(str(example.item.prompt))) for place, example in enumerate(asked))
