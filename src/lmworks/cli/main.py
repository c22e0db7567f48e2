"""The verbs of the command line, and what a user sees when one of them fails."""

import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmworks.cli import (
    ask_command,
    bench_command,
    build_command,
    cross_encoder_command,
    data_command,
    drift_command,
    eval_command,
    experiment_command,
    judge_command,
    log_command,
    loop_command,
    model_command,
    model_folder_commands,
    plan_command,
    prompt_command,
    redteam_command,
    route_command,
    rows_command,
    serve_command,
    sweep_command,
    tokenizer_command,
    vectors_command,
    version_command,
)
from lmworks.cli.verb_settings import TAKES, VerbCommand, settings_help, with_settings
from lmworks.serve.config import ServeConfig
from lmworks.train.config import CrossEncoderConfig
from lmworks.train.planning.plan import PlanConfig
from lmworks.train.sweep.config import SweepConfig

_SUGGESTIONS = {
    "pretrain": "training is a stage of a recipe: `lmworks build scratch`, or `lmworks stage train.pretrain`",
    "rlhf": "`lmworks align` learns from preferences, labels and ratings",
    "sft": "`lmworks finetune` trains a model on examples",
    "evaluate": "`lmworks eval` scores a model or a system on suites; `lmworks build` evaluates what it builds",
    "chat": "`lmworks up` serves a page to chat on, `lmworks ask` answers one question",
    "generate": "`lmworks ask` answers one question, `lmworks serve` is an API that generates",
}
_RESUMABLE = (
    "up",
    "build",
    "data",
    "stage",
    "sweep",
    "eval",
    "finetune",
    "align",
    "compress",
    "train",
    "loop",
)  # verbs that keep what was done at a Ctrl-C


class Verbs(TyperGroup):
    """The verbs; a word that other tools have for one, or nearly that word, leads to what it is here."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        near = get_close_matches(args[0], [*self.commands, *_SUGGESTIONS], n=1) if args else []
        if near and near[0] in _SUGGESTIONS:
            ctx.fail(f"there is no verb {args[0]}: {_SUGGESTIONS[near[0]]}")
        return super().resolve_command(ctx, args)


def _print_version(asked: bool) -> None:
    from lmworks import __version__

    if asked:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""From raw documents to grounded answers with citations, served on your own machine.

    Start with `lmworks up` (the documentation of Python and of lmworks) or `lmworks up --docs FOLDER` (your own files).
    Then open the address that it prints, or run `lmworks ask "..."`.
    """,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of `lmworks` before a verb."""


_PLAIN: list[Callable] = [  # verbs without settings, or with their own help on them
    build_command.up,
    build_command.build,
    build_command.pull,
    ask_command.ask,
    ask_command.lineage,
    rows_command.prefer,
    bench_command.bench,
    version_command.promote,
    version_command.rollback,
    redteam_command.redteam,
    loop_command.loop,
    loop_command.review,
]
_SET: list[tuple[Callable, str, type]] = [  # and those with the settings of a config
    (serve_command.serve, f"A recipe's table `[serve]` holds the same. {TAKES}", ServeConfig),
    (sweep_command.sweep, TAKES, SweepConfig),
    (plan_command.plan, TAKES, PlanConfig),
    (cross_encoder_command.train, TAKES, CrossEncoderConfig),
]
for verb in _PLAIN:
    app.command(cls=VerbCommand)(verb)
for verb, lead, config in _SET:
    asks = verb is cross_encoder_command.train
    app.command(cls=VerbCommand, epilog=settings_help(lead, config), no_args_is_help=asks)(with_settings(verb, config))
app.command(cls=VerbCommand, epilog=model_folder_commands.FINETUNE_SETTINGS)(model_folder_commands.FINETUNE)
app.command(cls=VerbCommand, epilog=model_folder_commands.ALIGN_SETTINGS)(model_folder_commands.ALIGN)
app.command(cls=model_folder_commands.CompressCommand)(model_folder_commands.COMPRESS)
app.command(cls=build_command.StageCommand)(build_command.stage)
app.add_typer(eval_command.app, name="eval")
app.add_typer(judge_command.app, name="judge")
app.add_typer(data_command.app, name="data")
app.add_typer(model_command.app, name="model")
app.add_typer(tokenizer_command.app, name="tokenizer")
app.add_typer(vectors_command.app, name="vectors")
app.add_typer(log_command.app, name="log")
app.command()(drift_command.drift)
app.add_typer(drift_command.app, name="alerts")
app.add_typer(experiment_command.app, name="experiment")
app.add_typer(prompt_command.app, name="prompt")
app.add_typer(route_command.app, name="route")
app.add_typer(rows_command.app, name="rows")
app.add_typer(serve_command.keys_app, name="keys")


def main() -> None:
    """Run the command line; an error that a user can mend is one message, without a traceback."""
    from lmworks.artefact import LockedError, UnreachableError
    from lmworks.config import ConfigError
    from lmworks.model.download import PullError
    from lmworks.recipe import RecipeError
    from lmworks.report import harmless
    from lmworks.train.loss_guard import TrainingStoppedError
    from lmworks.train.parallel.launcher import follow, follows, leading

    # Threads of OpenMP that wait by spinning take the processor from each other when anything else runs on the machine;
    # the setting is read when torch is loaded, so it stands here, before any verb imports it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        if follows():
            follow()
            return
        with leading():
            app()
    except (
        ConfigError, RecipeError, LockedError, PullError, TrainingStoppedError, UnreachableError, ModuleNotFoundError,
        OSError, ValueError, LookupError, RuntimeError
    ) as error:  # fmt: skip
        ours = type(error).__module__.startswith("lmworks.")
        if (isinstance(error, ModuleNotFoundError) and error.name) or (isinstance(error, RuntimeError) and not ours):
            raise  # a mistake: errors of ours say what to install, and name no module
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        # Names in it come from documents, and may hold what acts on a terminal.
        typer.secho(f"lmworks: {harmless(str(message))}", fg="red", err=True)
        sys.exit(2)
    except (SystemExit, KeyboardInterrupt) as end:
        if (stop := _interrupt(end)) is None:
            raise  # a mistake: errors of ours say what to install, and name no module
        reason = f" {stop}" if str(stop) else ""
        after = "; the same command resumes" if sys.argv[1:2] and sys.argv[1] in _RESUMABLE else ""
        typer.secho(f"\nlmworks: stopped{reason}{after}", err=True)
        sys.exit(130)


def _interrupt(end: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that caused an exception: typer makes an exit with status 130 of it."""
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return end
