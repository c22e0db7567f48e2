"""The verb `plan`: which model, on how many tokens, in how much memory, for how long, before anything is trained."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.cli.options import new_console
from lmworks.cli.output import say
from lmworks.config import assigned

if TYPE_CHECKING:
    from lmworks.model.config import ModelConfig
    from lmworks.train.planning.plan import Plan

_A_MONTH = 720  # hours; what takes longer, nobody begins on one machine
_LARGE = 1e9  # parameters of a model that is not measured in seconds: its blocks take long to make and to run


def plan(
    flops: Annotated[str | None, typer.Option(help="Operations to spend, such as 1e21.")] = None,
    hours: Annotated[
        float | None, typer.Option(help="Hours on all devices to spend, such as 8, or 0.5 for 30 minutes.")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Money to spend, at --price.")] = None,
    params: Annotated[str | None, typer.Option(help="Parameters, such as 7e9, 7B or 300M.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on, such as 20B or 1.4T.")] = None,
    model: Annotated[
        str, typer.Option(help="A family: llama, qwen3, gpt2, gpt_neox; or a size of `lmworks model list`.")
    ] = "llama",
    law: Annotated[
        str, typer.Option(help="The scaling law that decides: the plan lists all by name; or the folder of a sweep.")
    ] = "besiroglu",
    vocabulary: Annotated[int, typer.Option(help="Tokens of the vocabulary, for a family.")] = 32_000,
    device: Annotated[
        str,
        typer.Option(help="`this` machine, which is measured, or v100-32gb, a100-40gb, a100-80gb, h100-80gb, h200."),
    ] = "this",
    utilisation: Annotated[float, typer.Option(help="Share of a named device's peak that is reached.")] = 0.4,
    price: Annotated[float | None, typer.Option(help="Of one device for an hour.")] = None,
    numbers: Annotated[str, typer.Option(help="mixed, float32 or bfloat16.")] = "mixed",
    optimizer: Annotated[str, typer.Option(help="adamw, lion, momentum or sgd.")] = "adamw",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the layout: data=8, zero=3, tensor=4, ...; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Plan a training run: size, tokens, memory, time and cost.

    Give **one** of `--flops`, `--hours`, `--budget` (with `--price`), `--params` and `--tokens`, and the plan finds the
    others: the model and the tokens with which the operations reach the lowest loss (Hoffmann et al. 2022). Give
    **two**, such as parameters and tokens, and it says what they cost and how far from the best they are.

    Then it chooses a shape, and says what one device holds, part by part, what it sends, how long the run takes, and
    where to begin with the learning rate. Each number comes with its reason.

    **Layout.** `--set` takes `data`, `zero` (0 to 3), `tensor`, `sequence_parallel`, `pipeline`, `chunks`, `schedule`
    (1f1b, gpipe), `context`, `expert`; `sequences` and `micro_batches` of a replica, `length`; `recompute` (nothing,
    selective, blocks), `logits` (projected, whole).

    **Time.** This machine is measured for some seconds for each shape, or up to some minutes where it has billions
    of parameters, and remembered; a named `--device` is reckoned at a `--utilisation` of its peak.

    Examples: `lmworks plan --hours 8` · `lmworks plan --params 7B --device a100-80gb --set data=64 --set zero=3` ·
    `lmworks plan --budget 1000 --price 2.5 --device h100-80gb --set data=8 --set zero=2` ·
    `lmworks plan --model llama2-7b --tokens 2T --device a100-80gb --utilisation 0.39 --json`
    """
    from lmworks.config import from_mapping
    from lmworks.train.planning.plan import PlanConfig, make_plan

    amounts = {"flops": flops, "params": params, "tokens": tokens}
    request = from_mapping(
        PlanConfig,
        dict.fromkeys(amounts)
        | assigned([f"{name}={text}" for name, text in amounts.items() if text is not None])
        | {"hours": hours, "budget": budget, "price": price, "utilisation": utilisation}
        | {"model": model, "law": law, "vocabulary": vocabulary, "device": device}
        | {"numbers": numbers, "optimizer": optimizer, "layout": assigned(settings)},
    )
    made = make_plan(request, _measure)
    if as_json:
        _print_json(made)
    else:
        _print_tables(made)


def _measure(config: "ModelConfig", *others: Any) -> Any:
    """Shows that it works, as it takes some seconds for each model that is not known yet; torch is loaded for it."""
    from rich.console import Console

    from lmworks.model.model_costs import count_parameters
    from lmworks.progress import stage_progress
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
    from lmworks.report import Section, Table, print_sections
    from lmworks.train.planning.plan_explanation import SECTIONS

    for title, lines in SECTIONS.items():
        if rows := tuple((line.name, line.value, line.why) for line in lines(made)):
            print_sections(new_console(), [Section(title, tables=(Table(("what", "value", "why"), rows),))])
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

    from lmworks.config import to_mapping
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
