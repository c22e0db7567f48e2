"""The verbs `judge calibrate` and `judge score`: a language model as a measured judge."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.options import new_console

app = typer.Typer(no_args_is_help=True, help="Language models as judges: measure one against people, and use it.")

Rows = Annotated[Path, typer.Argument(help="JSON lines, a row each.", exists=True, dir_okay=False)]
Rubric = Annotated[
    str, typer.Option(help="truthfulness, faithfulness, helpfulness (pairwise), quality (1 to 5), or a TOML file.")
]
Model = Annotated[str, typer.Option(help="A pulled model, a Hugging Face folder or a .gguf file.")]


@app.command()
def calibrate(
    rows: Rows,
    rubric: Rubric,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to make; must not exist.")],
    own: Annotated[str, typer.Option(help="Name by which the rows call this model, for self-preference.")] = "",
) -> None:
    """Measure a judge on rows that people have labelled: agreement, and what besides quality moves it.

    Rows have `prompt`, `response` and `label` (a verdict, true, false) or `rating`; for a pairwise rubric `prompt`,
    `chosen`, `rejected`. Without the folder that this makes, no gate takes the judge's word.

    Example: `lmworks judge calibrate rows.jsonl --rubric truthfulness --model smollm2-135m-instruct --out my-judge`
    """
    from lmworks.build import run_alone, stage_sections
    from lmworks.report import print_sections

    settings = {"rows": str(rows.resolve()), "rubric": rubric, "own": own}
    named = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    print_sections(new_console(), stage_sections(run_alone("evaluate.judge", out, [], [f"judge={model}"], named)))


@app.command()
def score(rows: Rows, rubric: Rubric, model: Model) -> None:
    """Judge rows, and print a line of JSON for each: value, verdict, confidence, probabilities.

    Example: `lmworks judge score rows.jsonl --rubric truthfulness --model smollm2-135m-instruct > verdicts.jsonl`
    """
    from lmworks.config import to_mapping
    from lmworks.evaluate import judge
    from lmworks.generate.engine import Engine
    from lmworks.model.checkpoint import load

    by = judge.rubric(rubric)
    given = [json.loads(line) for line in rows.read_text("utf-8").split("\n") if line.strip()]
    by.check(given)
    for found in judge.Judge(Engine(load(model)), by).judgements(given):
        typer.echo(json.dumps(to_mapping(found), ensure_ascii=False))
