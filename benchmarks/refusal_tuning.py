"""Refusal-aware tuning of a small model: what it answers and refuses of held-out questions, before and after.

    python benchmarks/refusal_tuning.py --refusals 0.5

Closed book: NQ-open, of which the model knows some 5 %. With a passage: SQuAD 2.0, whose questions have an answer in
it, or none, or are asked with another one. The data lie in LMWORKS_SHARED_DATA, or ../shared/data.
"""

import argparse
import gzip
import json
import os
import random
import tempfile
from pathlib import Path

from rich.console import Console

from lmworks.build import build
from lmworks.evaluate.comparison import compare_runs
from lmworks.evaluate.metric import score
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import read_results
from lmworks.ground.refusal_rows import CLOSED
from lmworks.recipe import load

DATA = Path(os.environ.get("LMWORKS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
TASK = """name = "{name}"
purpose = "questions with short answers"
source = "{name}"
files = ["{name}.jsonl"]
request = "generation"
prompt = "{prompt}"
answer = "{answer}"
{contexts}
metrics = ["contains"]
"""

RECIPE = """name = "refusal-tuning"
models = {{ base = "{model}", model = "stages.tuned" }}
[stages]
rows = {{ use = "ground.refusals", tasks = ["nq.toml", "squad.toml"], refusals = {refusals}, known_by = "{known_by}" }}
tokens = {{ use = "data.tokenize", from = ["rows"], tokenizer = "{model}" }}
refusals = {{ use = "evaluate.suite", from = ["rows"], suite = ["refusals"] }}
[stages.tuned]
use = "train.finetune"
from = ["tokens"]
base = "{model}"
epochs = {epochs}
rate = {rate}
batch = {batch}
method = {method}
"""


def squad(questions: int) -> list[dict[str, object]]:
    """Rows of the half of SQuAD 2.0's development set, drawn over all articles."""
    with gzip.open(DATA / "squad2-dev-half" / "dev-v2.0.json.gz", "rt") as stream:
        articles = json.load(stream)["data"]
    paragraphs = [one for article in articles for one in article["paragraphs"] if len(one["context"]) <= 900]
    rows: list[dict[str, object]] = [
        {
            "question": question["question"],
            "answers": sorted({one["text"] for one in question["answers"]}, key=lambda text: (len(text), text))
            or ["I don't know"],
            "passages": [paragraph["context"]],
            "answerable": not question["is_impossible"],
        }
        for paragraph in paragraphs
        for question in paragraph["qas"]
    ]
    random.Random(0).shuffle(rows)
    return rows[:questions]


def nq(questions: int) -> list[dict[str, object]]:
    rows = []
    for path in sorted((DATA / "nq-open").glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as stream:
            rows += [{key: row[key] for key in ("question", "answer")} for row in map(json.loads, stream)]
    random.Random(0).shuffle(rows)
    return rows[:questions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=None)
    settings = {"model": "smollm2-135m-instruct", "known_by": "reference", "refusals": 0.3, "epochs": 1.0}
    settings |= {"rate": 1e-3, "batch": 4, "method": '{ kind = "lora", r = 16, lora_alpha = 32 }'}
    for name, value in {**settings, "nq": 5410, "squad": 400}.items():  # of the last two so many questions
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    chosen = vars(parser.parse_args())
    folder = chosen["workspace"] or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    made = {"nq": (nq, "{question}?", "answer", ""), "squad": (squad, "{question}", "answers", 'contexts = "passages"')}
    for name, (read, prompt, answer, contexts) in made.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in read(chosen[name])))
        (folder / f"{name}.toml").write_text(TASK.format(name=name, prompt=prompt, answer=answer, contexts=contexts))
    (folder / "recipe.toml").write_text(RECIPE.format(**{name: chosen[name] for name in settings}))
    outcomes = {
        one.name: one for one in build(load(folder / "recipe.toml"), folder / "workspace", Console(stderr=True))
    }
    print({name: f"{one.manifest.seconds:.0f} s" for name, one in outcomes.items()})
    before, after = (outcomes[name].folder for name in ("rows", "refusals"))
    runs = [read_results(one)[0] for one in (before, after)]
    for group in ("all", CLOSED, "with a passage"):
        for name in runs[0][0].values:
            of = [
                [one for one in run if group == "all" or (one.item.fields["kind"] == CLOSED) == (group == CLOSED)]
                for run in runs
            ]
            scores = [score(metric(name), [one.item for one in run], [one.values[name] for one in run]) for run in of]
            print(f"{group:<14} {name:<20} {scores[0]!s:<32} {scores[1]}")
    for line in compare_runs(after, before):
        print(line)


if __name__ == "__main__":
    main()
