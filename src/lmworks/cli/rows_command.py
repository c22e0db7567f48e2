"""The verbs `rows lint` and `prefer`: the rows that alignment learns from."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.artefact import check_new
from lmworks.cli.judge_command import Rubric
from lmworks.cli.output import show_sections
from lmworks.progress import stage_progress

app = typer.Typer(no_args_is_help=True, help="Rows to learn from: preferences, labels, ratings.")


@app.callback()
def _verbs() -> None:
    """Rows to learn from: preferences, labels, ratings. `lmworks log rows` and `lmworks prefer` make some."""


@app.command()
def lint(
    path: Annotated[
        Path, typer.Argument(help="Rows: .jsonl, .json, .parquet, .csv or .tsv.", exists=True, dir_okay=False)
    ],
    held_out: Annotated[
        list[Path] | None,
        typer.Option(help="Rows or items whose prompts must not be among them.", exists=True, dir_okay=False),
    ] = None,
    suite: Annotated[list[str] | None, typer.Option(help="A suite or task of `lmworks eval`, likewise.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the suite's files.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
) -> None:
    """Find what training would refuse (exit status 1), and what it would learn besides quality: length, noise, leaks.

    Rows: prompt with chosen and rejected, with completion and label (KTO), or with completion and rating.

    Example: `lmworks rows lint pairs.jsonl --held-out test.jsonl --suite gsm8k --data data --out lint.html`
    """
    from lmworks.align import row_lint
    from lmworks.evaluate.set_lint import findings_section

    if out is not None:
        check_new(out)
    items = [item for one in held_out or [] for item in row_lint.held_out_items(one)]
    items += row_lint.suite_items(suite, data) if suite else []
    found = row_lint.lint_rows(path, items)
    sections = [row_lint.card(found), findings_section(found.findings, row_lint.ADVICE)]
    show_sections(sections, out, f"Lint of {path.name}", "What training refuses, and what it would learn.")
    if found.refused:
        typer.secho("training refuses this file", fg="red", err=True)
        raise typer.Exit(1)


def prefer(
    rows: Annotated[Path, typer.Argument(help="Rows with a prompt and completions, or prompts alone with --model.")],
    out: Annotated[Path, typer.Option(help="The .jsonl file of preferences to make; next to it, the undecided pairs.")],
    judge: Annotated[str, typer.Option(help="A pulled model, a Hugging Face folder or a .gguf file.")],
    calibration: Annotated[Path | None, typer.Option(help="Folder that `lmworks judge calibrate` made.")] = None,
    rubric: Rubric = "helpfulness",
    model: Annotated[str, typer.Option(help="Who answers prompts that have fewer than two completions.")] = "",
    samples: Annotated[int, typer.Option(min=2, help="Of each such prompt.")] = 4,
    temperature: Annotated[float, typer.Option(help="Of the samples.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of a sample; what it cuts off is left out.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
) -> None:
    """Compare answers by a calibrated judge, in both orders, and write preference pairs.

    Calibrate the judge first, on labelled rows: `lmworks judge calibrate ROWS.jsonl --model MODEL --out FOLDER`. One
    that was not measured to be better than a coin is refused. Ties, and pairs that the order decides, go to
    OUT.undecided.jsonl.

    Example: `lmworks prefer answers.jsonl --judge smollm2-135m-instruct --calibration my-judge --out pairs.jsonl`
    """
    from collections import Counter

    from lmworks.adapt.adapter import load
    from lmworks.align import judged_preferences as judged
    from lmworks.cli.output import new_console
    from lmworks.data.training_rows import write_preference_rows
    from lmworks.evaluate.judge import JUDGE, Judge, calibrated
    from lmworks.evaluate.judge import rubric as find_rubric
    from lmworks.evaluate.release.votes import read_candidates
    from lmworks.generate.engine import Engine
    from lmworks.generate.protocol import SamplingParameters

    apart = out.with_suffix(".undecided.jsonl")
    check_new(out)
    check_new(apart)
    found, by, left_out = read_candidates(rows, 0 if model else 2), find_rubric(rubric), Counter[str]()
    if calibration is None or not (calibration / JUDGE).is_file():
        calibrated(calibration, by, "")  # refused before weights are loaded
    with stage_progress(new_console(), "judging") as progress:
        if model:
            sampling = SamplingParameters(max_tokens, temperature, seed=seed)
            found = judged.sampled_candidates(Engine(load(model)), found, samples, sampling, left_out)
        asked = Judge(Engine(load(judge)), by, calibration=calibration, progress=progress)
        decided, undecided = judged.judged_preferences(asked, found, Path(judge).name)
    left_out.update(one.reason for one in undecided)
    for reason, count in left_out.most_common():
        typer.echo(f"undecided: {count:,} {reason}", err=True)
    write_preference_rows(out, decided)
    write_preference_rows(apart, undecided)
    typer.echo(f"{len(decided):,} preferences -> {out}; {len(undecided):,} undecided -> {apart}")
