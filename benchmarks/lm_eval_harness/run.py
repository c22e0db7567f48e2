"""Run lm-evaluation-harness with `transformers` and as a client of a server, and compare what they measure.

    python benchmarks/lm_eval_harness/run.py --model FOLDER --served NAME --data DATA --out OUT [--url http://127.0.0.1:8000]

For an environment with `lm-eval[api,hf]`, which need not be the one that serves. FOLDER holds the weights that
`transformers` reads in float32, and the tokenizer of both; NAME is what the server calls its model; DATA was written by
`data.py`. Results lie in OUT/transformers and OUT/LABEL; what is there is compared again, not measured again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from comparison import measured, rows

TASKS = Path(__file__).resolve().parent / "tasks"
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "out"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--served", required=True, help="the server's name for the model, as GET /v1/models tells it")
    parser.add_argument("--label", default="served", help="of the server's results: another one for other weights")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--tasks", nargs="+", default=sorted(path.stem for path in TASKS.glob("*.yaml")))
    parser.add_argument("--limit", type=int, default=200, help="items of each task")
    options = parser.parse_args()
    url = f"{options.url}/v1/completions"
    client = f"model={options.served},base_url={url},tokenizer={options.model},tokenizer_backend=huggingface"
    contenders = {
        "transformers": ["--model", "hf", "--model_args", f"pretrained={options.model},dtype=float32"],
        options.label: ["--model", "local-completions", "--model_args", client],
    }
    for name, model in contenders.items():
        if not measured(options.out / name):
            evaluate(model, options.tasks, options.limit, options.data, options.out / name)
    print(f"| task | metric | n | transformers | {options.label} | difference / stderr | item by item |")
    print("|---|---|---|---|---|---|---|")
    for task in options.tasks:
        print(*rows(task, options.out / "transformers", options.out / options.label), sep="\n")


def evaluate(model: list[str], tasks: list[str], limit: int, data: Path, out: Path) -> None:
    """In a process of its own, which begins in `data`, from where the tasks name their files."""
    command = [sys.executable, "-m", "lm_eval", "run", *model, "--tasks", ",".join(tasks), "--include_path", str(TASKS)]
    command += ["--batch_size", str(BATCH), "--limit", str(limit), "--device", "cpu"]
    command += ["--log_samples", "--output_path", str(out)]
    subprocess.run(command, cwd=data, check=True)


if __name__ == "__main__":
    main()
