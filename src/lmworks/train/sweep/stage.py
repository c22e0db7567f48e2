"""The stage `train.sweep`: token shards into a scaling law of their own."""

import json
import shutil
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, hash_json, write_json
from lmworks.config import from_mapping, to_mapping
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters
from lmworks.progress import Report
from lmworks.records import Unscored
from lmworks.train.derived_settings import MEASURED_SEQUENCES
from lmworks.train.held_out import held_out_batches
from lmworks.train.planning.measured_throughput import Calibration, Dtype, calibrate, device_and_dtype
from lmworks.train.planning.scaling_law_fit import write_law
from lmworks.train.planning.scaling_laws import LAW, RUNS
from lmworks.train.run_log import LOG
from lmworks.train.sweep.config import SweepConfig
from lmworks.train.sweep.findings import Findings, Trained, doubts, find
from lmworks.train.sweep.ladder import Ladder, Rung, plan_ladder
from lmworks.train.sweep.sweep_report import sections
from lmworks.train.train_stages import find_shards, find_vocabulary, pretrain, tokens_of

LOGS = "logs"
_LADDER = "ladder.json"


def sweep(config: SweepConfig, context: StageContext) -> StageResult:
    """Trains all runs that are not trained yet, the cheapest first, and fits the law.

    `context.work` keeps the plan, each finished run, and the checkpoints of the one that was interrupted. The output
    holds `runs.json`, `law.json` if a law follows, and the log of each run; no model is kept.

    ValueError or LookupError for inputs that do not go together, before anything is trained.
    """
    shards = _inputs(config, context)
    tokenizer, _ = find_vocabulary(config.tokenizer, context, shards)
    planned = context.work / _LADDER
    if not planned.exists():
        write_json(planned, plan(config, context))
    ladder = from_mapping(Ladder, json.loads(planned.read_text("utf-8")))
    progress = _Progress(context.progress, ladder)
    runs = [
        _trained(rung, config, context, partial(progress.report_run, number))
        for number, rung in enumerate(ladder.rungs)
    ]
    findings = find(runs)
    report = sections(ladder, runs, findings)
    write_json(context.output / RUNS, {"vocabulary": tokenizer.hash, "length": config.length, "runs": runs})
    if not isinstance(findings.law, Unscored):
        source, doubted = f"a sweep of {len(runs)} runs of {config.family}", doubts(findings.law, runs)
        write_law(context.output / LAW, findings.law, source, doubted, tokenizer.vocabulary_size)
    shutil.copytree(context.work / LOGS, context.output / LOGS)
    times = {f"{LOGS}/{run.name}.jsonl": None for run in runs}
    lasting = [{key: value for key, value in to_mapping(run).items() if not key.endswith("seconds")} for run in runs]
    digests = {RUNS: hash_json(lasting), **times}
    return StageResult(metrics=_metrics(runs, findings), sections=tuple(report), digests=digests)


def plan(config: SweepConfig, context: StageContext) -> Ladder:
    """The runs and how long they take, before any is trained; this machine is measured for some seconds for each size,
    unless it was before."""
    shards = _inputs(config, context)
    tokenizer, _ = find_vocabulary(config.tokenizer, context, shards)
    device, dtype = device_and_dtype(config.train.precision)

    def seconds(model: ModelConfig, tokens: float, batch_tokens: float) -> float:
        return _measured(model, config.length, dtype, device).seconds(count_parameters(model), tokens, batch_tokens)

    return plan_ladder(config, tokenizer.vocabulary_size, tokens_of(shards), seconds)


@cache  # what was disturbed while it was measured is not kept on the disk, and yet is one number in one process
def _measured(model: ModelConfig, length: int, dtype: Dtype, device: str) -> Calibration:
    return calibrate(model, MEASURED_SEQUENCES, length, dtype, device)


def _inputs(config: SweepConfig, context: StageContext) -> dict[str, Path]:
    """The shards to train on. ValueError where those held out give no loss with an interval."""
    shards, held_out = find_shards(context)
    if not held_out:
        raise ValueError(
            "a law is fitted to losses of text that no run has seen: read from a second stage data.tokenize, with the "
            "same held_out and part=held_out"
        )
    sources = {name: SourceConfig(str(folder)) for name, folder in held_out.items()}
    batches = held_out_batches(held_out, LoaderConfig(sources, config.length, mode=config.mode))
    if (sequences := sum(map(len, batches))) < 2:
        raise ValueError(
            f"the held-out text makes {sequences} sequence of {config.length} tokens, and a loss with an interval "
            "takes two: hold more out, or lower length"
        )
    return shards


def _trained(rung: Rung, config: SweepConfig, context: StageContext, progress: Report) -> Trained:
    """The run, from where it was left; what it found is kept at once."""
    finished = context.work / "runs" / f"{rung.name}.json"
    if finished.exists():
        return from_mapping(Trained, json.loads(finished.read_text("utf-8")))
    work, output = (context.work / "runs" / f"{rung.name}{kind}" for kind in (".work", ".model"))
    interrupted = work.exists()
    shutil.rmtree(output, ignore_errors=True)
    for folder in (work, output):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    inner = StageContext(context.inputs, output, work, base=context.base, progress=progress)
    metrics = pretrain(config.run(rung.parameters, rung.tokens), inner, rung.derived).metrics
    if "validation_loss" not in metrics:
        raise ValueError(
            f"{rung.name} was not validated at its end, where a guard left its last step out: lower the rate"
        )
    run = Trained(
        name=rung.name,
        parameters=rung.parameters,
        tokens=metrics["targets"],
        loss=metrics["validation_loss"],
        training_loss=metrics["loss"],
        bits_per_byte=metrics.get("bits_per_byte"),
        seconds=None if interrupted else round(time.monotonic() - started, 3),
        expected_seconds=rung.seconds,
    )
    (context.work / LOGS).mkdir(exist_ok=True)
    (output / LOG).replace(context.work / LOGS / f"{rung.name}.jsonl")
    write_json(finished, run)
    shutil.rmtree(output)
    shutil.rmtree(work)
    return run


class _Progress:
    """The progress of one run as that of all: in seconds as they are expected, or in operations."""

    def __init__(self, report: Report, ladder: Ladder) -> None:
        self.report = report
        known = ladder.seconds is not None
        self.parts = [(rung.seconds or 0.0) if known else rung.flops / 1e9 for rung in ladder.rungs]
        self.unit = "expected seconds" if known else "billion operations"
        self.kept: int | None = None  # of all, from before

    def report_run(self, number: int, done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
        before, batch = sum(self.parts[:number]), self.parts[number] / max(total or 1, 1)
        if self.kept is None:
            self.kept = round(before + batch * kept)
        here = round(before + batch * done)
        if done > kept:  # also where that is less than one of all: a note next to nothing done would stay to be read
            here = max(here, self.kept + 1)
        prefix = f"run {number + 1} of {len(self.parts)}"
        self.report(here, round(sum(self.parts)), self.unit, self.kept, f"{prefix} · {note}" if note else prefix)


def _metrics(runs: Sequence[Trained], findings: Findings) -> dict[str, Any]:
    metrics: dict[str, Any] = {"runs": len(runs), "flops": sum(run.flops for run in runs)}
    if isinstance(findings.law, Unscored):
        metrics["no_law"] = findings.law.reason
    else:
        metrics |= {"law": to_mapping(findings.law.law), "intervals": to_mapping(findings.law.intervals)}
    if not isinstance(findings.held_out, Unscored):
        error, interval = findings.held_out.error
        metrics["held_out_error"] = {"nats": error, "interval": to_mapping(interval)}
    return metrics
