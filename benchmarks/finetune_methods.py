"""Fine-tuning methods on people's instructions: what each makes of a model in the same time, or of the same size.

    .venv/bin/python benchmarks/finetune_methods.py OUT --minutes 10                 LoRA, bottleneck and full
    .venv/bin/python benchmarks/finetune_methods.py OUT --table parameters --epochs 0.15   equal steps

Trained on T0's tasks but QuaRTz, self-instruct and OpenAssistant. Measured before and after: nats a token of held-out
rows, exact match on rows of the tasks that were trained and on QuaRTz, which was not, and IFEval. Runs that are there
already are not repeated. Differences are paired, item by item, with 95 % intervals.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from contenders.texts import DATA
from finetune_data import NAMES, instruction_rows

from lmworks import Engine, load
from lmworks.artefact import read_json, read_manifest, write_json
from lmworks.evaluate.comparison import compare_runs, compare_values
from lmworks.evaluate.metric import Item, Metric, ratio, score
from lmworks.evaluate.results import read_scores
from lmworks.records import Message

ROWS = {"t0": 4000, "self-instruct": 1000, "oasst": 1000}  # at most, of each
UNSEEN = "t0/quartz"
BATCH, LENGTH = 8, 512
# Whatever is not said is derived, as `lmworks finetune` does.
TABLES = {
    "minutes": {
        "lora": ["method.kind=lora", "method.lora_alpha=32"],
        "bottleneck": ["method.kind=bottleneck"],
        "full": ["method.kind=full"],
    },
    "parameters": {
        "lora-1": ["method.kind=lora", "method.r=1", "method.lora_alpha=32"],
        "dora-1": ["method.kind=lora", "method.use_dora=true", "method.r=1", "method.lora_alpha=32"],
        "bottleneck-4": ["method.kind=bottleneck", "method.bottleneck_size=4"],
        "prefix-26": ["method.kind=prefix", "method.num_virtual_tokens=26"],
        "ia3": ["method.kind=ia3"],
    },
}
TASK = """name = "{name}"
purpose = "short answers"
source = "T0's prompts"
files = ["{name}.jsonl"]
request = "generation"
prompt = "{{prompt}}"
chat = true
max_tokens = 24
metrics = ["exact-match", "token-f1"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=lambda text: Path(text).absolute())
    parser.add_argument("--table", default="minutes", choices=TABLES)
    parser.add_argument("--base", default="smollm2-135m-instruct")
    parser.add_argument("--epochs", type=float, help="instead of minutes")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--ifeval", type=int, default=150, help="prompts; 0: none")
    parser.add_argument("--rows", type=int, default=200, help="of each task of short answers")
    options = parser.parse_args()
    write_rows(options.out, options.rows, options.base)
    runs = {"base": options.base}
    for name, settings in TABLES[options.table].items():
        target = f"epochs={options.epochs}" if options.epochs else f"minutes={options.minutes}"
        given = [f"base={options.base}", f"batch={BATCH}", f"length={LENGTH}", target, *settings]
        lmworks(options.out / name, "stage", "train.finetune", "--from", "tokens", "--from", "validation", given=given)
        runs[name] = name
    for name, model in runs.items():
        tasks = ["--suite=seen.toml", "--suite=unseen.toml", "--data=."]
        suites = {"tasks": tasks, "ifeval": ["--suite=ifeval", f"--data={DATA}", f"--limit={options.ifeval}"]}
        for kind in suites if options.ifeval else ("tasks",):
            made = options.out / f"{name}-{kind}"
            lmworks(made, "eval", "run", model, *suites[kind], given=["weights=bfloat16"])
    models = {name: model if name == "base" else str(options.out / model) for name, model in runs.items()}
    print_table(options.out, models, ("tasks", "ifeval") if options.ifeval else ("tasks",))


def write_rows(out: Path, count: int, base: str) -> None:
    """Rows of messages to train on, tasks of the rows held out, and the token shards of both."""
    if (out / "validation").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, list[dict[str, str]]] = {"seen": [], "unseen": []}
    for held_out, side in ((False, "training"), (True, "held-out")):
        rows = []
        for name in NAMES:
            found = sorted(instruction_rows(name, held_out), key=lambda row: sha256(json.dumps(row).encode()).digest())
            rows += [row for row in found if not row["source"].startswith(UNSEEN)][: ROWS[name]]
            for row in found if held_out and name == "t0" else []:
                prompt, answer = (message["content"] for message in row["messages"])
                kind = "unseen" if row["source"].startswith(UNSEEN) else "seen"
                if len(answer) < 40 and len(tasks[kind]) < count:
                    tasks[kind].append({"prompt": prompt, "answer": answer})
        messages = "".join(json.dumps({"messages": row["messages"]}) + "\n" for row in rows)
        (out / f"{side}.messages.jsonl").write_text(messages, encoding="utf-8")
    for kind, rows in tasks.items():
        (out / f"{kind}.toml").write_text(TASK.format(name=kind))
        (out / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for part, name in (("training", "tokens"), ("held_out", "validation")):
        given = ['conversations=["training.messages.jsonl"]', f"tokenizer={base}", f"length={LENGTH}"]
        lmworks(out / name, "stage", "data.tokenize", given=[*given, "held_out=0.03", f"part={part}"])


def lmworks(made: Path, *verb: str, given: list[str] | None = None) -> None:
    """Run a command that makes a folder, unless it is there."""
    if not made.exists():
        settings = [part for each in given or () for part in ("--set", each)]
        command = [str(Path(sys.executable).with_name("lmworks")), *verb, "--out", made.name, *settings]
        subprocess.run(command, cwd=made.parent, check=True)


def answer_nats(made: Path, model: str, rows: Path) -> list[tuple[float, float]]:
    """(nats, tokens) of the last answer in each row of at most LENGTH tokens, given the turns before it."""
    if not made.exists():
        checkpoint = load(model)
        contexts, answers = [], []
        for line in rows.read_text("utf-8").splitlines():
            whole = checkpoint.chat.render([Message(**message) for message in json.loads(line)["messages"]])
            start = len(whole.ids) - whole.training_mask[::-1].index(True)  # behind the last token that is learned
            stop, mask = start, whole.training_mask
            while mask[start - 1]:
                start -= 1
            if stop <= LENGTH:
                contexts.append(whole.ids[:start])
                answers.append(whole.ids[start:stop])
        scores = Engine(checkpoint, weights="bfloat16").score(contexts, answers)
        write_json(made, [(-score.total, len(score.log_probabilities)) for score in scores])
    return [(nats, tokens) for nats, tokens in read_json(made)]


def print_table(out: Path, runs: Mapping[str, str], kinds: Sequence[str]) -> None:
    """Each run after the base, less the base, with an interval of the paired differences."""
    rows = out / "held-out.messages.jsonl"
    nats = {name: answer_nats(out / f"{name}-nats.json", model, rows) for name, model in runs.items()}
    items = [Item(str(number), prompt="") for number in range(len(nats["base"]))]
    for name in runs:
        if name != "base":
            metrics = read_manifest(out / name).metrics
            print(f"\n{name}:", ", ".join(f"{metrics[each]:,} {each}" for each in ("parameters", "steps", "targets")))
            print(" ", compare_values(ratio, items, nats[name], nats["base"], False, task="held-out", metric="nats"))
            for kind in kinds:
                for found in compare_runs(out / f"{name}-{kind}", out / f"base-{kind}"):
                    print(" ", found)
        losses = score(Metric("nats", lambda *_: [], higher_is_better=False), items, nats[name])
        print(f"  {name}, held-out nats a token: {losses}")
        for kind in kinds:
            for task, scores in read_scores(out / f"{name}-{kind}").items():
                for metric, found in scores.items():
                    print(f"  {name}, {task} {metric}: {found.score}")


if __name__ == "__main__":
    main()
