"""The verb `finetune`: a model and a file of examples to a better model, in one command."""

from typing import Annotated

import typer

from lmworks.cli.options import BaseArgument, RowsOption, SettingsOption, TunedOption, settings_help
from lmworks.cli.tuned_folder import print_made, ways_to_use
from lmworks.commands import finetune as commands
from lmworks.commands.finetune import LORA, METHOD, Method
from lmworks.commands.outcome import MINUTES


def finetune(
    model: BaseArgument,
    data: RowsOption,
    method: Annotated[
        Method,
        typer.Option(help="An adapter on the frozen model (`qlora`: of 4 bits), or all weights (`full`)."),
    ] = METHOD,
    minutes: Annotated[float, typer.Option(help="How long training may take on this machine.")] = MINUTES,
    out: TunedOption = None,
    overrides: SettingsOption = None,
) -> None:
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
    """
    made = commands.finetune(model, data, method, minutes, out, settings=overrides or [])
    out = made.folder
    whole = (out / "config.json").is_file()
    saved = f"lmworks.load({model!r}).save('base') makes the base's folder, {out / 'README.md'} has the rest"
    peft = "" if whole or method == "bottleneck" else f"; for PEFT, {saved}"
    print_made("finetune", made, *ways_to_use(model, out), f"  lmworks.load({str(out)!r})", f"      in Python{peft}")


def settings() -> str:
    """The settings that `--set` takes, for the help of the verb."""
    from lmworks.adapt.config import LoraConfig
    from lmworks.train.config import FinetuneConfig

    lead = (
        "What `--set` takes, with the defaults of `--method lora` (the other methods' are in docs/adapters.md, and a "
        "wrong key names them); `tokens.key=value` is a setting of `lmworks stage data.tokenize`, such as "
        "`tokens.family=chatml` for a model without a chat template. `length=4096` keeps longer rows whole:"
    )
    return settings_help(lead, FinetuneConfig, FinetuneConfig(method=LoraConfig(lora_alpha=LORA["lora_alpha"])))
