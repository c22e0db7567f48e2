"""The verbs `judge calibrate` and `judge score`: a language model as a measured judge."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lmworks import evaluate
from lmworks.cli.options import model_or_endpoint
from lmworks.cli.output import show_sections
from lmworks.config import to_mapping

app = typer.Typer(no_args_is_help=True, help="Language models as judges: measure one against people, and use it.")

Rows = Annotated[Path, typer.Argument(help="JSON lines, a row each.", exists=True, dir_okay=False)]
_RUBRICS = sorted(path.stem for path in Path(evaluate.__path__[0], "rubrics").glob("*.toml"))
Rubric = Annotated[str, typer.Option(help=f"{', '.join(_RUBRICS)}, or a TOML file.")]
Model = Annotated[str, typer.Option(help="A pulled model, a folder, a .gguf file, or URL#NAME of an endpoint.")]


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

    settings = {"rows": str(rows.resolve()), "rubric": rubric, "own": own}
    models, endpoint = model_or_endpoint("judge", model)
    named = [*(f"{key}={json.dumps(value)}" for key, value in settings.items()), *endpoint]
    show_sections(stage_sections(run_alone("evaluate.judge", out, [], models, named)))


@app.command()
def score(
    rows: Rows,
    rubric: Rubric,
    model: Model,
    calibration: Annotated[Path | None, typer.Option(help="Folder that `judge calibrate` made.")] = None,
) -> None:
    """Judge rows, and print a line of JSON for each: its id or number, value, verdict, confidence, probabilities.

    With --calibration a judge that was not found to be better than guessing is refused; without, it is warned of.

    Example: `lmworks judge score rows.jsonl --rubric truthfulness --model smollm2-135m-instruct > verdicts.jsonl`
    """
    from lmworks.evaluate import judge
    from lmworks.generate.remote_engine import open_engine

    by = judge.rubric(rubric)
    given = [json.loads(line) for line in rows.read_text("utf-8").split("\n") if line.strip()]
    by.check(given)
    if calibration is None:
        caution = "nobody measured whether this judge is right: run `lmworks judge calibrate`, and give --calibration"
        typer.secho(caution, fg="yellow", err=True)
    judged = judge.Judge(open_engine(model), by, calibration=calibration).judgements(given)
    for number, (row, found) in enumerate(zip(given, judged, strict=True), 1):
        line = {"id": row.get("id", number), **to_mapping(found)}
        if isinstance(found, judge.Judgement):
            line["probabilities"] = dict(zip(by.verdicts, found.probabilities, strict=True))
        shown = {name: value for name, value in line.items() if by.pairwise or name not in ("consistent", "preference")}
        typer.echo(json.dumps(shown, ensure_ascii=False))
