"""The verb `tokenizer report`: how well vocabularies fit texts, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.artefact import check_new, write_json, write_text
from lmworks.cli.options import TOKENIZER_FORMS
from lmworks.cli.output import new_console, say_rejected, show_table
from lmworks.config import to_mapping
from lmworks.progress import stage_progress
from lmworks.records import RejectedRecord, Scored
from lmworks.report import shown, to_html

if TYPE_CHECKING:
    from rich.console import Console

    from lmworks.tokenizer.vocabulary_report import Comparison

_TITLE = "Vocabularies"


def report(
    vocabularies: Annotated[list[str], typer.Argument(help=f"{TOKENIZER_FORMS} Several are compared.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SOURCE",
            help="A language or source and its files: a file, a folder, or a quoted pattern; repeatable.",
        ),
    ] = None,
    by_file: Annotated[
        bool, typer.Option("--by-file", help="Make each file a text of its own, named as it is.")
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The text that all others are translations of, passage by passage."),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Read the models' embeddings, too, and look for untrained rows.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The page to write: HTML with everything inside.")] = Path("report.html"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every number with its interval, n and signature here, as well.")
    ] = None,
) -> None:
    """Measure vocabularies on texts: bytes per token, tokens per word, what is unknown, used, unreachable, untrained.

    A text is a language or a source. Where it is one file, each line is a passage (parallel corpora are such files),
    else each file; a row of a .jsonl file is one. With `--reference`, the others are compared with that text by what
    the same content costs.

    Examples: `lmworks tokenizer report smollm2-135m-instruct ./mine --text docs='docs/*.md' --text code='src/**/*.py'`
    · `lmworks tokenizer report all-minilm-l6-v2 smollm2-135m-instruct --text 'ntrex/*.txt' --by-file
    --reference newstest2019-src.eng --out ntrex.html`
    """
    if not text:
        raise ValueError(
            "a vocabulary is good or bad for a text: name some, for example --text english=english.txt --text "
            "'code=src/**/*.py' (one that the vocabulary was not trained on; a megabyte of each says most)"
        )
    from lmworks.cli.tokenizer_arguments import embedding_rows, find_texts, find_tokenizers
    from lmworks.tokenizer.vocabulary_report import compare, sections

    check_new(out)
    if json_file is not None:
        check_new(json_file)
    rejected: list[RejectedRecord] = []
    texts = find_texts(text, by_file, rejected)
    if reference is not None and reference not in texts:
        raise ValueError(f"--reference {reference} is none of the texts: {', '.join(texts)}")
    found = find_tokenizers(vocabularies)
    rows = {each.name: embedding_rows(each) for each in found} if embeddings else {}
    console = new_console()
    with stage_progress(console, "encoding") as progress:
        tokenizers = {each.name: each.tokenizer for each in found}
        judged = {name: values for name, values in rows.items() if values is not None}
        comparison = compare(tokenizers, texts, reference, judged, progress)
    names = ", ".join(tokenizers)
    lead = f"{names} on {', '.join(texts)}" if len(texts) <= 6 else f"{names} on {len(texts)} texts"
    if json_file is not None:
        write_json(json_file, _numbers(comparison))
    _summarise(console, comparison)
    say_rejected(rejected)
    for name in rows.keys() - judged.keys():
        console.print(f"{name}: no weights next to this tokenizer, so no embedding was judged", highlight=False)
    write_text(out, to_html(_TITLE, lead, sections(comparison)))
    typer.echo(f"report -> {out}")


def _summarise(console: "Console", comparison: "Comparison") -> None:
    """A line for each text, a column for each vocabulary; the page has the rest."""

    measures = ["bytes per token", "fertility", *(["parity"] if comparison.reference is not None else [])]
    rows = []
    for text in comparison.texts:
        cells = []
        for name in comparison.vocabularies:
            scores = [comparison.scores[name, text].get(measure) for measure in measures]
            cells.append(" / ".join(f"{score.value:.2f}" if isinstance(score, Scored) else "–" for score in scores))
        rows.append((text, *cells))
    show_table(("text", *comparison.vocabularies), tuple(rows), " / ".join(measures))
    for name, reach in comparison.reaches.items():
        used, lost = int((comparison.uses(name) > 0).sum()), len(reach.ids("unreachable"))
        line = f"{shown(name)}: {len(reach.kinds):,} ids, of which {used:,} occur and {lost:,} are unreachable"
        console.print(line, highlight=False)


def _numbers(comparison: "Comparison") -> list[dict[str, object]]:

    return [
        {
            "vocabulary": vocabulary,
            "text": text,
            "measure": measure,
            **to_mapping(score),
            "unit": comparison.texts[text].unit,  # of which there are n
        }
        for (vocabulary, text), scores in comparison.scores.items()
        for measure, score in scores.items()
    ]
