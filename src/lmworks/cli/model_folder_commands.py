"""The verbs `finetune`, `align` and `compress`: the Python calls of these names, which make a folder with a model."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from lmworks.adapt.config import LoraConfig
from lmworks.align.config import OfflineConfig
from lmworks.cli.options import BaseArgument, RowsOption, SettingsOption
from lmworks.cli.output import say, show_sections
from lmworks.cli.verb_settings import VerbCommand, settings_help, verb_of, with_settings
from lmworks.commands import align, compress, finetune
from lmworks.commands.outcome import Outcome
from lmworks.compress.config import CompareConfig
from lmworks.config import from_mapping
from lmworks.stage import resolve
from lmworks.stages import STAGES
from lmworks.train.config import FinetuneConfig

OutOption = Annotated[Path | None, typer.Option(help="Folder to make. Default: DATA-METHOD.")]


def _show(made: Outcome, model: str, method: Any = "", **_: Any) -> None:
    """Print the report of what a command made, and commands that use it."""
    show_sections(made.sections)
    out = made.folder
    size = sum(path.stat().st_size for path in made.workspace.rglob("*") if path.is_file()) if made.workspace else 0
    say(f"\nReport: {made.report}")
    say(f"{made.workspace} ({size / 1e6:,.1f} MB) lets the same command show this again, and may be removed")
    say("\nWhat next:")
    whole = (out / "config.json").is_file() or any(out.glob("*.gguf"))
    served = ["--model", str(out)] if whole else ["--model", model, "--adapter", f"{out.name}={out}"]
    ways = {
        f"lmworks serve {shlex.join(served)}": f"chat with it{'' if whole else ', and with the base'}, on a page and "
        "by an API",
        f"lmworks eval run {shlex.quote(str(out))} --suite NAME --data FOLDER": "score it; `lmworks eval list` names "
        "suites, and the files that FOLDER is to hold",
    }
    if method == "reward":
        ways = {
            f"lmworks eval run MODEL --suite TASK.toml --data FOLDER --set reward={shlex.quote(str(out))}": "score "
            'answers by it, in a task with metrics = ["reward-model"]',
            f"RewardModel(lmworks.load({str(out)!r})).score([(prompt, completion)])": "in Python, of lmworks.generate",
        }
    for command, purpose in (ways | {f"lmworks.load({str(out)!r})": "in Python"}).items():
        say(f"  {command}\n      {purpose}")


FINETUNE = with_settings(
    verb_of(
        finetune.finetune,
        _show,
        model=BaseArgument,
        data=RowsOption,
        method=Annotated[
            finetune.Method,
            typer.Option(help="An adapter on the frozen model (`qlora`: of 4 bits), or all weights (`full`)."),
        ],
        minutes=Annotated[float, typer.Option(help="How long training may take on this machine.")],
        out=OutOption,
        settings=SettingsOption,
    ),
    FinetuneConfig,
)
FINETUNE_SETTINGS = settings_help(
    "What `--set` takes, or `--NAME VALUE` for those without a dot, with the defaults of `--method lora` (the other "
    "methods' are in docs/adapters.md, and a wrong key names them); `tokens.key=value` is a setting of `lmworks stage "
    "data.tokenize`, such as `tokens.family=chatml` for a model without a chat template. `length=4096` keeps longer "
    "rows whole:",
    FinetuneConfig,
    FinetuneConfig(method=LoraConfig(lora_alpha=finetune.LORA["lora_alpha"])),
)
ALIGN = with_settings(
    verb_of(
        align.align,
        _show,
        model=BaseArgument,
        data=RowsOption,
        method=Annotated[align.Method, typer.Option(help="How to learn; the rows that each takes are above.")],
        minutes=Annotated[
            float, typer.Option(help="How long the run may take here, without what is measured before and after it.")
        ],
        out=OutOption,
        settings=SettingsOption,
    ),
    OfflineConfig,
)
ALIGN_SETTINGS = settings_help(
    "What `--set` takes, or `--NAME VALUE` for those without a dot, with the defaults of `--method dpo` (the other "
    "methods' are listed by `lmworks stage align.offline --help` and `lmworks stage align.online --help`), such as "
    "`family=chatml` for a model without a chat template:",
    OfflineConfig,
    OfflineConfig(rows=("DATA",)),
)
COMPRESS = verb_of(
    compress.compress,
    _show,
    model=Annotated[str, typer.Argument(help="A pulled model, a Hugging Face folder, or a .gguf file of floats.")],
    data=Annotated[
        list[str] | None,
        typer.Option(help="Documents like those the model will read, to calibrate and to measure on; repeatable."),
    ],
    method=Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(compress.METHODS)}; several are compared, and the best is kept."),
    ],
    minutes=Annotated[
        float, typer.Option(help="How long a method that trains may take: qat, distil, and prune, to recover.")
    ],
    budget=Annotated[str | None, typer.Option(help="Most bytes of the file, such as 80MB: mixed precision.")],
    out=Annotated[Path | None, typer.Option(help="Folder to make. Default: MODEL-METHOD.")],
    settings=SettingsOption,
)


class CompressCommand(VerbCommand):
    """The verb, whose help lists the settings of the method that it is given: `lmworks compress --method prune
    --help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = (arg.removeprefix("--method=") for arg in args)
        method = next((name for name in named if name in compress.METHODS), "gptq")
        use, table = compress.method_settings(method)
        if method == "prune":
            table["method"] |= compress.PRUNED
        lead = (
            f"What `--set` takes, with the defaults of `--method {method}`; `--method NAME --help-all` lists those of "
            f"another. With several methods it is of all of them, and `{method}.key=value` of one:"
        )
        config: Any = resolve(STAGES[use].config)
        compared = settings_help("Of their comparison, `compare.key=value`:", CompareConfig)
        self.epilog = f"{settings_help(lead, config, from_mapping(config, table))}\n\n{compared}"
        return super().parse_args(ctx, args)
