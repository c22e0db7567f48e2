"""The verb `plan`: which model, on how many tokens, in how much memory, for how long, before anything is trained."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.cli.options import SettingsOption
from lmworks.cli.output import say, show_sections
from lmworks.config import assigned, from_mapping, to_mapping
from lmworks.progress import stage_progress
from lmworks.report import Section, Table
from lmworks.train.planning.plan import Plan, PlanConfig

if TYPE_CHECKING:
    from lmworks.model.config import ModelConfig

_A_MONTH = 720  # hours; what takes longer, nobody begins on one machine
_LARGE = 1e9  # parameters of a model that is not measured in seconds: its blocks take long to make and to run


def plan(
    settings: SettingsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Plan a training run: size, tokens, memory, time and cost.

    Give **one** of `--flops`, `--hours`, `--budget` (with `--price`), `--params` and `--tokens`, and the plan finds the
    others: the model and the tokens with which the operations reach the lowest loss (Hoffmann et al. 2022). Give
    **two**, such as parameters and tokens, and it says what they cost and how far from the best they are.

    Then it chooses a shape, and says what one device holds, part by part, what it sends, how long the run takes, and
    where to begin with the learning rate. Each number comes with its reason.

    **Layout.** `--set layout.data=8` divides the batch, `layout.zero=3` the weights, and so on, as listed below.

    **Time.** This machine is measured for some seconds for each shape, or up to some minutes where it has billions
    of parameters, and remembered; a named `--device` is reckoned at a `--utilisation` of its peak.

    Examples: `lmworks plan --hours 8` ·
    `lmworks plan --params 7B --device a100-80gb --set layout.data=64 --set layout.zero=3` ·
    `lmworks plan --budget 1000 --price 2.5 --device h100-80gb --set layout.data=8 --set layout.zero=2` ·
    `lmworks plan --model llama2-7b --tokens 2T --device a100-80gb --utilisation 0.39 --json`
    """
    from lmworks.train.planning.plan import make_plan

    made = make_plan(from_mapping(PlanConfig, assigned(settings)), _measure)
    if as_json:
        _print_json(made)
    else:
        _print_tables(made)


def _measure(config: "ModelConfig", *others: Any) -> Any:
    """Shows that it works, as it takes some seconds for each model that is not known yet; torch is loaded for it."""
    from rich.console import Console

    from lmworks.model.model_costs import count_parameters
    from lmworks.train.planning.measured_throughput import is_measured, measured_speed
    from lmworks.train.planning.units import short

    if is_measured(config, *others):
        return measured_speed(config, *others)
    console, parameters = Console(stderr=True, emoji=False), count_parameters(config)
    size, time = short(parameters), "some seconds" if parameters < _LARGE else "up to some minutes"
    console.print(f"measuring this machine on a model of {size} parameters, for {time}", highlight=False)
    with stage_progress(console, size) as progress:
        return measured_speed(config, *others, progress=progress)


def _print_tables(made: "Plan") -> None:
    from lmworks.train.planning.plan_explanation import SECTIONS

    for title, lines in SECTIONS.items():
        if rows := tuple((line.name, line.value, line.why) for line in lines(made)):
            show_sections([Section(title, tables=(Table(("what", "value", "why"), rows),))])
    if command := _command(made):
        again = "(it plans again, for the vocabulary, the length and the texts of its recipe)"
        say(f"\nTo train such a model here: {command}\n{again}")


def _command(made: "Plan") -> str:
    """The command that trains such a model, by the targets that were turned: of operations and money, by the time that
    they buy. Nothing where nobody would wait for it, or it is not one machine's."""
    here = made.request.device == "this" and made.layout.devices == 1
    if not here or made.shape is None or made.duration is None or made.duration.hours >= _A_MONTH:
        return ""
    request, minutes = made.request, max(round(60 * made.duration.hours), 1)
    given = {"parameters": request.params, "tokens": request.tokens}
    targets = {name: str(round(value)) for name, value in given.items() if value is not None}
    spends = not targets or any(each is not None for each in (request.hours, request.flops, request.budget))
    settings = {"minutes": str(minutes) if spends else "null", **targets}  # the recipe's own minutes
    if request.model != "llama":
        settings["family"] = request.model
    return "lmworks build scratch" + "".join(f" --set pretrained.{name}={value}" for name, value in settings.items())


def _print_json(made: "Plan") -> None:
    """The numbers as they are, and the sections as they are printed."""
    import json
    from dataclasses import asdict

    from lmworks.train.planning.plan_explanation import SECTIONS

    everything = {
        "request": to_mapping(made.request),
        "allocation": asdict(made.allocation),
        "model": to_mapping(made.config),
        "layout": to_mapping(made.layout),
        "devices": made.layout.devices,
        "memory": {"parts": made.memory.parts, "total": made.memory.total, "rank": made.memory.rank},
        "communication": made.communication,
        "speed": None if made.speed is None else asdict(made.speed),
        "duration": None if made.duration is None else asdict(made.duration),
        "unmeasured": made.unmeasured,
        "sections": {title: [asdict(line) for line in lines(made)] for title, lines in SECTIONS.items()},
    }
    typer.echo(json.dumps(everything, indent=1, ensure_ascii=False))
