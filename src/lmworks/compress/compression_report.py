"""The stage `compress.compare`: compressed models next to their base, by bytes, speed, bits per byte of held-out
documents and task scores, paired by document and item, with intervals; the best is kept."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.artefact import (
    MANIFEST,
    REPORT,
    SECTIONS,
    StageContext,
    StageResult,
    read_json,
    read_manifest,
    write_json,
)
from lmworks.compress import stage
from lmworks.compress.config import CompareConfig
from lmworks.evaluate.suite_comparison import run_suites, suites_section
from lmworks.generate.benchmark import Workload, prompts, run_workload
from lmworks.generate.engine import Engine
from lmworks.generate.page_storage import CacheDtype
from lmworks.generate.perplexity import LanguageModelCost
from lmworks.model.download import weights_path
from lmworks.records import Score, Scored
from lmworks.report import Figure, Section, Table, as_svg, new_axes
from lmworks.statistics import paired_score
from lmworks.statistics.scores import ratio, sums_score
from lmworks.train.run_log import LOG
from lmworks.train.train_stages import find_base

BASE = "base"
_TOGETHER = 8  # documents that a model reads before it is said how many
_FEW = 10  # documents: an interval of fewer is not to be relied on
_ROUNDS, _PROMPT = 3, 32  # of the speed: repetitions, and tokens before what is generated


@dataclass(frozen=True)
class Measurement:
    """A model's numbers.

    nbytes  of its files.
    rows    (documents, 2): the bits that each document's text costs, and its bytes.
    speed   new tokens a second, one sequence; None: not measured.
    """

    nbytes: int
    rows: np.ndarray
    speed: float | None = None

    @property
    def mean(self) -> float:
        """Bits per byte."""
        return float(np.divide(*self.rows.sum(0)))

    def bits_per_byte(self) -> Score:
        return sums_score(self.rows, ratio, None)

    def less(self, other: "Measurement") -> Score:
        """Its bits per byte less those of the other, on the same documents."""
        return paired_score(self.rows, other.rows, ratio, None)


def measure(
    model: Path,
    texts: Sequence[str],
    config: CompareConfig,
    cache: CacheDtype | None = None,
    read: Callable[[int], None] = lambda done: None,
) -> Measurement:
    """Load a model and measure it as the engine runs it; `read` gets the number of texts read so far.
    ValueError for one that is no language model."""
    checkpoint = load(model, "stored")
    length = min(config.window + 1, checkpoint.config.context_length)
    engine = Engine(checkpoint, 1, length, weights=config.weights, cache_dtype=cache, speculation=None)
    engine.capabilities.require("score")
    cost = LanguageModelCost(engine, checkpoint.required_tokenizer, length - 1)
    bits, sizes = list[float](), [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    for start in range(0, len(texts), _TOGETHER):
        bits += [nats / math.log(2) for nats, _ in cost(texts[start : start + _TOGETHER])]
        read(len(bits))
    speed, new = None, min(config.new, length - _PROMPT)
    if new > 1:
        work = Workload(_PROMPT, 1, new)
        rounds = [prompts(work, checkpoint.config.embedding.vocabulary, number) for number in range(_ROUNDS)]
        speed = max(run_workload(engine, each, new).decode for each in rounds)
    return Measurement(stage.file_bytes(weights_path(model)), np.column_stack([bits, sizes]), speed)


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points (cost, loss) that no other is better than in one and as good in the other, by cost."""
    front: list[str] = []
    for name in sorted(points, key=points.__getitem__):
        if not front or points[name][1] < points[front[-1]][1]:
            front.append(name)
    return front


# ---------------------------------------------------------------------------------------------------------------------
# The stage


def compare(config: CompareConfig, context: StageContext) -> StageResult:
    """Measure the models of the inputs and their base; the output is the one of the least bits per byte within the
    budget, as it is. ValueError where there is no compressed model, no held-out document, or none within the budget."""
    made = {name: folder for name, folder in context.inputs.items() if stage.file_bytes(folder)}
    models = {name: folder for name, folder in made.items() if read_manifest(folder).stage.startswith("compress.")}
    base = find_base(config.base, replace(context, inputs={name: made[name] for name in made if name not in models}))
    if not models:
        raise ValueError("there is no compressed model to compare: read from a stage that makes one")
    texts = _held_out(config, context)
    done, before, total = 0, 0, len(texts) * (len(models) + 2)

    def measured(name: str, model: Path, cache: CacheDtype | None = None) -> Measurement:
        """As it was kept in the work folder, or measured and kept."""
        nonlocal done, before

        def report(read: int) -> None:
            context.progress(done + read, total, "documents, each by all models", before, name)

        if (path := context.work / f"measured-{name}.json").exists():
            before += len(texts)
        else:
            measurement = measure(model, texts, config if cache is None else replace(config, new=0), cache, report)
            write_json(path, [measurement.nbytes, measurement.rows.tolist(), measurement.speed])
        done += len(texts)
        nbytes, rows, speed = read_json(path)
        return Measurement(nbytes, np.array(rows), speed)

    measurements = {name: measured(name, model) for name, model in {BASE: base, **models}.items()}
    within = [name for name in models if config.budget is None or measurements[name].nbytes <= config.budget]
    if not within:
        listed = ", ".join(f"{name} {measurements[name].nbytes:,}" for name in models)
        raise ValueError(f"none of the models has at most {config.budget:,} bytes ({listed}): raise the budget")
    chosen = min(within, key=lambda name: measurements[name].mean)
    cached = measured(f"{chosen}, int8 cache", models[chosen], "int8")
    excluded = shutil.ignore_patterns(MANIFEST, SECTIONS, REPORT, LOG)
    shutil.copytree(models[chosen], context.output, ignore=excluded, dirs_exist_ok=True)
    bound = "" if config.budget is None else " within the budget"
    chosen_text = f"`{chosen}` is kept, which has the fewest of those compressed{bound}."
    change = _shown(cached.less(measurements[chosen]), "+.4f")
    chosen_text += (
        f" Keys and values in int8 (`lmworks serve --set cache_dtype=int8`) change its bits per byte by {change}."
    )
    sections = [_section(measurements, chosen_text)]
    numbers = {
        name: {
            "bytes": model.nbytes,
            "tokens_per_second": model.speed,
            "bits_per_byte": _number(model.bits_per_byte()),
            "difference": _number(model.less(measurements[BASE])) if name != BASE else None,
        }
        for name, model in measurements.items()
    }
    metrics = {"chosen": chosen, "documents": len(texts), "models": numbers}
    if config.suites:
        asked = {BASE: base, **models}.items()
        runs = {name: run_suites(config, context, model, name) for name, model in asked}
        section, differences = suites_section(runs.pop(BASE), runs)
        sections.append(section)
        metrics |= {"_".join(key): _number(difference) for key, difference in differences.items()}
    return StageResult(metrics=metrics, sections=tuple(sections))


def _held_out(config: CompareConfig, context: StageContext) -> list[str]:
    excerpt = max(config.characters // 50, 200)
    total, texts = 0, list[str]()
    for text in (text[:excerpt] for text in stage.split_texts(context.inputs, config.held_out)[1] if text):
        if total + len(text) <= config.characters or not texts:
            texts.append(text)
            total += len(text)
    if len(texts) < 2:
        raise ValueError(
            f"{len(texts)} of the documents are held out, and an interval needs two: give more documents (a file of "
            'lines with a "text" is one a line), or a larger share held_out to all stages'
        )
    return texts


def _number(score: Score) -> Any:
    return [score.value, *score.interval] if isinstance(score, Scored) else str(score)


def _section(measurements: Mapping[str, Measurement], chosen_text: str) -> Section:
    base, rows = measurements[BASE], []
    for name, measurement in measurements.items():
        faster = ""
        if measurement.speed is not None and base.speed is not None:
            faster = f"{measurement.speed:,.0f} ({measurement.speed / base.speed:.2f}×)"
        difference = "" if name == BASE else _shown(measurement.less(base), "+.4f")
        size = f"{measurement.nbytes:,} ({measurement.nbytes / base.nbytes:.0%})"
        rows.append((name, size, faster, _shown(measurement.bits_per_byte(), ".4f"), difference))
    columns = ("model", "bytes", "new tokens/s", "bits per byte", "less the base, paired")
    front = pareto({name: (measurement.nbytes, measurement.mean) for name, measurement in measurements.items()})
    text = (
        f"Bits per byte of {len(base.rows)} held-out documents, {int(base.rows[:, 1].sum()):,} bytes, read by the "
        f"engine as it serves. {chosen_text} The best at their sizes: {', '.join(front)}."
    )
    if len(base.rows) < _FEW:
        text += f" An interval of {len(base.rows)} documents means little: give more of them."
    table = Table(columns, tuple(rows), f"With 95 % intervals, of n = {len(base.rows)} documents")
    return Section("Before and after", text, (table,), (_plot(measurements, front),))


def _shown(score: Score, form: str) -> str:
    if not isinstance(score, Scored):
        return str(score)
    return f"{score.value:{form}} [{score.interval[0]:{form}}, {score.interval[1]:{form}}]"


def _plot(measurements: Mapping[str, Measurement], front: Sequence[str]) -> Figure:
    """Bits per byte over bytes; of the base without its interval, of the others that of the difference to it."""
    figure, axes = new_axes("MB of the files", "bits per byte")
    base, sizes = measurements[BASE], {name: model.nbytes / 1e6 for name, model in measurements.items()}
    for number, name in enumerate(sorted(measurements, key=sizes.__getitem__)):
        difference = measurements[name].less(base)
        if name != BASE and isinstance(difference, Scored):
            ends = [base.mean + end for end in difference.interval]
            axes.plot([sizes[name]] * 2, ends, color="#60646c", linewidth=1.4)
        colour, point = "#0b6e8f" if name in front else "#c2571a", (sizes[name], measurements[name].mean)
        axes.plot(*point, "o", color=colour, markersize=5)
        # Above and below in turns, for models of about one size.
        axes.annotate(name, point, (5, -12 if number % 2 else 5), textcoords="offset points", fontsize=9)
    line = [sizes[name] for name in front], [measurements[name].mean for name in front]
    axes.plot(*line, color="#0b6e8f", linewidth=1.0, zorder=0)
    caption = "The line joins the models that no other is both smaller and better than; intervals are of the difference"
    return Figure(as_svg(figure), f"{caption} to the base.")
