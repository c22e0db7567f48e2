"""The verb `eval`: a model or a system on the tasks of a suite, runs compared, and the evaluation set itself."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lmworks.artefact import check_new, write_text
from lmworks.cli.options import SettingsOption, WorkspaceOption, resolve_workspace
from lmworks.cli.output import say, show_sections, show_table
from lmworks.cli.verb_settings import TAKES, VerbCommand, settings_help, with_settings
from lmworks.commands import evaluate as commands
from lmworks.config import to_mapping
from lmworks.evaluate.config import SuiteConfig
from lmworks.records import question_of

DataOption = Annotated[
    Path, typer.Option(help="Folder of the tasks' files; `lmworks eval list` names them.", exists=True, file_okay=False)
]


class EvalGroup(TyperGroup):
    """The verbs of `eval`; what is none of them is a model that is run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, ["run", *args] if args and args[0] not in known else args)


app = typer.Typer(
    cls=EvalGroup,
    no_args_is_help=True,
    help="""Score a model or a system on suites of tasks; compare runs.

    `lmworks eval MODEL --suite NAME --data FOLDER` is short for `lmworks eval run`.

    Example: `lmworks eval smollm2-135m-instruct --suite commonsense --data data --limit 200`
    """,
)


def run(
    model: Annotated[
        str, typer.Argument(help="A pulled model, a folder, a .gguf file, a workspace, or URL#NAME of an endpoint.")
    ],
    suite: Annotated[list[str], typer.Option(help="A built-in suite or task, or a TOML file; may be repeated.")],
    data: DataOption,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: .lmworks/runs/MODEL-SUITE-N.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An earlier run, to be compared with item by item.")] = None,
    settings: SettingsOption = None,
) -> None:
    from lmworks.evaluate.results import read_results

    if compare is not None:
        read_results(compare)
    made = commands.evaluate(model, suite, data, out=out, settings=settings or [])
    show_sections(made.sections)
    say(f"\nReport: {made.report}")
    if compare is not None:
        _print_comparison(made.folder, compare)


run.__doc__ = (commands.evaluate.__doc__ or "").partition("In Python,")[0]
app.command(cls=VerbCommand, epilog=settings_help(TAKES, SuiteConfig, SuiteConfig(("NAME",))))(
    with_settings(run, SuiteConfig)
)


@app.command("compare")
def compare_command(
    candidate: Annotated[Path, typer.Argument(help="A run, such as that of the new model.")],
    baseline: Annotated[Path, typer.Argument(help="A run over the same items, such as that of the old one.")],
    shared: Annotated[bool, typer.Option("--shared", help="Compare the items and metrics that both have.")] = False,
) -> None:
    """Compare two runs item by item: what differs by more than chance, after Holm's correction.

    Example: `lmworks eval compare .lmworks/runs/new-mmlu-1 .lmworks/runs/old-mmlu-1`
    """
    _print_comparison(candidate, baseline, shared)


def _print_comparison(candidate: Path, baseline: Path, shared: bool = False) -> None:
    from lmworks.evaluate.comparison import compare_runs

    say(f"\n{candidate} less {baseline}")
    for one in compare_runs(candidate, baseline, shared=shared):
        say(f"  {one}")


@app.command("list")
def list_tasks(data: Annotated[Path, typer.Option(help="Folder of the tasks' files.")] = Path("data")) -> None:
    """List built-in tasks and suites, the files that they read, and whether these are below --data.

    Example: `lmworks eval list --data data`
    """
    from lmworks.evaluate.task import Suite, built_in, file_names

    for name, one in built_in().items():
        if isinstance(one, Suite):
            lines = [f"{name}: {one.purpose}", f"suite of {', '.join(one.tasks)}"]
        else:
            files = (*one.files, *one.shots.files)
            found = "found" if all(file_names(pattern, data) for pattern in files) else "not found"
            lines = [f"{name}: {one.purpose}", f"{found} below {data}: {', '.join(files)}", f"from {one.source}"]
        say("\n    ".join(lines))


@app.command("metrics")
def list_metrics() -> None:
    """List the metrics that a task may name, and the models that they need, which it names too; a verifier comes with
    lmworks.

    Example: `lmworks eval metrics`
    """
    from lmworks.evaluate.registry import METRICS

    rows = [(name, entry.purpose, ", ".join(entry.roles)) for name, entry in METRICS.items()]
    show_table(("metric", "measures", "needs"), rows)


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

    from lmworks.corpus.documents import DocumentStore, made_folder
    from lmworks.evaluate import set_lint
    from lmworks.evaluate.results import read_results
    from lmworks.workspace import read_log

    if out is not None:
        check_new(out)
    chosen = set_lint.read_set(path)
    store = made_folder(documents) if documents else None
    if documents and store is None:
        raise FileNotFoundError(f"{documents} holds no documents: name a workspace, or what corpus.read made")
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
    show_sections(sections, out, f"Lint of {path.name}", "What makes its scores wrong, and what it does not ask.")
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

    from lmworks.evaluate.question_set import logged_items
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


app.command()(lint)
app.command()(items)
