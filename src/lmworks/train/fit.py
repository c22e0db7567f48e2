"""The one way to train, which every stage that trains takes: the parts of a run to a delivered model with its report.

    run = new_run(context, checkpoint, objective, loader, config.train, adapts(config.method, config.seed))
    run.validate = ...
    return fit(run, context, config.method, report=[(run_section(reasons), numbers)])

`fit` calls `loop.train`, which calls `loop.step`. Numbers that a config leaves out are derived in `settings.py`.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmworks.adapt.adapter import add_adapter, load_adapter, save_adapter
from lmworks.adapt.adapter_merge import merge_adapter
from lmworks.adapt.config import FullConfig, Method
from lmworks.artefact import REPORT, StageContext, StageResult, write_text
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import LanguageModelHead
from lmworks.model.transformer import Transformer
from lmworks.report import Section, to_html
from lmworks.train.config import TrainConfig
from lmworks.train.general_questions import forgetting_section, general_answers
from lmworks.train.loop import train
from lmworks.train.loss_guard import TrainingStoppedError
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.ranks import ALONE, Ranks, device_of_rank
from lmworks.train.run import Batches, Run
from lmworks.train.run_log import LOG
from lmworks.train.run_report import curve_section

Adapt = Callable[[Transformer], Transformer]  # gives the model to train, see `Run.adapt`
Deliver = Callable[[Run, Mapping[str, Tensor], Path], None]  # writes a new folder, given what `Run.trained` gave
Report = Iterable[tuple[Section, Mapping[str, Any]]]  # sections, each with its numbers for the manifest


def adapts(method: Method, seed: int, head: bool = False) -> Adapt | None:
    """The function that puts the method into a model, whose `head` is trained next to it if so; None where all weights
    are trained."""

    def adapted(model: Transformer) -> Transformer:
        model = add_adapter(model, method, seed)
        if head and model.head is not None:
            model.head.requires_grad_(True)
        return model

    return None if method == FullConfig() else adapted


def new_run(
    context: StageContext,
    checkpoint: Checkpoint,
    objective: Objective[Any],
    loader: Batches,
    config: TrainConfig,
    adapt: Adapt | None = None,
    ranks: Ranks = ALONE,
    compares: bool = False,
    folder: Path | None = None,
) -> Run:
    """A run on the device of this process, in the stage's work folder unless it only measures in another `folder`, with
    the loader's seed; the rest as of `Run`."""
    return Run(
        *(checkpoint, objective, loader, config, folder or context.work / "run"),
        device=device_of_rank(),
        progress=context.progress,
        seed=loader.config.seed,
        ranks=ranks,
        adapt=adapt,
        compares=compares,
    )


def fit(
    run: Run,
    context: StageContext,
    method: Method | None = None,
    merge: bool = False,
    deliver: Deliver | None = None,
    report: Report = (),
) -> StageResult:
    """Take all steps that are left; then write the model and the log into the output, and report. `run.folder` is
    `context.work / "run"`.

    method   What was trained of the checkpoint: the output is a model, or an adapter unless it is to `merge`. None: a
             new model, which had nothing to forget.
    deliver  Writes something else than these.
    report   The stage's sections, which stand first. It is read when the output is written, so that a generator may
             measure what was trained.

    TrainingStoppedError for a run that early stopping ended: its report, log and weights stay in the work folder, and
    no later stage takes them for those of all steps. On other processes than the first the result is empty.
    """
    head, encoder = run.checkpoint.config.head, run.checkpoint.config.encoder
    asks = method is not None and deliver is None and isinstance(head, LanguageModelHead) and encoder is None
    before = general_answers(run.model, run.checkpoint) if asks and run.config.parallel.devices == 1 else []
    with run.loader if isinstance(run.loader, Loader) else nullcontext():
        position = train(run)
    trained = run.trained()
    with run.weights.replaced_by(run.average.weights) if run.average.weights else nullcontext():
        after = general_answers(run.model, run.checkpoint, before) if before else []
    if not run.ranks.first:
        return StageResult()
    # The work folder keeps the run: after a kill it is gone on from its last checkpoint, which is its end, and what was
    # delivered half is made again.
    finished = context.work / "finished"
    if finished.exists():  # of a kill
        shutil.rmtree(finished)
    folder = finished / "model"
    if deliver is not None:
        deliver(run, trained, folder)
    else:
        _write(run, trained, folder, method or FullConfig(), merge)
    for path in folder.iterdir():
        shutil.move(path, context.output / path.name)
    shutil.copyfile(run.folder / LOG, context.output / LOG)
    shutil.rmtree(finished)
    pairs = list(report)
    if before:
        pairs.append(forgetting_section(before, after))
    curve, metrics = curve_section(context.output / LOG, run.objective.unit)
    metrics |= {"steps": position.step, "targets": position.targets}
    metrics["parameters"] = sum(weight.numel() for weight in trained.values())
    for _, numbers in pairs:
        metrics |= numbers
    sections = (*(section for section, _ in pairs), curve)
    if run.stop:
        reason, stopped = f"stopped after step {run.position.step:,}: {run.stop}", context.work / "stopped"
        shutil.rmtree(stopped, ignore_errors=True)  # of an earlier run of this command
        shutil.copytree(context.output, stopped)
        shown = (replace(sections[0], alarms=(*sections[0].alarms, reason)), *sections[1:])
        page = to_html("A stopped run: report", "Its last weights stand next to this page.", shown)
        write_text(stopped / REPORT, page)
        raise TrainingStoppedError(f"{reason}. Report: {stopped / REPORT}, next to log.jsonl and the last weights")
    return StageResult(metrics=metrics, sections=sections, digests={LOG: None})


def _write(run: Run, trained: Mapping[str, Tensor], folder: Path, method: Method, merge: bool) -> None:
    """The whole model, or the adapter."""
    dtype = torch.bfloat16 if run.config.precision == "bfloat16" else torch.float32
    if isinstance(method, FullConfig):
        replace(run.finished(trained), dtype=dtype).save(folder)
    elif merge:
        adapter = save_adapter(folder.with_name("adapter"), run.model, method, run.checkpoint, trained)
        merged = merge_adapter(load_adapter(adapter, run.checkpoint))
        run.checkpoint.with_model(merged.to(dtype)).save(folder)
    else:
        save_adapter(folder, run.model, method, run.checkpoint, trained)
        tokenizer = run.checkpoint.required_tokenizer
        tokenizer.save(folder, run.checkpoint.chat_template, run.checkpoint.max_length)
