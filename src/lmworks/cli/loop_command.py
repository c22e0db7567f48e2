"""The verbs `loop` and `review`: from the log to the next version, and the queue of answers that people look at."""

from typing import Annotated

import typer

from lmworks.cli.options import DocsOption, RecipeArgument, SetOption, WorkspaceOption, resolve_workspace
from lmworks.config import read_toml


def loop(
    recipe: RecipeArgument = "assistant",
    docs: DocsOption = None,
    overrides: SetOption = None,
    workspace: WorkspaceOption = None,
    by: Annotated[str, typer.Option("--by", help="Who answers for it. Default: the user of this machine.")] = "",
) -> None:
    """Turn the log into the next version, step by step: sample answers for review, make rows of the verdicts, build a
    version with them, compare it with the live one, test it on users, promote it, watch it.

    The recipe and its settings are those that the system was built with. The command prints what it waits for
    (verdicts, units of an experiment, days); run it again, every day or after a stop, and it resumes. `loop.toml` in
    the workspace sets which rows go where, what may become worse, and which experiment decides.

    Example: `lmworks loop --docs ./handbook`
    """
    from collections.abc import Sequence
    from getpass import getuser

    from lmworks.cli.build_command import checked_recipe
    from lmworks.feedback_loop import LoopConfig, Step, run
    from lmworks.recipe import Recipe
    from lmworks.workspace import open_log, read_current

    folder = resolve_workspace(workspace)
    checked, _ = checked_recipe(recipe, docs, overrides, folder)
    if (built := read_current(folder).recipe) != checked.name:  # nothing to improve is an error now
        raise ValueError(f"{folder} was built by {built}, not {checked.name}: name its recipe, or another --workspace")
    config = read_toml(LoopConfig, folder / "loop.toml")

    def load(settings: Sequence[str]) -> Recipe:
        return checked_recipe(recipe, docs, [*(overrides or []), *settings], folder)[0]

    def say(step: Step) -> None:
        mark = "ends here" if step.ends else "done" if step.done else "waits"
        typer.echo(f"{step.name:<10} {mark:<9} {step.words}")

    with open_log(folder) as log:
        run(folder, config, load, log, who=by or getuser(), say=say)


def review(
    days: Annotated[float, typer.Option(help="Draw from this many days of the log.")] = 7.0,
    workspace: WorkspaceOption = None,
) -> None:
    """Sample answers for review by the rules of `review.toml`; estimate the quality of all traffic from reviews.

    The queue is worked on the page Review. Repeating it draws nothing twice.

    Example: `lmworks review --days 30`
    """
    import time

    from lmworks.monitor.review import read_config, summary
    from lmworks.monitor.review_sampling import fill
    from lmworks.workspace import open_log, read_log

    if not 0 < days < 100_000:
        raise ValueError(f"days must be above 0, got {days}")
    folder = resolve_workspace(workspace)
    read_log(folder).close()  # a log that does not exist is an error, not an empty new one
    config = read_config(folder)
    with open_log(folder) as log:
        for rule, count in fill(log, config, time.time(), days).items():
            typer.echo(f"{count} drawn by {rule}" if rule else f"{count} drawn by a further rule: lower weight")
        found = summary(log.reader, config)
    for rule in {**found.waiting, **found.reviewed}:
        typer.echo(f"{rule}: {found.reviewed.get(rule, 0)} reviewed, {found.waiting.get(rule, 0)} wait")
    typer.echo(f"good answers in all traffic: {found.good}")
    for question, score in found.agreement.items():
        typer.echo(f"agreement on {question} (alpha): {score}")
