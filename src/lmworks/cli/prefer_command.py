"""The verb `prefer`: a calibrated judge compares answers, and its word becomes rows to train on."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.judge_command import Rubric


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
    from lmworks.artefact import check_new
    from lmworks.cli.options import new_console
    from lmworks.data.training_rows import write_preference_rows
    from lmworks.evaluate.judge import Judge
    from lmworks.evaluate.judge import rubric as find_rubric
    from lmworks.evaluate.judge_calibration import JUDGE, calibrated
    from lmworks.evaluate.release.votes import read_candidates
    from lmworks.generate.engine import Engine
    from lmworks.generate.protocol import SamplingParameters
    from lmworks.progress import stage_progress

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
