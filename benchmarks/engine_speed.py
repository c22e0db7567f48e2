"""How fast is the engine beside llama.cpp and transformers, on the same weights and the same tokens?

    python benchmarks/engine_speed.py [--llama-python PATH] [--rounds 3] [--model smollm2-135m-instruct] [--json FILE]

Every contender lives in a process of its own, pinned to the same processors. They take turns: one computes, the others
wait. In each round all of them get the same new prompts, in an order that is turned around from round to round.
llama.cpp writes the model as Q4_0 and Q8_0, and both sides read these files; transformers gets the same weights as
bfloat16. What is timed on all sides is prompts in, most probable tokens out; on ours that includes submitting requests,
scheduling, sampling, text and log-probabilities. Nothing guesses ahead.

Printed are medians over the rounds, in tokens per second of all sequences together, the median of the ratios within a
round (with the lowest and the highest), the memory of each process beyond its imported library, and how much of the
machine others took: numbers of a busy machine are not worth much.
"""

import argparse
import json
import tempfile
from pathlib import Path

from contenders import client
from contenders.bystanders import Watch
from contenders.client import Contender
from contenders.comparison import Measurements, in_turns, table
from contenders.models import Models, prepare

from lmworks.compiled import cores
from lmworks.generate.benchmark import Workload, prompts

PAIRS = [
    ("llama.cpp Q4_0", "lmworks int4"),
    ("llama.cpp Q8_0", "lmworks int8"),
    ("transformers bfloat16", "lmworks bfloat16"),
    ("transformers bfloat16", "lmworks int4"),
]


def workloads(new: int) -> dict[str, Workload]:
    """By the names of their columns; the first one's prompt is the column "prefill 512"."""
    return {
        "1 sequence at 512": Workload(512, 1, new),
        "8 sequences": Workload(32, 8, new),
        "16 sequences": Workload(32, 16, new),
    }


def start(models: Models, python: str, threads: int, works: list[Workload]) -> dict[str, Contender]:
    slots, context = max(work.sequences for work in works), max(work.length for work in works)
    ours = {"int4": models.q4_0, "int8": models.q8_0, "bfloat16": models.source}
    contenders = [
        client.llama_cpp("llama.cpp Q4_0", python, models.q4_0, threads),
        client.llama_cpp("llama.cpp Q8_0", python, models.q8_0, threads),
        client.transformers("transformers bfloat16", models.folder, threads),
        *(
            client.lmworks(f"lmworks {weights}", path, weights, threads, slots, context)
            for weights, path in ours.items()
        ),
    ]
    return {contender.name: contender for contender in contenders}


def measure(
    contenders: dict[str, Contender], works: dict[str, Workload], vocabulary: int, rounds: int
) -> tuple[Measurements, dict[str, dict[str, int]]]:
    """Tokens per second, and bytes of memory; round 0 warms up and does not count."""
    measured, memory = Measurements(), {}
    for round_, order in in_turns(list(contenders), rounds + 1):
        for number, (column, work) in enumerate(works.items()):
            ids = prompts(work, vocabulary, round_)
            for name in order:
                answer = contenders[name].run(ids, work.new)
                memory[name] = {kind: answer[kind] for kind in ("resident", "peak")}
                if round_ == 0:
                    continue
                if number == 0:
                    measured.add(name, f"prefill {work.prompt}", answer["prefill"])
                measured.add(name, column, answer["decode"])
    return measured, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a pulled model or a .gguf file")
    parser.add_argument("--llama-python", help="the Python that has llama-cpp-python; default: LLAMA_PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new", type=int, default=64, help="tokens generated for each sequence")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=Path, help="write every measured value into this file")
    options = parser.parse_args()
    python, works = client.llama_python(options.llama_python), workloads(options.new)
    with tempfile.TemporaryDirectory() as folder:
        models = prepare(options.model, python, Path(folder))
        contenders = start(models, python, options.threads, list(works.values()))
        watch = Watch([contender.process for contender in contenders.values()])
        measured, memory = measure(contenders, works, models.vocabulary, options.rounds)
        others = watch.share()
        for contender in contenders.values():
            contender.close()
    print(f"tokens per second, {options.threads} threads, median of {options.rounds} rounds")
    print(f"other processes took {others:.0%} of the machine's processors meanwhile\n")
    print(table(measured.values, PAIRS))
    for name, sizes in memory.items():
        held, peak = (f"{sizes[kind] / 2**20:,.0f}" for kind in ("resident", "peak"))
        print(f"{name:<24} memory {held:>6} MiB, at most {peak:>6} MiB")
    if options.json:
        everything = {"threads": options.threads, "new": options.new, "others": others}
        everything |= {"speeds": measured.values, "memory": memory}
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
