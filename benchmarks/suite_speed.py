"""Speed and parity of `lmworks eval` beside lm-evaluation-harness on `transformers`: five tasks, item by item.

    python3 -m venv harness && harness/bin/pip install 'lm-eval[hf]'
    .venv/bin/python benchmarks/suite_speed.py --harness harness/bin/python --model FOLDER --data DATA --out OUT

FOLDER holds float32 weights, as `lmworks.load("smollm2-135m-instruct").save(FOLDER)` writes them; DATA what the tasks
read (`lmworks eval list --data DATA`). Each round runs, task by task, the harness and then each setting of lmworks, as
whole commands; what takes a command to start is measured by one item and taken off in the second ratio. Runs that are
there already are not repeated: after a change delete OUT/lmworks-*.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_harness.comparison import samples

from lmworks.evaluate.results import Result, read_results
from lmworks.evaluate.task import BUILT_IN, read_rows, read_tasks

TEMPLATES = Path(__file__).resolve().parent / "lm_eval_harness" / "tasks"
SUBJECTS = (
    "abstract_algebra anatomy astronomy college_biology global_facts high_school_geography marketing nutrition "
    "philosophy world_religions"
).split()
TASKS = {
    "mmlu": [f"mmlu_local_{subject}" for subject in SUBJECTS],
    "arc-easy": ["arc_easy_local"],
    "boolq": ["boolq_local"],
    "winogrande": ["winogrande_local"],
    "svamp": ["svamp_local"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("harness", "model", "data", "out"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--limit", type=int, default=200, help="items of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--dtype", default="float32", help="of the harness")
    parser.add_argument("--batch", default="16", help="of the harness")
    parser.add_argument("--weights", nargs="+", default=["float32", "auto"], help='settings of lmworks; "gguf": --gguf')
    parser.add_argument("--gguf", default="smollm2-135m-instruct", help="the quantised model, by its file or name")
    options = parser.parse_args()
    write_tasks(options.data, options.out)
    contenders = [f"harness-{options.dtype}-{options.batch}", *(f"lmworks-{each}" for each in options.weights)]
    for number in range(options.rounds + 1):  # the last one has one item of each task: what it takes to start
        limit = options.limit if number < options.rounds else len(SUBJECTS)
        for task in options.tasks:
            for contender in contenders:
                run(contender, task, limit if task == "mmlu" or number < options.rounds else 1, number, options)
    for task in options.tasks:
        print(f"\n{task}")
        theirs = harness_items(options.out / contenders[0] / f"{task}-0", TASKS[task])
        start = [seconds(options.out / each / f"{task}-{options.rounds}") for each in contenders]
        for place, contender in enumerate(contenders[1:], 1):
            own, _ = read_results(options.out / contender / f"{task}-0")
            print(f"  {contender}: {agreement(theirs, own)}")
            pairs = [
                [seconds(options.out / each / f"{task}-{number}") for each in (contenders[0], contender)]
                for number in range(options.rounds)
            ]
            for kind, name in enumerate(("clock", "processor")):
                whole = statistics.median(one[kind] / two[kind] for one, two in pairs)
                began = start[0][kind], start[place][kind]
                rest = statistics.median((one[kind] - began[0]) / (two[kind] - began[1]) for one, two in pairs)
                spent = [tuple(round(each[kind], 1) for each in pair) for pair in pairs]
                print(f"    {name}: {whole:.1f} times as fast, {rest:.1f} without the start {began}; seconds {spent}")


def write_tasks(data: Path, out: Path) -> None:
    """The rows that lmworks reads as JSON lines, and the tasks of the harness over them."""
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for path in TEMPLATES.iterdir():
        (folder / path.name).write_text(path.read_text("utf-8"), "utf-8")
    for subject in SUBJECTS:
        files = "".join(f"\n    {part}: mmlu_{subject}_{part}.jsonl" for part in ("test", "dev"))
        text = f"include: mmlu_local_template\ntask: mmlu_local_{subject}\ndataset_kwargs:\n  data_files:{files}\n"
        (folder / f"mmlu_{subject}.yaml").write_text(text, "utf-8")
    mmlu = (BUILT_IN / "mmlu.toml").read_text("utf-8")
    members = ", ".join(f'"mmlu/*.tar*:*test/{subject}_test.csv"' for subject in SUBJECTS)
    (out / "mmlu.toml").write_text(re.sub(r"(?m)^files = .*", f"files = [{members}]", mmlu, count=1), "utf-8")
    for name in TASKS:
        (task,) = read_tasks([suite_of(name, out)])
        asked = read_rows(task, task.files, data)
        shots = read_rows(task, task.shots.files, data) if task.shots.files else []
        if task.shots.held_out:
            asked, shots = asked[: -task.shots.held_out], asked[-task.shots.held_out :]
        files = {"test": asked, "dev": shots, "examples": shots}
        for part, rows in files.items():
            for file in {row["file"] for _, _, row in rows} if name == "mmlu" else [name]:
                subject = f"_{file.rpartition('_')[0]}_{part}" if name == "mmlu" else ""
                suffix = "_examples" if part == "examples" else ""
                path = folder / f"{name.replace('-', '_')}{subject or suffix}.jsonl"
                own = [row for _, _, row in rows if name != "mmlu" or row["file"] == file]
                if own and (part != "dev" or subject):
                    path.write_text("".join(json.dumps(columns(row)) + "\n" for row in own), "utf-8")


def columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the columns that the tasks of the harness name."""
    contexts = [row["before"] + choice for choice in row["choices"]] if "before" in row else []
    return {**row, **({"contexts": contexts} if contexts else {}), "gold": row["answer"]}


def suite_of(task: str, out: Path) -> str:
    return str(out / "mmlu.toml") if task == "mmlu" else task


def run(contender: str, task: str, limit: int, number: int, options: argparse.Namespace) -> None:
    """One command, timed, in its own process, unless that was done before."""
    folder = options.out / contender / f"{task}-{number}"
    if (folder / "seconds").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder.with_name(f".{folder.name}.work"), ignore_errors=True)
    if contender.startswith("harness"):
        each = str(limit // len(TASKS[task]))
        command = [options.harness, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--tasks"]
        command += [",".join(TASKS[task]), "--include_path", options.out / "data", "--limit", each, "--log_samples"]
        command += ["--model_args", f"pretrained={options.model},dtype={options.dtype}", "--output_path", folder]
        command += ["--batch_size", options.batch]
    else:
        model = options.gguf if contender.endswith("gguf") else options.model
        command = [Path(sys.executable).with_name("lmworks"), "eval", model, "--suite", suite_of(task, options.out)]
        command += ["--data", options.data, "--limit", str(limit), "--out", folder]
        command += [] if contender.endswith("gguf") else ["--set", f"weights={contender.removeprefix('lmworks-')}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    began = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "passive")  # else threads of either spin while others work on the machine
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=options.out / "data", env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))}\n{log.read_text('utf-8')}")
    spent = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    (folder / "seconds").write_text(json.dumps(spent), "utf-8")
    print(f"{contender:24} {task:12} {limit:4} items {spent[0]:8.1f} s, {spent[1]:8.1f} of a processor", flush=True)


def seconds(folder: Path) -> tuple[float, float]:
    """Those of the clock, and those of the processor, which other work on the machine changes less."""
    wall, processor = json.loads((folder / "seconds").read_text("utf-8"))
    return wall, processor


def harness_items(folder: Path, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """(answers, metric) of each item: subjects in turns, as lmworks takes rows of several files."""
    files = [samples(folder, task) for task in tasks]
    return [row for turn in zip(*files, strict=True) for row in turn]


def agreement(theirs: Sequence[dict[str, Any]], own: Sequence[Result]) -> str:
    """Items whose answers are equal, the largest difference of ln p, and both means."""
    metric = "acc" if "acc" in theirs[0] else "exact_match"
    means = [sum(row[metric] for row in theirs) / len(theirs)]
    means.append(sum(float(next(iter(row.values.values()))) for row in own) / len(own))  # type: ignore[arg-type]
    if metric == "exact_match":
        same = sum(row["resps"][0][0] == mine.response.text for row, mine in zip(theirs, own, strict=True))
        return f"{same} of {len(own)} texts equal; mean {means[0]:.4f} and {means[1]:.4f}"
    pairs = [
        ([float(answer[0][0]) for answer in row["resps"]], list(mine.response.choices))
        for row, mine in zip(theirs, own, strict=True)
    ]
    same = sum(one.index(max(one)) == two.index(max(two)) for one, two in pairs)
    apart = max(abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True))
    both = f"{metric} {means[0]:.4f} and {means[1]:.4f}"
    return f"{same} of {len(own)} choices equal, ln p at most {apart:.2g} apart; {both}"


if __name__ == "__main__":
    main()
