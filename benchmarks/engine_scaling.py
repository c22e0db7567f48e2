"""How does speed change with the context, with the number of sequences, and with the threads? lmworks and llama.cpp.

    python benchmarks/engine_scaling.py [--llama-python PATH] [--rounds 3] [--out docs/engine-scaling]

Both read the same Q4_0 file and take turns, as in `engine_speed.py`. Draws OUT.svg and writes every value to OUT.json:

context     one sequence; the prompt is read, then continued. Keys and values grow until they are most of the work.
sequences   short prompts, all continued at once. They share each reading of the weights, until multiplying limits them.
threads     the long prompt, one sequence, eight sequences, on 1, 2, 4, … processors.

Points are medians over the rounds, bars reach from the slowest to the fastest one.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from contenders import client
from contenders.comparison import Measurements, in_turns
from contenders.models import Models, prepare
from matplotlib.axes import Axes

from lmworks.compiled import cores
from lmworks.generate.benchmark import Workload, prompts, spread

COLOURS = {"lmworks int4": "#0b6e8f", "llama.cpp Q4_0": "#c2571a"}
SHORT = 32  # tokens
Sweep = dict[str, dict[str, list[float]]]  # contender -> column -> a value for each round


def measure(models: Models, python: str, threads: int, works: Sequence[Workload], rounds: int) -> Sweep:
    """Columns "prefill 512 × 1" and "decode 512 × 1" for each workload; round 0 warms up."""
    slots, context = max(work.sequences for work in works), max(work.length for work in works)
    contenders = {
        "lmworks int4": client.lmworks("lmworks int4", models.q4_0, "int4", threads, slots, context),
        "llama.cpp Q4_0": client.llama_cpp("llama.cpp Q4_0", python, models.q4_0, threads),
    }
    measured = Measurements()
    for round_, order in in_turns(list(contenders), rounds + 1):
        for work in works:
            ids = prompts(work, models.vocabulary, round_)
            for name in order:
                answer = contenders[name].run(ids, work.new)
                for kind in ("prefill", "decode") if round_ else ():
                    measured.add(name, f"{kind} {work.prompt} × {work.sequences}", answer[kind])
    for contender in contenders.values():
        contender.close()
    return measured.values


def draw_line(axes: Axes, sweep: Sweep, columns: dict[int, str], title: str, label: str) -> None:
    for name, colour in COLOURS.items():
        spreads = [spread(sweep[name][column]) for column in columns.values()]
        medians = [found.median for found in spreads]
        reach = [[s.median - s.least for s in spreads], [s.most - s.median for s in spreads]]
        axes.errorbar(list(columns), medians, reach, color=colour, marker="o", markersize=4, capsize=2, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(columns), [str(value) for value in columns])
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)


def draw(everything: dict[str, Any], out: Path) -> None:
    contexts, sequences, threads = (everything[name] for name in ("contexts", "sequences", "threads"))
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    found = everything["context"]
    draw_line(axes[0, 0], found, {n: f"prefill {n} × 1" for n in contexts}, "reading a prompt, tokens/s", "context")
    draw_line(axes[0, 1], found, {n: f"decode {n} × 1" for n in contexts}, "continuing it, tokens/s", "context")
    columns = {n: f"decode {SHORT} × {n}" for n in sequences}
    draw_line(axes[0, 2], everything["batch"], columns, "all together, tokens/s", "sequences")
    by_threads = everything["by_threads"]
    for axis, column, title in zip(
        axes[1],
        ("prefill 512 × 1", "decode 512 × 1", f"decode {SHORT} × 8"),
        ("reading 512 tokens", "1 sequence at 512", "8 sequences"),
        strict=True,
    ):
        merged = {name: {str(n): by_threads[str(n)][name][column] for n in threads} for name in COLOURS}
        draw_line(axis, merged, {n: str(n) for n in threads}, f"{title}, tokens/s", "threads")
    axes[0, 0].legend(frameon=False)
    figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})


def powers(most: int) -> Iterator[int]:
    """1, 2, 4, … up to `most`."""
    value = 1
    while value <= most:
        yield value
        value *= 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a pulled model or a .gguf file")
    parser.add_argument("--llama-python", help="the Python that has llama-cpp-python; default: LLAMA_PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=32, help="tokens generated for each sequence")
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096, 8000])
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--threads", type=int, default=cores(), help="the most")
    parser.add_argument("--out", type=Path, default=Path("docs/engine-scaling"))
    options = parser.parse_args()
    python, new, threads = client.llama_python(options.llama_python), options.new, list(powers(options.threads))
    everything: dict[str, Any] = {"contexts": options.contexts, "sequences": options.sequences, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        models = prepare(options.model, python, Path(folder))

        def sweep(count: int, works: list[Workload]) -> Sweep:
            return measure(models, python, count, works, options.rounds)

        everything["context"] = sweep(options.threads, [Workload(n, 1, new) for n in options.contexts])
        everything["batch"] = sweep(options.threads, [Workload(SHORT, n, new) for n in options.sequences])
        chosen = [Workload(512, 1, new), Workload(SHORT, 8, new)]
        everything["by_threads"] = {str(count): sweep(count, chosen) for count in threads}
    options.out.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    draw(everything, options.out)


if __name__ == "__main__":
    main()
