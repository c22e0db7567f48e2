"""`lmworks.compress`: a model to a smaller one that runs faster, with what it lost measured."""

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmworks.commands.outcome import MINUTES, Data, Outcome, Settings, Source, data_paths, make_folder

if TYPE_CHECKING:
    from lmworks.recipe import Recipe

# Method → its stage, and the settings of it that make the method.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "rtn": ("compress.quantise", {"method": {"kind": "rtn"}}),
    "gptq": ("compress.quantise", {"method": {"kind": "gptq"}}),
    "awq": ("compress.quantise", {"method": {"kind": "awq"}}),
    "qat": ("compress.lsq", {}),
    "smoothquant": ("compress.quantise", {"method": {"kind": "smoothquant"}, "grid": {"bits": 8}}),
    "distil": ("compress.distil", {}),
    "prune": ("compress.prune", {"method": {"kind": "structured"}}),
    **{kind: ("compress.prune", {"method": {"kind": kind}}) for kind in ("magnitude", "wanda", "sparsegpt")},
}
PRUNED = {"kv_groups": 0.25, "neurons": 0.35}  # `method.` of prune, where none of `_PARTS` is set
_PARTS = ("heads", "kv_groups", "neurons", "layers")
# Settings that make a smaller file, of methods that take no budget.
_SMALLER = {"prune": "method.neurons or method.layers", "distil": "layers or parameters", "qat": "grid.bits"}
# Stages that train, on token shards, and where their minutes are set.
_TRAINED = {"compress.lsq": ("tune", "minutes"), "compress.distil": ("minutes",)}
_RECOVER = "recover"  # begins a setting of the run in which a pruned model learns from the whole one
_UNRECOVERED = "unrecovered"  # the pruned model that this run begins with
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_HELD_OUT = 0.2  # of the documents, as in the stages' defaults


def compress(
    model: Source,
    data: Data = (),
    method: str | Sequence[str] = (),
    minutes: float = MINUTES,
    budget: str | None = None,
    out: Source | None = None,
    settings: Settings = (),
) -> Outcome:
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

    In Python, `data` may be rows such as `{"text": "..."}`, or of conversations that the model was tuned on, `method`
    one or several, and the rest is as `lmworks.finetune` takes it. ConfigError for a wrong setting, ValueError for a
    model that would lose too much of its fine-tuning, FileExistsError where `out` is of something else.
    """
    source, files = os.fspath(model), data_paths(data)
    methods = [method] if isinstance(method, str) else list(method) or ["gptq" if files else "rtn"]
    folder = Path(out or f"{Path(source).name.removesuffix('.gguf')}-{'-'.join(methods)}")
    return make_folder(_recipe(source, files, methods, minutes, budget, settings), folder)


def _recipe(
    model: str, data: list[str], methods: list[str], minutes: float, budget: str | None, settings: Settings
) -> "Recipe":
    """The stages: documents, their tokens for methods that train, each method, the comparison. ConfigError for a wrong
    setting."""
    from lmworks.config import ConfigError, assign, assignments
    from lmworks.recipe import Recipe, check_stage

    data, rows = _divided(data)
    limit: dict[str, Any] = {} if budget is None else {"budget": _bytes(budget)}
    tables: dict[str, tuple[str, dict[str, Any]]] = {name: method_settings(name) for name in methods}
    trained = [name for name, (use, _) in tables.items() if use in _TRAINED]
    assigned = assignments(settings)
    recovery: dict[str, Any] = {"minutes": minutes} if "prune" in tables and minutes else {}
    if not data and (trained or recovery or len(methods) > 1):
        raise ConfigError(("data",), "methods that train, and several to compare, need documents: name some")
    others = [name for name, (use, _) in tables.items() if use != "compress.quantise"]
    if others and budget is not None:
        ways = [f"{name} by {_SMALLER[name]}" for name in others if name in _SMALLER]
        small = f"set how small it is ({'; '.join(ways)}), or take gptq" if ways else "take gptq"
        raise ConfigError(("budget",), f"{', '.join(others)} takes no budget: {small}")
    for use, table in tables.values():
        table |= limit | ({} if use == "compress.distil" else {"base": model})
        table |= {"rows": rows} if rows and use == "compress.quantise" else {}
        if use in _TRAINED:
            assign(table, _TRAINED[use], minutes)
    compared: dict[str, Any] = {"base": model} | limit
    if "prune" in tables and not any(path[-2:] in [("method", part) for part in _PARTS] for path, _ in assigned):
        tables["prune"][1]["method"] |= PRUNED
    for (first, *rest), value in assigned:
        named = {"compare": compared, **{name: table for name, (_, table) in tables.items()}}
        named |= {_RECOVER: recovery} if "prune" in tables else {}
        for table in [named[first]] if first in named else [table for _, table in tables.values()]:
            assign(table, rest if first in named else [first, *rest], value)

    def spec(name: str, use: str, table: dict[str, Any], inputs: list[str], key: str) -> None:
        """Add a stage, whose settings begin with `key`."""
        stages.append(check_stage(name, use, table, inputs=inputs, roles={"teacher": model}, path=(key,)))

    stages: list[Any] = []
    if data:
        spec("texts", "corpus.read", {"sources": data}, [], "data")
    for part in ("training", "held_out") if trained or recovery else ():
        spec(part, "data.tokenize", {"tokenizer": model, "held_out": _HELD_OUT, "part": part}, ["texts"], part)
    for name, (use, table) in tables.items():
        whole = _UNRECOVERED if name == "prune" and recovery else name
        spec(whole, use, table, ["training", "held_out"] if name in trained else ["texts"] if data else [], name)
        if whole != name:
            spec(name, "compress.distil", recovery, ["training", "held_out", whole], _RECOVER)
        elif use == "compress.distil":
            from lmworks.compress.stage_distil import check_student

            check_student(stages[-1].config, model, Path.cwd())
    if data:
        made = [stage.name for stage in stages if stage.use.startswith("compress.")]
        spec("compared", "compress.compare", compared, ["texts", *made], "compare")
    models = {"teacher": model} if any(stage.use == "compress.distil" for stage in stages) else {}
    description = f"{model}, compressed by {', '.join(methods)}"
    return Recipe(name="compress", description=description, stages=tuple(stages), models=models, base=Path.cwd())


def method_settings(name: str) -> tuple[str, dict[str, Any]]:
    """The stage of a method, and the settings that make it; ConfigError for none."""
    from lmworks.config import ConfigError, unknown

    if name not in METHODS:
        raise ConfigError(("method",), unknown("method", name, list(METHODS)))
    return copy.deepcopy(METHODS[name])


def _divided(sources: list[str]) -> tuple[list[str], list[str]]:
    """Documents, and files of conversations; ConfigError for a file of other rows, which have no text of their own."""
    from lmworks.config import ConfigError
    from lmworks.data.conversations import columns_of, rows_of
    from lmworks.data.row_formats import trl_columns

    rows = list[str]()
    for path in map(Path, sources):
        if path.suffix in (".jsonl", ".parquet") and path.is_file():
            where, row = next(rows_of(path), ("", {"text": ""}))
            columns = trl_columns(columns_of(row, where), where)
            if "messages" in columns or {"prompt", "completion"} <= columns.keys():
                rows.append(str(path))
            elif "text" not in columns:
                raise ConfigError(
                    ("data",), f"{path} has rows of {', '.join(columns)}: name documents, or rows with a column text"
                )
    return [source for source in sources if source not in rows], rows


def _bytes(text: str) -> int:
    """A number of bytes such as 80MB, 1.5GB or 80MiB; ConfigError for anything else."""
    from lmworks.config import ConfigError

    amount = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    if amount is None or amount[2] not in _UNITS:
        raise ConfigError(("budget",), f"a budget is a number of bytes such as 80MB or 1.5GB, got {text!r}")
    if not amount[2] and float(amount[1]) < 1000:
        raise ConfigError(("budget",), f"{text} has no unit, and no file is so small: write it, such as {text}MB")
    return int(float(amount[1]) * _UNITS[amount[2]])
