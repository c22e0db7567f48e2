"""The verb `compress`: a model to a smaller one that runs faster, with what it lost measured."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from lmworks.cli.options import SettingsOption, settings_help
from lmworks.cli.tuned_folder import print_made, ways_to_use
from lmworks.commands import compress as commands
from lmworks.commands.compress import METHODS, PRUNED, method_settings
from lmworks.commands.outcome import MINUTES


def compress(
    model: Annotated[str, typer.Argument(help="A pulled model, a Hugging Face folder, or a .gguf file of floats.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Documents like those the model will read, to calibrate and to measure on; repeatable."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; several are compared, and the best is kept.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="How long a method that trains may take: qat, distil, and prune, to recover.")
    ] = MINUTES,
    budget: Annotated[str | None, typer.Option(help="Most bytes of the file, such as 80MB: mixed precision.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: MODEL-METHOD.")] = None,
    overrides: SettingsOption = None,
) -> None:
    """Make a model smaller and faster, and measure what it lost.

    `rtn` rounds each weight to the nearest level. `gptq` rounds column by column and lets the columns to come make up
    for it; `awq` scales what sees large activations first. `smoothquant` is for 8 bits of weights and activations.
    `qat` trains the model with rounded weights, for `--minutes`, and the levels with it.
    4 bits are the default: a third of bfloat16, and faster, as a token waits for weights to be read.

    `distil` teaches a student what the model says to the documents: every other layer of it, or with `--set
    parameters=5000000` a new model. `prune` takes a quarter of each layer's heads and a third of its neurons out, or
    nothing but what is set (`--set method.layers=4`); what stays recovers by distillation (`recover.key=value` is of
    that run). `wanda`, `sparsegpt` and `magnitude` set half of the weights to 0: neither the file nor the engine gains.

    `--data` are documents: some 50 pages to calibrate on; a fifth of the documents is held out, to measure bits per
    byte on before and after, with paired intervals. `--budget 80MB` gives each matrix 4, 8 or 16 bits, by how much the
    loss suffers when it is rounded. A file of conversations among `--data`, those that the model was tuned on, is
    calibrated on too, and answered before and after. A fine-tune of a quantised base, as the pulled ones are, may be
    rounded away: how much of it is left is measured, and less than `minimum_survival` is refused.

    The folder holds `model.gguf`, which the engine and llama.cpp run; with `--set format=compressed-tensors
    --set grid.symmetric=true` a folder that transformers and vLLM load; `report.html` and `manifest.json`.

    Example: `lmworks compress ./my-model --method gptq --data handbook/ --out small`, then
    `lmworks serve --model small`
    """
    made = commands.compress(model, data or [], method or [], minutes, budget, out, settings=overrides or [])
    print_made("compress", made, *ways_to_use(model, made.folder))


class CompressCommand(TyperCommand):
    """The verb, whose help lists the settings of the method that it is given: `lmworks compress --method prune
    --help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = (arg.removeprefix("--method=") for arg in args)
        self.epilog = _settings(next((name for name in named if name in METHODS), "gptq"))
        return super().parse_args(ctx, args)


def _settings(method: str) -> str:
    """The settings that `--set` takes with a method."""
    from dataclasses import field, make_dataclass

    from lmworks.compress.config import CompareConfig
    from lmworks.config import from_mapping
    from lmworks.stage import resolve
    from lmworks.stages import STAGES

    use, table = method_settings(method)
    if method == "prune":
        table["method"] |= PRUNED
    compared: Any = ("compare", CompareConfig, field(default_factory=CompareConfig))
    bases: Any = (resolve(STAGES[use].config),)
    docs = {"__doc__": "compare  Of the comparison."}
    config: Any = make_dataclass("Settings", [compared], bases=bases, namespace=docs, frozen=True)
    lead = (
        f"What `--set` takes, with the defaults of `--method {method}`; `--method NAME --help` lists those of another. "
        f"With several methods it is of all of them; `{method}.key=value` of one, `compare.key=value` of their "
        "comparison:"
    )
    return settings_help(lead, config, from_mapping(config, table))
