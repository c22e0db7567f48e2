"""`lmworks.finetune`: a model and rows of examples to a better model."""

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmworks.commands.outcome import MINUTES, Data, Outcome, Settings, Source, data_paths, held_out_share, make_folder

if TYPE_CHECKING:
    from lmworks.recipe import Recipe

LORA = {"kind": "lora", "lora_alpha": 32}
_METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": LORA},
    "dora": {"method": {**LORA, "use_dora": True}},
    "qlora": {"method": LORA, "base_format": "int4"},
    **{kind: {"method": {"kind": kind}} for kind in ("prefix", "bottleneck", "ia3", "full")},
}
Method = Literal["lora", "dora", "qlora", "prefix", "bottleneck", "ia3", "full"]
METHOD: Method = "lora"
_LENGTH = 2048  # tokens of a row, where no length is set: longer ones are cut behind an earlier answer


def finetune(
    model: Source,
    data: Data,
    method: Method = METHOD,
    minutes: float = MINUTES,
    out: Source | None = None,
    settings: Settings = (),
) -> Outcome:
    """Fine-tune a model on a file of examples, in minutes.

    Each line of the file is a row: `{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content":
    "..."}]}`, or `{"prompt": "...", "completion": "..."}`, or has the columns of Alpaca or ShareGPT. What the assistant
    says is learned. A tenth of the rows is held out to measure the result.

    Rank, learning rate, batch, epochs and the rest follow from the method, the rows, the model and the minutes; each is
    printed with its reason, and the memory that it takes, before training begins. You can stop it: the same
    command resumes.

    The folder holds the adapter (PEFT's files; of `full` a whole model), its tokenizer, `report.html` with the curve
    and answers before and after, and `manifest.json`.

    Example: `lmworks finetune smollm2-135m-instruct --data rows.jsonl --minutes 5 --out support`, then
    `lmworks serve --model smollm2-135m-instruct --adapter support=support`

    In Python, `data` may be the rows themselves, and `settings` are such as `{"epochs": 5, "method.r": 16}`.
    ConfigError for a wrong setting, ValueError for wrong rows, FileExistsError where `out` is of something else.
    """
    files = data_paths(data)
    folder = Path(out or f"{Path(files[0]).stem}-{method}")
    recipe = finetune_recipe(os.fspath(model), files, {"minutes": minutes, **_METHODS[method]}, settings)
    return make_folder(recipe, folder)


def finetune_recipe(model: str, data: list[str], method: dict[str, Any], settings: Settings) -> "Recipe":
    """The three stages: rows to train on, rows held out, training. ConfigError for a wrong setting."""
    from lmworks.config import assign, assignments
    from lmworks.data.conversations import conversation_files, read_dialogues
    from lmworks.data.duplicate_rows import find_duplicates
    from lmworks.recipe import Recipe, check_stage

    sides = find_duplicates(row for _, row in read_dialogues(conversation_files(data))).sides
    if not sides:
        raise ValueError(f"there is no row in {', '.join(data)}: name files with conversations by --data")
    share = held_out_share(sides)
    tokens: dict[str, Any] = {"tokenizer": model, "conversations": data, "held_out": share}
    training: dict[str, Any] = {"base": model, **copy.deepcopy(method)}
    for path, value in assignments(settings):
        of_tokens = len(path) > 1 and path[0] == "tokens"  # a setting of the stage data.tokenize
        assign(tokens if of_tokens else training, path[of_tokens:], value)
    tokens.setdefault("length", training.get("length") or _LENGTH)
    tables = {"tokens": tokens, "held_out": {**tokens, "part": "held_out"}} if share else {"tokens": tokens}
    stages = [check_stage(name, "data.tokenize", table, inputs=[], roles={}) for name, table in tables.items()]
    stages.append(check_stage("tuned", "train.finetune", training, inputs=list(tables), roles={}))
    description = f"{model}, fine-tuned on {', '.join(data)}"
    return Recipe(name="finetune", description=description, stages=tuple(stages), base=Path.cwd())
