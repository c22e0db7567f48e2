"""The verb `finetune`: a model and a file of examples to a better model, in one command."""

import copy
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lmworks.cli.options import WORKSPACES, new_console, settings_help

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
_HELD_OUT, _MOST_HELD_OUT = 0.1, 200  # share, and rows
_LENGTH = 2048  # tokens of a row, where no length is set: longer ones are cut behind an earlier answer
_TOKENS = "tokens."  # begins a setting of the stage data.tokenize


def finetune(
    model: Annotated[str, typer.Argument(help="A pulled model, a Hugging Face folder, a .gguf file, or a tuned one.")],
    data: Annotated[
        list[str],
        typer.Option(help="Rows of examples: .jsonl, .json or .parquet files, folders or globs; repeatable."),
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
    "..."}]}`, or `{"prompt": "...", "completion": "..."}`. What the assistant says is learned. A tenth of the rows is
    kept from training, to measure on.

    Rank, learning rate, batch, epochs and the rest follow from the method, the rows, the model and the minutes; each is
    printed with its reason, and the memory that it takes, before training begins. Safe to stop: the same command goes
    on from there.

    The folder holds the adapter (PEFT's files; of `full` a whole model), its tokenizer, `report.html` with the curve
    and answers before and after, and `manifest.json`.

    Example: `lmworks finetune smollm2-135m-instruct --data rows.jsonl --minutes 5 --out support`, then
    `lmworks serve --model smollm2-135m-instruct --adapter support=support`
    """
    from lmworks.artefact import REPORT, check_new, publish, write_text
    from lmworks.build import build, sections
    from lmworks.report import print_sections, to_html

    out = out or Path(f"{Path(data[0]).stem}-{method}")
    workspace, console = WORKSPACES / "finetune" / out.name, new_console()
    recipe = _recipe(model, data, {"minutes": minutes, **_METHODS[method]}, overrides or [])
    asked, digest = workspace / "asked", _digest(recipe)
    if not asked.is_file() or asked.read_text("utf-8") != digest:
        check_new(out)  # what is there is of another model, of other rows or settings
        workspace.mkdir(parents=True, exist_ok=True)
        asked.write_text(digest, "utf-8")
    *tokenised, tuned = build(recipe, workspace, console)
    shown = sections([tuned, *tokenised])
    if not out.exists():
        private = out.with_name(f".{out.name}.new")
        shutil.rmtree(private, ignore_errors=True)  # of a kill
        shutil.copytree(tuned.folder, private)
        write_text(private / REPORT, to_html(f"{out.name}: report", f"{recipe.description}.", shown))
        publish(private, out)
    print_sections(console, shown)
    whole = (out / "config.json").is_file()
    served = ["--model", str(out)] if whole else ["--model", model, "--adapter", f"{out.name}={out}"]
    beside = "" if whole else ", and with the base"
    peft = "" if whole or method == "bottleneck" else f"; PEFT too: PeftModel.from_pretrained(base, {str(out)!r})"
    for line in (
        f"\nReport: {out / REPORT}",
        "\nWhat next:",
        f"  lmworks serve {shlex.join(served)}\n      chat with it{beside}, on a page and by an API",
        f"  lmworks eval run {shlex.quote(str(out))} --suite NAME --data FOLDER",
        "      score it; `lmworks eval list` names suites, and the files that FOLDER is to hold",
        f"  lmworks.load({str(out)!r})\n      in Python{peft}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
    """The share of rows to hold out: a tenth, at most 200 of them; at least two, for an interval; 0 of a single row."""
    from lmworks.data.conversations import conversation_files, read_dialogues
    from lmworks.data.tokenising import question_hash

    hashes = sorted({question_hash(row) for _, row in read_dialogues(conversation_files(data))})
    if len(hashes) < 2:
        return 0.0
    last = int(hashes[1 if len(hashes) > 3 else 0][:13], 16) / 16**13
    return max(min(_HELD_OUT, _MOST_HELD_OUT / len(hashes)), round(last + 1e-6, 6))


def _digest(recipe: "Recipe") -> str:
    """SHA-256 of all that is asked for: settings, rows, base."""
    from lmworks.artefact import hash_json
    from lmworks.stages import STAGES, resolve

    sources = [(spec, STAGES[spec.use].sources) for spec in recipe.stages]
    return hash_json([[s.name, s.config, resolve(make)(s.config, recipe.base) if make else ""] for s, make in sources])
