"""The verb `data classifier`: a small model that learns from the user's own texts, for cleaning."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import SettingsOption
from lmworks.cli.output import new_console, say, say_rejected, show_sections
from lmworks.cli.verb_settings import TAKES, VerbCommand, settings_help, with_settings
from lmworks.config import assigned, from_mapping
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.progress import stage_progress
from lmworks.records import RejectedRecord

if TYPE_CHECKING:
    from lmworks.corpus.read.config import ReadConfig

TextOption = Annotated[str, typer.Option("--text", metavar="COLUMN", help="Of tables: the column that holds the text.")]
KindOption = Annotated[
    str,
    typer.Option(help="What sort of source it is: web, manual, book, code, mail, chat, text; auto goes by the format."),
]


def classifier(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="GOOD...",
            help="Examples with the label: folders, files, tables, quoted globs, or folders that corpus.read or "
            "corpus.filter made.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to make, NAME.npz. It must not exist.")],
    against: Annotated[list[str] | None, typer.Option(help="Examples without the label; repeatable.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Instead of --against: the column of the rows' labels.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="The word in that column which is looked for. Default: true, or 1.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Rows that agree here are learned from or evaluated with, never both."),
    ] = None,
    text: TextOption = "text",
    kind: KindOption = "auto",
    settings: SettingsOption = None,
) -> None:
    """Train a classifier of texts from examples with and without a label (good, toxic, about law).

    Texts are read and repaired as `corpus.tag` does. It prints how well the classifier does on examples that it did
    not learn from, a threshold, and the words that it goes by. Name the file in `corpus.tag`, `classifiers = {
    quality = "good.npz" }`, and every document gets the score of that name; a limit of a policy then decides.
    Toxicity and topics are classifiers as well, of other examples. It takes 50 different texts of each side at least;
    some hundreds do better.

    Examples: `lmworks data classifier good --against crawl --out good.npz` · `lmworks data classifier comments.jsonl
    --label toxic --out toxic.npz` · `lmworks data classifier news.csv --text body --label topic --positive law --out
    law.npz`
    """
    from lmworks.corpus.taggers.classifier import check_classifier_file
    from lmworks.corpus.taggers.classifier_trainer import classifier_section, examples_from, learn_classifier

    if bool(against) == bool(label):
        raise ValueError(
            "say which texts do not have the label: either --against FOLDER, or --label COLUMN where each row has its "
            "own"
        )
    if positive is not None and not label:
        raise ValueError("--positive is a word in a column of labels: name that with --label COLUMN")
    check_classifier_file(out)
    config = from_mapping(ClassifierConfig, assigned(settings))
    console = new_console()
    rejected: list[RejectedRecord] = []
    with stage_progress(console, "reading examples") as progress:
        examples = examples_from(
            *(sources, against or []),
            label=label or "",
            positive=positive or "",
            group=group or "",
            reading=_reading(kind, text),
            rejected=rejected,
            progress=progress,
        )
    with stage_progress(console, "learning") as progress:
        learned = learn_classifier(examples, positive or label or out.stem, config, progress)
    learned.classifier.save(out)
    show_sections([classifier_section(learned)])
    say_rejected(rejected)
    measure = out.stem if out.stem.isidentifier() else "quality"
    use = f'annotations.classifiers={{{measure}="{out.resolve()}"}}'
    say(f"classifier -> {out}\nuse it: lmworks data build SOURCES --set '{use}'")

    from lmworks.corpus.taggers.classifier import check_classifier_file


def _reading(kind: str, text: str) -> "ReadConfig":
    from lmworks.corpus.read.config import ReadConfig

    return from_mapping(ReadConfig, {"source_code": "whole", "kind": kind, "columns": {"text": text}})


def add_to(app: typer.Typer) -> None:
    """Make the verb one of `lmworks data`, with its settings."""
    app.command(cls=VerbCommand, epilog=settings_help(TAKES, ClassifierConfig))(
        with_settings(classifier, ClassifierConfig)
    )
