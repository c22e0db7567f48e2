"""The verbs of `prompt`: versions of prompts, their labels, tests and search."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmworks.cli.options import WorkspaceOption, last_workspace, new_console, read_margins

if TYPE_CHECKING:
    from lmworks.generate.protocol import EngineProtocol
    from lmworks.prompt.config import Prompt
    from lmworks.prompt.few_shot import Encode
    from lmworks.prompt.prompt_store import PromptStore

app = typer.Typer(no_args_is_help=True, help="Prompts as versions: keep, compare, test, promote, roll back, improve.")

VersionArgument = Annotated[
    str, typer.Argument(help="NAME, NAME:LABEL, NAME:HASH, a .toml file, or a prompt that comes with lmworks.")
]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with the version or the move.")]
ByOption = Annotated[str, typer.Option("--by", help="Who does it. Default: the user of this machine.")]
ModelOption = Annotated[
    list[str],
    typer.Option("--model", help="A model, with @int4, @int8, @bfloat16 or @float32 for its weights; may be repeated."),
]
EmbedderOption = Annotated[str, typer.Option(help="Embedding model, for examples that are chosen by similarity.")]
DataOption = Annotated[Path, typer.Option(help="Folder of the task's files.", exists=True, file_okay=False)]
MarginOption = Annotated[
    list[str] | None,
    typer.Option("--margin", metavar="METRIC=NUMBER", help="How much worse it may be. Default: 0.05, every metric."),
]
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
    reason: ReasonOption = "",
    by: ByOption = "",
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
    made = _store(workspace).add(prompt, reason, who=by)
    typer.echo(f"{prompt.name}:{made.hash} ({made.who}: {made.reason})")


@app.command("list")
def show(
    name: Annotated[str, typer.Argument(help="A prompt; without it, all of them.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """List prompts, or the versions of one with their labels and reasons.

    Example: `lmworks prompt list support`
    """
    from lmworks.report import Section, Table, print_sections

    store = _store(workspace)
    rows = []
    for each in [name] if name else store.names():
        labels = store.labels(each)
        for one in store.versions(each):
            mine = ", ".join(label for label, version in labels.items() if version == one.hash)
            rows.append((each, one.hash, mine, _moment(one.time), one.who, one.reason))
    table = Table(("prompt", "version", "labels", "when", "by", "why"), tuple(rows))
    moves = tuple(
        (one.label, one.kind, one.version, _moment(one.time), one.who, one.reason)
        for label in (store.labels(name) if name else ())
        for one in store.history(name, label)
    )
    columns = ("label", "move", "version", "when", "by", "why")
    print_sections(new_console(), [Section("Prompts", tables=(table, *(Table(columns, moves),) * bool(moves)))])


@app.command()
def diff(old: VersionArgument, new: VersionArgument, workspace: WorkspaceOption = None) -> None:
    """Compare two versions part by part, and what their tests say of them.

    Example: `lmworks prompt diff support:production support`
    """
    from lmworks.prompt.prompt_file import prompt_diff
    from lmworks.prompt.prompt_grid import RUNS, version_deltas
    from lmworks.report import shown

    both = [_prompt(one, workspace) for one in (old, new)]
    console = new_console()
    for change in prompt_diff(*both):
        console.print(f"[bold]{change.part}[/bold]")
        for line in change.lines:
            style = {"-": "red", "+": "green"}.get(line[:1], "dim")
            console.print(f"[{style}]{shown(line)}[/{style}]", highlight=False, soft_wrap=True)
    for cell, found in version_deltas((workspace or last_workspace()) / RUNS, *both):
        console.print(f"\n{cell.task} on {cell.model}, {cell.n} cases, new less old:", highlight=False)
        for one in found:
            console.print(f"  {shown(str(one))}", highlight=False, soft_wrap=True)


@app.command()
def render(
    prompt: VersionArgument,
    slots: Annotated[list[str] | None, typer.Option("--slot", metavar="NAME=VALUE", help="May be repeated.")] = None,
    passages: Annotated[Path | None, typer.Option(help="Passages, the best first, as JSON lines.", exists=True)] = None,
    model: Annotated[str, typer.Option(help="Whose chat template and tokens; without it, the messages alone.")] = "",
    embedder: EmbedderOption = "",
    run: Annotated[bool, typer.Option("--run", help="Let the model answer.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Fill a prompt: its messages by part with their tokens, and the text that a model reads.

    Example: `lmworks prompt render support --slot message="Where is it?" --model smollm2-135m-instruct`
    """
    from lmworks.adapt.adapted_checkpoint import load
    from lmworks.prompt.filled_prompt import check_length, fill_prompt, token_counter
    from lmworks.report import shown

    wanted = _prompt(prompt, workspace)
    values = _slot_values(wanted, slots)
    rows = [json.loads(line) for line in passages.read_text("utf-8").splitlines() if line] if passages else []
    checkpoint = load(model) if model else None
    count = token_counter(checkpoint) if checkpoint else None
    filled = fill_prompt(wanted, values, rows, count=count, encode=_encoder(embedder))
    console = new_console()
    for span in filled.spans:
        message = filled.messages[span.message]
        console.print(f"[dim]{message.role}, {span.part}[/dim]", highlight=False)
        console.print(shown(message.content[span.start : span.end]), highlight=False, soft_wrap=True)
    tokens = ", ".join(f"{part} {size}" for part, size in (filled.tokens or {}).items())
    console.print(f"\n{wanted.name}:{filled.hash}{f'; tokens: {tokens}' if tokens else ''}", highlight=False)
    for one in filled.left_out:
        console.print(f"left out: {one}", highlight=False)
    if checkpoint is not None:
        check_length(filled, checkpoint)
        text = checkpoint.chat.render(filled.messages, add_generation_prompt=True).text
        console.print(f"\n{shown(text)}", highlight=False, soft_wrap=True)
    if run:
        if not model:
            raise ValueError("whose answer? Name a model: --model")
        console.print(shown(_engine(model).generate([filled.request()])[0].text), highlight=False, soft_wrap=True)


@app.command()
def label(
    name: Annotated[str, typer.Argument(help="The prompt.")],
    label: Annotated[str, typer.Argument(help="The label, such as production or candidate.")],
    version: Annotated[str, typer.Argument(help="A hash, its beginning, or a label. Default: the newest.")] = "",
    reason: ReasonOption = "",
    by: ByOption = "",
    margins: MarginOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Give a label to a version. For production it must be shown not to be worse, by `lmworks prompt test`.

    Example: `lmworks prompt label support production --reason "fewer wrong intents"`
    """
    from lmworks.prompt.prompt_grid import RUNS, move_label

    tests = (workspace or last_workspace()) / RUNS
    made = move_label(_store(workspace), tests, name, label, version, reason, who=by, margins=read_margins(margins))
    if made.gate is not None:
        typer.echo(f"Gate, new less old:\n{made.gate.text}")
    waits = "; it waits for a second person" if made.kind == "proposed" else ""
    typer.echo(f"{name}:{made.version} {made.kind} to {label} ({made.who}: {made.reason}){waits}")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The prompt.")],
    label: Annotated[str, typer.Argument(help="The label.")] = "production",
    reason: ReasonOption = "",
    by: ByOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Give a label back to the version that had it before.

    Example: `lmworks prompt rollback support --reason "thumbs down doubled"`
    """
    made = _store(workspace).rollback(name, label, reason, who=by)
    typer.echo(f"{name}:{made.version} has {label} again ({made.who}: {made.reason}); before it was {made.before}")


@app.command()
def test(
    task: Annotated[str, typer.Argument(help="A task of `lmworks eval` or a TOML file: the cases and metrics.")],
    prompts: Annotated[
        list[str], typer.Option("--prompt", help="As for `lmworks prompt diff`; the first is compared with.")
    ],
    data: DataOption,
    model: ModelOption,
    limit: Annotated[int, typer.Option(min=0, help="Cases; 0: all.")] = 0,
    free: Annotated[
        bool, typer.Option("--free", help="Each prompt also without holding answers to its format.")
    ] = False,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also the first prompt in other forms and orders.")
    ] = False,
    paraphrases: Annotated[
        list[str] | None, typer.Option("--paraphrase", help="Its instruction in other words, for --sensitivity.")
    ] = None,
    embedder: EmbedderOption = "",
    judge: Annotated[
        str, typer.Option(help="MODEL:RUBRIC:CALIBRATION of a judge, for the metrics judge and g-eval.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Write the report here, as one HTML page.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Test prompts × models on the same cases, paired case by case with intervals. What was run before is not again.

    Example: `lmworks prompt test intents.toml --data data --prompt support:production --prompt support --model
    smollm2-135m-instruct`
    """
    from lmworks.artefact import write_text
    from lmworks.evaluate.task import read_tasks
    from lmworks.progress import stage_progress
    from lmworks.prompt.grid_report import grid_sections
    from lmworks.prompt.prompt_grid import RUNS, Variant, read_cases, run_grid
    from lmworks.prompt.sensitivity import sensitivity_variants, spreads
    from lmworks.report import Section, print_sections, to_html

    (wanted,) = read_tasks([task])
    variants = [Variant(name, _prompt(name, workspace)) for name in prompts]
    variants += [
        Variant(f"{one.name}, free", one.prompt, enforced=False) for one in variants if free and one.prompt.format
    ]
    if sensitivity or paraphrases:
        variants += sensitivity_variants(variants[0].prompt, paraphrases or ())
    engines = {name: _engine(name) for name in model}
    folder = (workspace or last_workspace()) / RUNS
    roles, encode, console = _roles(judge), _encoder(embedder), new_console()
    with stage_progress(console, wanted.name) as report:
        cases = read_cases(wanted, data, limit)
        grid = run_grid(wanted, cases, variants, engines, folder, encode=encode, roles=roles, progress=report)
    sections = list(grid_sections(grid))
    if sensitivity or paraphrases:
        sections.append(Section("Sensitivity", "\n".join(map(str, spreads(grid)))))
    print_sections(console, sections)
    if out is not None:
        title = f"{wanted.name}: {len(variants)} prompts on {len(engines)} models"
        write_text(out, to_html(title, wanted.purpose, sections))
        typer.echo(f"report -> {out}")


@app.command()
def optimise(
    prompt: VersionArgument,
    task: Annotated[str, typer.Argument(help="A task of `lmworks eval` or a TOML file: the cases; its first metric.")],
    data: DataOption,
    model: Annotated[str, typer.Option("--model", help="A model, as for `lmworks prompt test`.")],
    train: Annotated[int, typer.Option(min=10, help="Cases to search on; the others are held out.")] = 60,
    limit: Annotated[int, typer.Option(min=0, help="Cases in all; 0: all.")] = 0,
    instructions: Annotated[
        list[str] | None, typer.Option("--instruction", help="A wording to try, beside the model's own.")
    ] = None,
    embedder: EmbedderOption = "",
    reason: ReasonOption = "",
    by: ByOption = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Search for better examples and a better instruction on some cases; say what they are worth on the others.

    With --reason the best prompt is kept as a version.

    Example: `lmworks prompt optimise support intents.toml --data data --model smollm2-135m-instruct --train 60`
    """
    from lmworks.evaluate.task import read_tasks
    from lmworks.progress import stage_progress
    from lmworks.prompt.prompt_file import prompt_hash
    from lmworks.prompt.prompt_grid import RUNS, read_cases
    from lmworks.prompt.prompt_search import search_prompt
    from lmworks.report import Section, Table, print_sections

    (wanted,), begun = read_tasks([task]), _prompt(prompt, workspace)
    found, cases = read_cases(wanted, data, limit)
    console, folder = new_console(), (workspace or last_workspace()) / RUNS
    with stage_progress(console, "search") as report:
        result = search_prompt(
            wanted, found, cases, begun, _engine(model), folder, train=train, instructions=instructions or (),
            encode=_encoder(embedder), progress=report,
        )  # fmt: skip
    rows = tuple((one.name, one.score, one.tokens, "better" if one.kept else "") for one in result.trials)
    before, after = result.per_case
    held = str(result.comparison) if result.comparison else "nothing better was found"
    text = (
        f"On {result.held_out} held-out cases: {held}. A case takes {after:.0f} tokens, before {before:.0f}. "
        f"The search took {result.tokens:,.0f} tokens on {result.train} cases."
    )
    table = Table(("tried", wanted.metrics[0], "tokens", ""), rows)
    print_sections(console, [Section(f"Search for {begun.name}", text, (table,))])
    if result.comparison and reason:
        made = _store(workspace).add(result.prompt, reason, who=by, parent=prompt_hash(begun))
        typer.echo(f"{begun.name}:{made.hash} ({made.who}: {made.reason})")


def _slot_values(prompt: "Prompt", texts: list[str] | None) -> dict[str, Any]:
    """The values of `--slot NAME=VALUE`, numbers where the slot takes them."""
    values: dict[str, Any] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--slot is NAME=VALUE, got {text!r}")
        number = name in prompt.slots and prompt.slots[name].kind in ("integer", "number")
        values[name] = json.loads(value) if number else value
    return values


def _roles(judge: str) -> dict[str, Any]:
    if not judge:
        return {}
    from lmworks.evaluate.judge import Judge, rubric

    name, _, rest = judge.partition(":")
    by, _, calibration = rest.partition(":")
    if not calibration:
        raise ValueError(
            "a judge of a gate is measured first: --judge MODEL:RUBRIC:FOLDER of `lmworks judge calibrate`"
        )
    return {"judge": Judge(_engine(name), rubric(by), calibration=calibration)}


def _store(workspace: Path | None) -> "PromptStore":
    from lmworks.prompt.prompt_store import PROMPTS, PromptStore

    return PromptStore((workspace or last_workspace()) / PROMPTS)


def _prompt(name: str, workspace: Path | None) -> "Prompt":
    """The prompt of a file, a version of the workspace, or one that comes with lmworks."""
    from lmworks.prompt.prompt_file import built_in, built_in_names, read_prompt

    if name.endswith(".toml"):
        return read_prompt(Path(name))
    base, _, version = name.partition(":")
    store = _store(workspace)
    return built_in(base) if base in built_in_names() and base not in store.names() else store.read(base, version)


def _engine(name: str) -> "EngineProtocol":
    from lmworks.adapt.adapted_checkpoint import load
    from lmworks.generate.engine import Engine

    source, _, weights = name.partition("@")
    return Engine(load(source), weights=weights or "auto")  # type: ignore[arg-type] - Engine refuses what it does not know


def _encoder(name: str) -> "Encode | None":
    if not name:
        return None
    from lmworks.adapt.adapted_checkpoint import load
    from lmworks.generate.text_embedding import TextEncoder
    from lmworks.prompt.few_shot import remembered

    encoder = TextEncoder(load(name))
    return remembered(lambda texts: encoder.encode(texts, "query"))


def _moment(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
