"""The verb `finetune`: a model and a file of examples to a better model, in one command."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lmworks.cli.options import settings_help
from lmworks.cli.tuned_folder import held_out_share, make_folder, print_next, ways_to_use

if TYPE_CHECKING:
    from lmworks.recipe import Recipe

_LORA = {"kind": "lora", "lora_alpha": 32}
_METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": _LORA},
    "dora": {"method": {**_LORA, "use_dora": True}},
    "qlora": {"method": _LORA, "base_format": "int4"},
    **{kind: {"method": {"kind": kind}} for kind in ("prefix", "bottleneck", "ia3", "full")},
}
Method = Literal["lora", "dora", "qlora", "prefix", "bottleneck", "ia3", "full"]
_LENGTH = 2048  # tokens of a row, where no length is set: longer ones are cut behind an earlier answer
_TOKENS = "tokens."  # begins a setting of the stage data.tokenize


def finetune(
    model: Annotated[str, typer.Argument(help="A pulled model, a Hugging Face folder, a .gguf file, or a tuned one.")],
    data: Annotated[
        list[str],
        typer.Option(help="Rows: .jsonl, .json, .parquet, .csv or .tsv files, folders or globs; repeatable."),
    ],
    method: Annotated[
        Method,
        typer.Option(help="An adapter beside the frozen model, `qlora` of 4 bits; or all weights, `full`."),
    ] = "lora",
    minutes: Annotated[float, typer.Option(help="How long training may take on this machine.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: DATA-METHOD.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="key=value", help="A setting, listed below; repeatable.")
    ] = None,
) -> None:
    """Turn a model and a file of examples into a better model, in minutes.

    Each line of the file is a row: `{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content":
    "..."}]}`, or `{"prompt": "...", "completion": "..."}`, or has the columns of Alpaca or ShareGPT. What the assistant
    says is learned. A tenth of the rows is kept from training, to measure on.

    Rank, learning rate, batch, epochs and the rest follow from the method, the rows, the model and the minutes; each is
    printed with its reason, and the memory that it takes, before training begins. Safe to stop: the same command goes
    on from there.

    The folder holds the adapter (PEFT's files; of `full` a whole model), its tokenizer, `report.html` with the curve
    and answers before and after, and `manifest.json`.

    Example: `lmworks finetune smollm2-135m-instruct --data rows.jsonl --minutes 5 --out support`, then
    `lmworks serve --model smollm2-135m-instruct --adapter support=support`
    """
    out = out or Path(f"{Path(data[0]).stem}-{method}")
    make_folder("finetune", _recipe(model, data, {"minutes": minutes, **_METHODS[method]}, overrides or []), out)
    whole = (out / "config.json").is_file()
    saved = f"lmworks.load({model!r}).save('base') makes the base's folder, {out / 'README.md'} has the rest"
    peft = "" if whole or method == "bottleneck" else f"; for PEFT, {saved}"
    print_next(*ways_to_use(model, out), f"  lmworks.load({str(out)!r})", f"      in Python{peft}")


def settings() -> str:
    """The settings that `--set` takes, for the help of the verb."""
    from lmworks.adapt.config import LoraConfig
    from lmworks.train.config import FinetuneConfig

    lead = (
        "What `--set` takes, with the defaults of `--method lora` (the other methods' are in docs/adapters.md, and a "
        "wrong key names them); `tokens.key=value` is a setting of `lmworks stage data.tokenize`, such as "
        "`tokens.family=chatml` for a model without a chat template. `length=4096` keeps longer rows whole:"
    )
    return settings_help(lead, FinetuneConfig, FinetuneConfig(method=LoraConfig(lora_alpha=_LORA["lora_alpha"])))


def _recipe(model: str, data: list[str], given: dict[str, Any], overrides: list[str]) -> "Recipe":
    """The three stages: rows to train on, rows held out, training. ConfigError for a wrong setting."""
    from lmworks.config import assign, parse_assignment
    from lmworks.recipe import Recipe, check_stage

    share = _share(data)
    tokens: dict[str, Any] = {"tokenizer": model, "conversations": data, "held_out": share}
    training: dict[str, Any] = {"base": model, **copy.deepcopy(given)}
    for override in overrides:
        of_tokens = override.startswith(_TOKENS)
        assign(tokens if of_tokens else training, *parse_assignment(override.removeprefix(_TOKENS)))
    tokens.setdefault("length", training.get("length") or _LENGTH)
    parts = {"tokens": tokens, "held_out": {**tokens, "part": "held_out"}} if share else {"tokens": tokens}
    stages = [check_stage(name, "data.tokenize", table, inputs=[], roles={}) for name, table in parts.items()]
    stages.append(check_stage("tuned", "train.finetune", training, inputs=list(parts), roles={}))
    description = f"{model}, fine-tuned on {', '.join(data)}"
    return Recipe("finetune", description, tuple(stages), {}, Path.cwd())


def _share(data: list[str]) -> float:
    """The share of rows to hold out, by their questions."""
    from lmworks.data.conversations import conversation_files, read_dialogues
    from lmworks.data.duplicate_rows import find_duplicates

    sides = find_duplicates(row for _, row in read_dialogues(conversation_files(data))).sides
    if not sides:
        raise ValueError(f"there is no row in {', '.join(data)}: name files with conversations by --data")
    return held_out_share(sides)
