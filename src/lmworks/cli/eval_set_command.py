"""The verbs `eval lint` and `eval items`: the evaluation set itself."""

from pathlib import Path
from typing import Annotated

import typer

from lmworks.cli.options import WorkspaceOption, new_console, resolve_workspace
from lmworks.cli.output import write_page


def lint(
    path: Annotated[
        Path, typer.Argument(help="A gold file, or any JSON lines with a question.", exists=True, dir_okay=False)
    ],
    documents: Annotated[
        Path | None, typer.Option(help="Documents that the quotes stand in: an artefact or a workspace.")
    ] = None,
    shards: Annotated[
        list[Path] | None, typer.Option(help="Training data to look for leaked items in: documents or token shards.")
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="The tokenizer of token shards.")] = "",
    log: Annotated[Path | None, typer.Option(help="Workspace whose logged questions the set should cover.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Run of `lmworks eval` over this set, for difficulty.")] = None,
    embedder: Annotated[str, typer.Option(help='Encoder for paraphrases and coverage; "" leaves both out.')] = "",
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
) -> None:
    """Find what makes the scores of an evaluation set wrong, and what it does not ask. Exit status 1 with a finding.

    Example: `lmworks eval lint gold.jsonl --documents .lmworks/assistant --log .lmworks/assistant
    --embedder all-minilm-l6-v2 --out lint.html`
    """
    from collections import defaultdict

    from lmworks.artefact import check_new
    from lmworks.corpus.documents import DocumentStore, made_folder
    from lmworks.evaluate import set_lint
    from lmworks.evaluate.results import read_results
    from lmworks.records import question_of
    from lmworks.report import print_sections
    from lmworks.workspace import read_log

    if out is not None:
        check_new(out)
    chosen = set_lint.read_set(path)
    store = made_folder(documents) if documents else None
    if documents and store is None:
        raise FileNotFoundError(f"{documents} holds no documents: name a workspace, or what data.read made")
    by_uri = defaultdict(list)
    for document in DocumentStore(store) if store else ():
        by_uri[document.uri].append(document)
    asked = {"documents": [f"{one.title}\n{one.text[:1000]}" for same in by_uri.values() for one in same]}
    if log is not None:
        with read_log(log) as reader:
            asked["logged questions"] = sorted({question_of(one.messages) for one in reader.interactions()} - {""})
    encoder = vectors = None
    if embedder:
        from lmworks.adapt.adapter import load
        from lmworks.generate.text_embedding import TextEncoder

        encoder = TextEncoder(load(embedder))
        vectors = encoder.encode([item.question for item in chosen.items], "query")
    findings = [*set_lint.find_duplicates(chosen.items, vectors), *set_lint.find_label_errors(chosen)]
    if by_uri:
        findings += set_lint.find_gold_errors(chosen.gold.values(), by_uri)
    for folder in shards or []:
        findings += set_lint.find_leaks(chosen.items, set_lint.training_texts(folder, tokenizer))
    sections = [set_lint.card(chosen, findings), set_lint.findings_section(findings)]
    if encoder is not None and vectors is not None:
        sections.append(set_lint.coverage_section(vectors, encoder, asked))
    if run:
        values = defaultdict(list)
        for result in (one for folder in run for one in read_results(folder)[0]):
            if numbers := [value for value in result.values.values() if isinstance(value, float)]:
                values[result.item.id].append(numbers[0])
        if unknown := set(values) - {item.id for item in chosen.items}:
            raise ValueError(f"{run[0]} is a run over another set: {path} has no item {min(unknown)}")
        sections.append(set_lint.difficulty_section(values))
    print_sections(new_console(), sections)
    write_page(out, f"Lint of {path.name}", "What makes its scores wrong, and what it does not ask.", sections)
    raise typer.Exit(1 if findings else 0)


def items(
    out: Annotated[Path, typer.Argument(help="A new file for the gold questions; next to it, the incomplete ones.")],
    filter_: Annotated[str, typer.Option("--filter", help="Of the log, as in `lmworks log show`.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Make evaluation items of logged interactions: those that got a thumb up and cite, and a file to complete.

    Example: `lmworks eval items asked.jsonl --filter since:7d`
    """
    import json

    from lmworks.artefact import check_new, write_text
    from lmworks.config import to_mapping
    from lmworks.evaluate.logged_items import logged_items
    from lmworks.workspace import read_log

    rest = out.with_suffix(".review.jsonl")
    check_new(out)
    check_new(rest)
    with read_log(resolve_workspace(workspace)) as reader:
        gold, waiting = logged_items(reader.interactions(filter_))
    remedy = " (set answerable, and gold: a right answer's quotes stand in notes.cited)"
    for path, rows, what in ((out, gold, "confirmed by a thumb up"), (rest, waiting, "for a person to complete")):
        if rows:
            write_text(path, "".join(json.dumps(to_mapping(row), ensure_ascii=False) + "\n" for row in rows))
        where = f" -> {path}{remedy if path == rest else ''}" if rows else ""
        typer.echo(f"{len(rows)} {what}{where}")
