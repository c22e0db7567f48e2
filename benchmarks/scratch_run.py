"""The recipe "scratch" from end to end on real texts: undisturbed, and killed twice on the way. Are both the same?

    .venv/bin/python benchmarks/scratch_run.py [--minutes 10] [--workspaces FOLDER] [--json FILE]

Every second of the classic books and Python's enhancement proposals (10 MB of 20) goes through `lmworks build scratch`:
a vocabulary of 4,096 tokens, a model trained for the minutes, dialogues, an index, a calibration, the report. Then
`lmworks ask` puts a question. A second build is killed with `kill -9` when it has logged a third and two thirds of its
steps, and started again with the same command; it must end with the same bits.

The target measures the machine, and no measurement comes out twice the same. So the second build is given what the
target gave to the first one, in its work folder, where a build that goes on finds its own. It also begins with a copy
of the stages that the pre-training does not shape, so that they are not made twice; what is compared are the
pre-trained and the tuned model: the content hashes of the artefacts, and the weights, file by file.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import builds
from contenders.texts import DATA, write_texts

from lmworks.artefact import read_manifest
from lmworks.generate import Engine, Request, SamplingParameters
from lmworks.model.checkpoint import load
from lmworks.records import Message

MODELS = ("pretrained", "tuned")
QUESTION = "What is a metaclass?"


def arguments(texts: Path, workspace: Path, options: argparse.Namespace) -> list[str]:
    settings = [
        f"pretrained.minutes={options.minutes}",
        f"pretrained.train.checkpoint.steps={options.checkpoint}",
        "questions.gold=[]",  # the recipe's own are about Python's documentation
        *options.set,
    ]
    given = [part for setting in settings for part in ("--set", setting)]
    return ["build", "scratch", "--docs", str(texts), "--workspace", str(workspace), *given]


def undisturbed(command: list[str], workspace: Path, derived: Path) -> float:
    """Builds, keeps what the target gave, and tells how long it took in seconds."""
    began, log = time.perf_counter(), workspace.with_suffix(".log")
    builds.finish(builds.lmworks(command, log), log, workspace / "work", keep=derived)
    return time.perf_counter() - began


def prepare_second(first: Path, second: Path, derived: Path) -> None:
    """A workspace with the first one's stages but the models, and with the numbers of its target."""
    key = builds.artefact(first, "pretrained").name
    shutil.copytree(first / "stages", second / "stages", ignore=shutil.ignore_patterns(*MODELS))
    work = second / "work" / "pretrained" / key
    work.mkdir(parents=True)
    shutil.copyfile(derived, work / builds.DERIVED)


def killed_twice(command: list[str], workspace: Path, steps: int) -> list[int]:
    """Builds with two kills on the way; the steps that were logged last before each."""
    log, work, kills = workspace.with_suffix(".log"), workspace / "work", []
    for part in (1, 2):
        kills.append(builds.kill_at(builds.lmworks(command, log), log, work, steps * part // 3))
        print(f"  killed at step {kills[-1]:,} of {steps:,}", flush=True)
    builds.finish(builds.lmworks(command, log), log, work)
    return kills


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Of each model: the content hashes of both artefacts, and which of their files differ."""
    found: dict[str, Any] = {}
    for stage in MODELS:
        ours, theirs = (read_manifest(builds.artefact(each, stage)) for each in (first, second))
        names = ours.files.keys() | theirs.files.keys()
        found[stage] = {
            "content": [ours.content_hash, theirs.content_hash],
            "differing": sorted(name for name in names if ours.files.get(name) != theirs.files.get(name)),
            "files": len(names),
        }
    return found


def answer(workspace: Path, question: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "lmworks", "ask", question, "--workspace", str(workspace), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def answer_alone(workspace: Path, question: str) -> str:
    """What the tuned model says by itself, its most probable token each time."""
    engine = Engine(load(builds.artefact(workspace, "tuned")))
    (completion,) = engine.generate(
        [Request(messages=(Message("user", question),), sampling=SamplingParameters(max_tokens=60))]
    )
    return completion.text


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    texts = folder / "texts"
    for number, path in enumerate(write_texts(options.data, texts)):
        if number % options.share:
            path.unlink()
    first, second, derived = folder / "undisturbed", folder / "killed", folder / builds.DERIVED
    seconds = undisturbed(arguments(texts, first, options), first, derived)
    steps = json.loads(derived.read_text())["steps"]
    metrics = read_manifest(builds.artefact(first, "pretrained")).metrics
    rows = builds.curve(builds.artefact(first, "pretrained") / builds.LOG)
    print(f"undisturbed: {seconds:,.0f} s in all, {metrics['parameters']:,} parameters, {steps:,} steps", flush=True)
    for row in rows:
        told = f"{row['seconds']:6.0f} s  {row['nats']:.3f} nats  {row['bits_per_byte']:.3f} bits per byte"
        print(f"  step {row['step']:6,}  {told}")
    prepare_second(first, second, derived)
    kills = killed_twice(arguments(texts, second, options), second, steps)
    gone_on = builds.events(builds.artefact(second, "pretrained") / builds.LOG)
    print("\n".join(f"  {event}" for event in gone_on))
    found = compare(first, second)
    for stage, each in found.items():
        same = "the same" if len(set(each["content"])) == 1 else f"OTHERS: {', '.join(each['differing'])} differ"
        print(f"  {stage}: {' and '.join(h[:12] for h in each['content'])}, {each['files']} files, {same}")
    said, alone = answer(first, options.question), answer_alone(first, options.question)
    print(f"\n{options.question}\n  the system: {said['text']}")
    for citation in said["citations"]:
        print(f"  from {citation['uri']}")
    print(f"  the model without the documents: {alone}")
    return {
        "minutes": options.minutes, "seconds": seconds, "metrics": dict(metrics), "curve": rows, "steps": steps,
        "kills": kills, "gone_on": gone_on, "compared": found, "question": options.question, "answer": said,
        "answer_alone": alone,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with classic-books and peps")
    parser.add_argument("--minutes", type=float, default=10.0, help="of pre-training")
    parser.add_argument("--share", type=int, default=2, help="take every so-manieth text alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME.key=value", help="further settings of the recipe")
    parser.add_argument("--checkpoint", type=int, default=50, help="steps between two checkpoints")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--workspaces", type=Path, help="a new folder that stays; without it, nothing stays")
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    if options.workspaces:
        options.workspaces.mkdir(parents=True)
        found = run(options.workspaces.resolve(), options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = run(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if any(each["differing"] for each in found["compared"].values()):
        raise SystemExit("the build that was killed ended with other bits")


if __name__ == "__main__":
    main()
