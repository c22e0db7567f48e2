"""The verbs of `prompt`: versions of prompts, their labels, tests and search."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.artefact import hash_json
from lmworks.cli.options import WorkspaceOption, read_margins, resolve_workspace
from lmworks.cli.output import new_console, show_sections
from lmworks.progress import stage_progress
from lmworks.records import Interaction, Message
from lmworks.report import Section, Table, harmless

if TYPE_CHECKING:
    from lmworks.monitor.log import Log
    from lmworks.prompt.config import Prompt
    from lmworks.prompt.few_shot import Encode
    from lmworks.prompt.prompt_grid import Grid
    from lmworks.prompt.prompt_store import PromptStore

app = typer.Typer(no_args_is_help=True, help="Prompts as versions: keep, compare, test, promote, roll back, improve.")

Texts = list[str] | None
Version = Annotated[str, typer.Argument(help="NAME, NAME:LABEL, NAME:HASH, a .toml file, or a prompt of lmworks.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the version or the move.")]
By = Annotated[str, typer.Option("--by", help="Who does it. Default: the user of this machine.")]
Task = Annotated[str, typer.Argument(help="A task of `lmworks eval`, or a TOML file: the cases and metrics.")]
Data = Annotated[Path, typer.Option(help="Folder of the task's files.", exists=True, file_okay=False)]
Embedder = Annotated[str, typer.Option(help="Embedding model, for examples that are chosen by similarity.")]
Slots = Annotated[Texts, typer.Option("--slot", metavar="NAME=VALUE", help="The value of a slot; may be repeated.")]
WEIGHTS = "A model, with @int4, @int8, @bfloat16 or @float32 for its weights, or URL#NAME of an endpoint"
STARTER = """\
name = "{name}"
instruction = "Say what is to be done."
input = "{{question}}"

[slots.question]
most = 4000
"""


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="The prompt as TOML; one that is not there yet is begun.")],
    reason: Reason = "",
    by: By = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Keep the prompt of a file as a version, for a reason.

    Example: `lmworks prompt new prompts/support.toml --reason "says where to look"`
    """
    from lmworks.prompt.prompt_file import read_prompt

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STARTER.format(name=path.stem), "utf-8")
        typer.echo(f"{path} is begun: write the prompt there, then run this again with --reason")
        return
    prompt = read_prompt(path)
    made = open_store(workspace).add(prompt, reason, who=by)
    typer.echo(f"{prompt.name}:{made.hash} ({made.who}: {made.reason})")


@app.command("list")
def show(
    name: Annotated[str, typer.Argument(help="A prompt; without it, all of them.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """List the versions of prompts and the moves of their labels, with reasons.

    Example: `lmworks prompt list support`
    """
    from datetime import datetime

    store, rows = open_store(workspace), []
    for each in [name] if name else store.names():
        moves = [one for label in store.labels(each) for one in store.history(each, label)]
        events = [(one.time, one.hash, "version", one.who, one.reason) for one in store.versions(each)]
        events += [(one.time, one.version, f"{one.kind}, {one.label}", one.who, one.reason) for one in moves]
        for moment, *rest in sorted(events):
            rows.append((each, datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M"), *rest))
    table = Table(("prompt", "when", "version", "what", "by", "why"), tuple(rows))
    show_sections([Section("Prompts", tables=(table,))])


@app.command()
def diff(old: Version, new: Version, workspace: WorkspaceOption = None) -> None:
    """Compare two versions part by part, and what their tests say of them.

    Example: `lmworks prompt diff support:production support`
    """
    from lmworks.prompt.prompt_file import prompt_diff
    from lmworks.prompt.prompt_grid import RUNS, version_deltas

    both = read_version(old, workspace), read_version(new, workspace)
    for part, lines in prompt_diff(*both).items():
        typer.secho(part, bold=True)
        for line in lines:
            typer.secho(harmless(line), fg={"-": "red", "+": "green"}.get(line[:1]))
    for cell, found in version_deltas(resolve_workspace(workspace) / RUNS, *both):
        typer.echo(f"\n{cell.task} on {cell.model}, {cell.n} cases, new less old:")
        for one in found:
            typer.echo(f"  {harmless(str(one))}")


@app.command()
def render(
    prompt: Version,
    slots: Slots = None,
    passages: Annotated[Path | None, typer.Option(help="Passages, the best first, as JSON lines.", exists=True)] = None,
    model: Annotated[str, typer.Option(help="Whose chat template and tokens; without it, the messages alone.")] = "",
    embedder: Embedder = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Fill a prompt: its messages by part with their tokens, and the text that a model reads.

    Example: `lmworks prompt render support --slot message="Where is it?" --model smollm2-135m-instruct`
    """
    from lmworks.adapt.adapter import load
    from lmworks.prompt.filled_prompt import check_length, fill_prompt, token_counter

    wanted = read_version(prompt, workspace)
    rows = [json.loads(line) for line in passages.read_text("utf-8").splitlines() if line] if passages else []
    checkpoint = load(model) if model else None
    count = token_counter(checkpoint) if checkpoint else None
    filled = fill_prompt(wanted, slot_values(wanted, slots), rows, count=count, encode=open_encoder(embedder))
    for span in filled.spans:
        message = filled.messages[span.message]
        typer.secho(f"{message.role}, {span.part}", dim=True)
        typer.echo(harmless(message.content[span.start : span.end]))
    tokens = "".join(f", {part} {size}" for part, size in (filled.tokens or {}).items())
    typer.echo("\n".join([f"\n{wanted.name}:{filled.hash}{tokens}", *(f"left out: {one}" for one in filled.left_out)]))
    if checkpoint is not None:
        check_length(filled, checkpoint)
        typer.echo(harmless(f"\n{checkpoint.chat.render(filled.messages, add_generation_prompt=True).text}"))


@app.command()
def label(
    name: Annotated[str, typer.Argument(help="The prompt.")],
    label: Annotated[str, typer.Argument(help="The label, such as production or candidate.")],
    version: Annotated[str, typer.Argument(help="A hash, its beginning, or a label. Default: the newest.")] = "",
    reason: Reason = "",
    by: By = "",
    margins: Annotated[
        Texts, typer.Option("--margin", metavar="METRIC=NUMBER", help="How much worse it may be. Default: 0.05, all.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Give a label to a version. For production it must be shown not to be worse, by `lmworks prompt test`.

    Example: `lmworks prompt label support production --reason "fewer wrong intents"`
    """
    from lmworks.prompt.prompt_grid import RUNS, move_label

    tests = resolve_workspace(workspace) / RUNS
    made = move_label(open_store(workspace), tests, name, label, version, reason, who=by, margins=read_margins(margins))
    if made.gate is not None:
        typer.echo(f"Gate, new less old:\n{made.gate.text}")
    waits = "; it waits for a second person" if made.kind == "proposed" else ""
    typer.echo(f"{name}:{made.version} {made.kind} to {label} ({made.who}: {made.reason}){waits}")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The prompt.")],
    label: Annotated[str, typer.Argument(help="The label.")] = "production",
    reason: Reason = "",
    by: By = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Give a label back to the version that had it before.

    Example: `lmworks prompt rollback support --reason "thumbs down doubled"`
    """
    made = open_store(workspace).rollback(name, label, reason, who=by)
    typer.echo(f"{name}:{made.version} has {label} again ({made.who}: {made.reason}); before it was {made.before}")


@app.command()
def test(
    task: Task,
    prompts: Annotated[list[str], typer.Option("--prompt", help="A version; others are compared with the first.")],
    data: Data,
    model: Annotated[list[str], typer.Option("--model", help=f"{WEIGHTS}; may be repeated.")],
    limit: Annotated[int, typer.Option(min=0, help="Cases; 0: all.")] = 0,
    free: Annotated[bool, typer.Option("--free", help="Each also without holding answers to its format.")] = False,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="The first in other forms and orders.")] = False,
    paraphrases: Annotated[Texts, typer.Option("--paraphrase", help="Its instruction in other words, too.")] = None,
    embedder: Embedder = "",
    judge: Annotated[str, typer.Option(help="MODEL:RUBRIC:CALIBRATION, for the metrics judge and g-eval.")] = "",
    review: Annotated[int, typer.Option(min=0, help="Answers of each run that people judge on the page Review.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Test prompts × models on the same cases, paired case by case with intervals; nothing is run twice.

    Example: `lmworks prompt test intents.toml --data data --prompt support:production --prompt support --model
    smollm2-135m-instruct`
    """
    from lmworks.evaluate.task import read_tasks
    from lmworks.generate.remote_engine import open_engine
    from lmworks.prompt.grid_report import grid_sections
    from lmworks.prompt.prompt_grid import RUNS, Variant, read_cases, run_grid
    from lmworks.prompt.sensitivity import sensitivity_variants, spreads

    (wanted,) = read_tasks([task])
    variants = [Variant(name, read_version(name, workspace)) for name in prompts]
    if free:
        variants += [Variant(f"{one.name}, free", one.prompt, False) for one in variants if one.prompt.format]
    if sensitivity or paraphrases:
        variants += sensitivity_variants(variants[0].prompt, paraphrases or ())
    engines, encode = {name: open_engine(name) for name in model}, open_encoder(embedder)
    roles = {"judge": judge} if judge else {}
    console, folder = new_console(), resolve_workspace(workspace) / RUNS
    with stage_progress(console, wanted.name) as report:
        cases = read_cases(wanted, data, limit)
        grid = run_grid(wanted, cases, variants, engines, folder, encode=encode, roles=roles, progress=report)
    sections = list(grid_sections(grid))
    if found := spreads(grid):
        sections.append(Section("Sensitivity", "\n".join(map(str, found))))
    show_sections(sections, out, f"Prompts on {wanted.name}", wanted.purpose)
    if review:
        from lmworks.workspace import open_log

        with open_log(resolve_workspace(workspace)) as log:
            typer.echo(f"{review_cases(grid, log, review)} answers wait on the page Review")


@app.command()
def optimise(
    prompt: Version,
    task: Task,
    data: Data,
    model: Annotated[str, typer.Option("--model", help=f"{WEIGHTS}.")],
    train: Annotated[int, typer.Option(min=10, help="Cases to search on; the others are held out.")] = 60,
    limit: Annotated[int, typer.Option(min=0, help="Cases in all; 0: all.")] = 0,
    instructions: Annotated[Texts, typer.Option("--instruction", help="Further instructions to try.")] = None,
    embedder: Embedder = "",
    reason: Reason = "",
    by: By = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Search for better examples and a better instruction on some cases; say what they are worth on the others.

    The task's first metric counts. With --reason the best prompt is kept as a version.

    Example: `lmworks prompt optimise support intents.toml --data data --model smollm2-135m-instruct --train 60`
    """
    from lmworks.evaluate.task import read_tasks
    from lmworks.generate.remote_engine import open_engine
    from lmworks.prompt.prompt_file import prompt_hash
    from lmworks.prompt.prompt_grid import read_cases
    from lmworks.prompt.prompt_search import SEARCHES, search_prompt, search_section

    (wanted,), begun, console = read_tasks([task]), read_version(prompt, workspace), new_console()
    cases, folder = read_cases(wanted, data, limit), resolve_workspace(workspace) / SEARCHES
    with stage_progress(console, "search") as report:
        found = search_prompt(
            wanted, cases, begun, open_engine(model), folder, train, instructions or (),
            encode=open_encoder(embedder), progress=report,
        )  # fmt: skip
    show_sections([search_section(found)])
    if found.comparison and reason:
        made = open_store(workspace).add(found.prompt, reason, who=by, parent=prompt_hash(begun))
        typer.echo(f"{begun.name}:{made.hash} ({made.who}: {made.reason})")


# ---------------------------------------------------------------------------------------------------------------------


def open_store(workspace: Path | None) -> "PromptStore":
    from lmworks.prompt.prompt_store import PROMPTS, PromptStore

    return PromptStore(resolve_workspace(workspace) / PROMPTS)


def read_version(name: str, workspace: Path | None) -> "Prompt":
    """The prompt of a file, a version of the workspace, or one that comes with lmworks."""
    from lmworks.prompt.prompt_file import built_in, built_in_names, read_prompt

    if name.endswith(".toml"):
        return read_prompt(Path(name))
    base, _, version = name.partition(":")
    store = open_store(workspace)
    return built_in(base) if base in built_in_names() and base not in store.names() else store.read(base, version)


def slot_values(prompt: "Prompt", texts: Texts) -> dict[str, Any]:
    """The values of `--slot NAME=VALUE`, numbers where the slot takes them."""
    values: dict[str, Any] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--slot is NAME=VALUE, got {text!r}")
        number = name in prompt.slots and prompt.slots[name].kind in ("integer", "number")
        values[name] = json.loads(value) if number else value
    return values


def open_encoder(name: str) -> "Encode | None":
    if not name:
        return None
    from lmworks.adapt.adapter import load
    from lmworks.generate.text_embedding import TextEncoder
    from lmworks.prompt.few_shot import remembered

    encoder = TextEncoder(load(name))
    return remembered(lambda texts: encoder.encode(texts, "query"))


def review_cases(grid: "Grid", log: "Log", limit: int) -> int:
    """Send answers of each run to the review queue, `limit` of them, on the same cases; how many were not in it."""
    from lmworks.evaluate.results import read_results
    from lmworks.monitor.review_sampling import enqueue

    ids = []
    for cell in grid.cells:
        rows = sorted(read_results(grid.place(cell))[0], key=lambda row: hash_json(row.item.id))[:limit]
        for row in rows:
            name, asked = hash_json([cell.key, row.item.id])[:32], row.item.prompt
            messages = (Message("user", asked),) if isinstance(asked, str) else tuple(asked)
            about: dict[str, Any] = {"operation": "evaluation", "model": cell.fingerprint, "prompt": cell.prompt}
            log.record(Interaction(name, cell.time, messages, row.response.text, route=cell.model, **about)).result()
            ids.append(name)
    return enqueue(log, ids, f"test:{grid.cells[0].task}", time.time())
