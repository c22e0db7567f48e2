"""Verbs that ask a built system and explain what it said: ask, lineage."""

from collections.abc import Mapping
from contextlib import suppress
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from lmworks.cli.options import WorkspaceOption, resolve_workspace
from lmworks.cli.output import new_console
from lmworks.config import to_mapping
from lmworks.records import Answer, Document
from lmworks.report import harmless, shown

if TYPE_CHECKING:
    from rich.console import Console

    from lmworks.ground.conformal_risk_control import Certainty

SNIPPET = 110  # characters that are shown of a passage


def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    workspace: WorkspaceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Answer a question from the documents with citations, or abstain and show the nearest passages.

    Every sentence of an answer carries the place it comes from. A language model of a billion parameters or more writes
    it in its own words, each printed once it is verified. `lmworks lineage ID` leads from the answer back to the
    documents, weights and evaluation it came from. Questions are logged, as those of the page are.

    Example: `lmworks ask "What does functools.lru_cache do?"`
    """
    import lmworks
    from lmworks.workspace import calibration_caution, certainty_of, read_current

    folder = resolve_workspace(workspace)
    current = read_current(folder)
    caution = calibration_caution(folder, current)  # before torch is imported: an error is said at once
    system = lmworks.open(folder)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        _show_statement(new_console(), text.strip())

    answer = system.ask(question, None if as_json else say)
    if as_json:
        import json

        typer.echo(json.dumps(to_mapping(answer), indent=1, ensure_ascii=False))
    else:
        cited = {one.evidence.document for one in answer.citations} | {one.span.document for one in answer.nearest}
        index = system.answerer.finder.index
        documents = {document: index.document(document) for document in cited}
        show_answer(new_console(), answer, folder.name, documents, certainty_of(folder, current), said=bool(said))
    if caution:
        typer.secho(caution, fg="yellow", err=True)


def _show_statement(console: "Console", text: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(Padding(Text(harmless(text)), (0, 0, 0, 2)))


def lineage(
    target: Annotated[str, typer.Argument(help="The id of an answer, the name of a stage, or an artefact's folder.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Show where an answer or an artefact comes from: spans, documents, settings, weights, evaluation.

    A folder that a stage made alone needs no built system: its inputs are looked up in the same folder.

    Examples: `lmworks lineage index` · `lmworks lineage pretrained`
    """
    from lmworks.lineage import trace

    if workspace is None:
        with suppress(FileNotFoundError, ValueError):  # a folder needs none, and `trace` says what else does
            workspace = resolve_workspace(None)
    new_console().print(trace(workspace, target))


def show_answer(
    console: "Console",
    answer: "Answer",
    system: str,
    documents: "Mapping[str, Document]",
    certainty: "Certainty | None" = None,
    said: bool = False,
) -> None:
    """Print an answer with its sources, or the abstention with the nearest passages, and which system gave it;
    `documents`, by hash, are needed to render quotes. `said`: its text was printed before."""
    from rich.padding import Padding
    from rich.text import Text

    from lmworks.ground.answer_record import removed_statements
    from lmworks.ground.answer_text import answer_parts, short_answer
    from lmworks.ground.conformal_risk_control import certainty_phrase
    from lmworks.retrieve.rendered_text import rendered_quote, shortened

    if short := short_answer(answer.citations, documents):
        console.print(Padding(Text(harmless(short), style="bold"), (0, 0, 1, 2)))
    for part in () if said else answer_parts(answer.text, answer.citations, documents):
        mark = f" [{part.number}]" if part.number else ""
        if part.code:  # not wrapped, so that it can be copied
            console.print(Text(f"{indent(harmless(part.text), '    ')}\n {mark}"), soft_wrap=True)
        else:
            _show_statement(console, f"{part.text}{mark}")
    if answer.abstained and answer.nearest:
        console.print("  Nearest passages:", style="dim")
        for passage in answer.nearest:
            words = " ".join(rendered_quote(passage.text, passage.span, documents).split())
            console.print(f"    {shown(passage.uri)}  [dim]{shown(shortened(words, SNIPPET))}[/dim]", highlight=False)
    for number, citation in enumerate(answer.citations, start=1):
        span = citation.evidence
        support = f", support {citation.support:.2f}" if citation.support is not None else ""
        place = f"{shown(citation.uri)} [dim]characters {span.start}-{span.end}{support}[/dim]"
        console.print(f"  \\[{number}] {place}", highlight=False)
    for verdict in removed_statements(answer.verdicts):
        console.print(f"  removed, {verdict.verdict}: [strike]{shown(verdict.text)}[/strike]", style="dim")
    if answer.failure:
        console.print(f"  the model that writes failed: {shown(answer.failure)}", style="yellow", highlight=False)
    seconds = answer.timings.get("total", 0.0)
    if answer.abstained:
        sure = f"abstained, confidence {answer.confidence:.2f}"
    else:
        written = any(one.origin == "generated" for one in answer.citations)
        measured = f" ({certainty_phrase(certainty)})" if certainty and not written else ""
        sure = f"confidence {answer.confidence:.2f}{measured}"
    console.print(f"  {shown(system)} · {sure} · {seconds:.1f} s · answer {answer.id}", style="dim", highlight=False)
