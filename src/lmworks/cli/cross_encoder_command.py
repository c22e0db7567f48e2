"""The verb `train`: rows, or a built corpus, to a reader, a reranker or a verifier, with a card."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lmworks.artefact import check_new, publish, read_json, write_rows
from lmworks.cli.options import WORKSPACES, SettingsOption
from lmworks.cli.output import new_console, say, show_sections
from lmworks.progress import stage_progress
from lmworks.records import Scored
from lmworks.report import Section, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lmworks.evaluate.cross_encoder_scores import HeadScores
    from lmworks.generate.cross_encoder import CrossEncoder
    from lmworks.train.objectives.cross_encoder_objective import Row

Task = Literal["reader", "reranker", "verifier"]


def train(
    task: Annotated[Task, typer.Argument(help="What it learns to be.")],
    rows: Annotated[list[str] | None, typer.Option(help=".jsonl files, folders or globs; repeatable.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="A workspace, of whose index rows are made.")] = None,
    writer: Annotated[str | None, typer.Option(help="A language model that asks about the corpus, best of 1B.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make. Default: ROWS-TASK.")] = None,
    promote: Annotated[Path | None, typer.Option(help="A workspace that is to use it, if it is better.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Train a reader, reranker or verifier: LoRA and a head on MiniLM, minutes on a CPU.

    Each line of the rows is one JSON object:

    - reader: `{"question": "Who wrote it?", "context": "Ada wrote it.", "answers": {"text": ["Ada"], "answer_start":
    [0]}}`, as SQuAD's; empty lists where the context does not answer, which it must see, too
    - reranker: `{"anchor": "a question", "positive": "a passage that answers it", "negatives": ["one that does not"]}`
    - verifier: `{"premise": "...", "hypothesis": "...", "label": "entailment"}`, or `neutral`, or `contradiction`

    The folder holds the adapter (PEFT's files) and `card.json`: rows, base, scores with intervals on rows that were
    held out, and the command that makes it again. You can stop it: the same command resumes. A
    language model is trained by `lmworks finetune`, or from scratch by `lmworks build scratch`.

    Example: `lmworks train reranker --rows faq.jsonl --out faq-reranker`, or `lmworks train reader --corpus
    .lmworks/handbook --promote .lmworks/handbook`
    """
    from lmworks.build import run_alone, sections
    from lmworks.data.conversations import pair_files
    from lmworks.data.training_rows import split_rows
    from lmworks.evaluate.cross_encoder_scores import evaluate_head, write_scores
    from lmworks.train.objectives.cross_encoder_objective import group_of, read_rows
    from lmworks.train.stage_cross_encoder import CARD, LEAST_HELD_OUT
    from lmworks.workspace import read_current

    if not rows and corpus is None:
        raise ValueError("name rows with --rows FILE, or a workspace to make them of with --corpus WORKSPACE")
    if promote:
        read_current(promote)
    out, console = out or Path(f"{Path((rows or [corpus or ''])[0]).stem}-{task}"), new_console()
    if not (out / CARD).exists():  # else it is scored, and promoted, if it is of the same rows and settings
        check_new(out)
    files = [*(rows or []), *([_rows_of_corpus(corpus, task, writer, out.name, console)] if corpus else [])]
    named = [f"task={task}", f"rows={json.dumps(files)}", *(settings or [])]
    made = run_alone("train.cross_encoder", out, [], [], named, console, again=True)
    share, examples = made.manifest.config["held_out"], read_rows(pair_files(files, Path()), task)
    held_out = split_rows(examples, share, group_of, LEAST_HELD_OUT)[1]
    with stage_progress(console, "scores") as progress:
        found = evaluate_head(_opened(out), task, held_out, progress)
    write_scores(out, {"held out": found})
    table = Table(("metric", "score"), tuple(found.scores.items()))
    show_sections([*sections([made]), Section("Scores on rows that were held out", "", (table,))])
    say(f"\nCard: {out / CARD}. Again: {read_json(out / CARD)['command']}")
    if promote:
        _promote(out, task, promote, found, held_out)
    else:
        say(f'Use it: `{task} = "{out.resolve()}"` under [models] of a recipe, or --promote WORKSPACE')


def _opened(source: str | Path) -> "CrossEncoder":
    from lmworks.adapt.adapter import load
    from lmworks.generate.cross_encoder import CrossEncoder

    return CrossEncoder(load(source))


def _rows_of_corpus(corpus: Path, task: Task, writer: str | None, name: str, console: "Console") -> str:
    """The file of rows that are made of a workspace's index."""
    from lmworks.adapt.adapter import load
    from lmworks.generate.engine import Engine
    from lmworks.ground.config import AnswerConfig
    from lmworks.ground.corpus_rows import corpus_rows, question_writer
    from lmworks.ground.grounded_answer import open_finder
    from lmworks.model.download import locate
    from lmworks.workspace import artefact_of, read_current

    current, packaged = read_current(corpus), locate("minilm-reranker")
    models = {**({"reranker": str(packaged)} if packaged.exists() else {}), **current.models}
    finder = open_finder(artefact_of(corpus, current, "retrieve.index"), models, AnswerConfig(), ("reranker",))
    write = question_writer(Engine(load(writer), context_length=1024)) if writer else None
    with stage_progress(console, "questions") as progress:
        rows, left_out = corpus_rows(finder, task, write, progress=progress)
    path = WORKSPACES / "train" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, rows)
    lost = "; ".join(f"{count:,} questions left out: {reason}" for reason, count in left_out.most_common())
    say(f"{len(rows):,} rows of {corpus} in {path}. {lost}")
    return str(path)


def _promote(out: Path, task: Task, workspace: Path, found: "HeadScores", rows: "Sequence[Row]") -> None:
    """Put the head in the place of the one that a workspace uses, where it is better on the held-out rows, paired."""
    from lmworks.evaluate.cross_encoder_scores import evaluate_head
    from lmworks.workspace import read_current

    current = read_current(workspace)
    name, place = current.names.get(task, f"minilm-{task}"), (workspace / "models" / task).resolve()
    tested = found.less(evaluate_head(_opened(current.models.get(task, name)), task, rows))[0]
    less, difference = f"{tested.metric} less that of {name} is {tested.difference}", tested.difference
    if tested.verdict != "better" or not isinstance(difference, Scored) or difference.interval[0] <= 0:
        missed = f"; it misses by {max(-difference.interval[0], 0):.3f}" if isinstance(difference, Scored) else ""
        say(f"Saved but not promoted: {less}{missed}")
        return
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as private:  # whole, before it takes the place of another
        whole = shutil.copytree(out, Path(private) / task)
        if place.exists():
            place.rename(Path(private) / "before")
        publish(whole, place)
    say(f'Promoted: {less}\nThe recipe names it under [models] as `{task} = "{place}"`; the next build makes')
    say("again what depends on it. Once, without a change of the recipe:")
    say(f"  lmworks build {current.recipe} --workspace {workspace} --set models.{task}={place}")
