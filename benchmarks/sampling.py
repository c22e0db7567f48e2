"""What choosing a token costs, beside `transformers` on the same logits.

    python benchmarks/sampling.py [--rows 1 16]

The samplers are those of the tests; the logits are SmolLM2's after so many places of a text, 49,152 a row. Theirs is
what `generate` does with them: its processors, softmax, `torch.multinomial` or argmax. The two take turns. Told are the
milliseconds that a tenth of the rounds stay below, since other programs only add to them, and how many times as long
theirs takes. Rows with a repetition penalty have prompts of 2000 tokens.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import sample, uniform
from lmworks.model.checkpoint import load
from lmworks.model.download import pull

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from sampling_cases import SAMPLERS, processors

TEXT = (
    "The history of bridges begins with fallen trees. In 1903 a new kind of steel was made in Sheffield, and engineers "
    'asked whether it would carry a railway over the river. "I do not think so," said Anna, and she was right.'
)


def ours(rows: LogitRows, parameters: SamplingParameters, prompt: np.ndarray) -> Callable[[], object]:
    count = len(rows.best)
    given = [parameters] * count, [prompt] * count, [()] * count

    def choose() -> object:
        return sample(rows, *given, [uniform(row, 0) for row in range(count)], [None] * count).ids.tolist()

    return choose


def theirs(rows: LogitRows, parameters: SamplingParameters, prompt: np.ndarray) -> Callable[[], object]:
    chain = processors(parameters)
    ids = torch.from_numpy(prompt).expand(len(rows.best), -1)

    def choose() -> object:
        scores = chain(ids, rows.logits)  # pyright: ignore[reportArgumentType]
        chosen = scores.softmax(-1).multinomial(1) if parameters.temperature else scores.argmax(-1)
        return chosen.tolist()

    return choose


def quick_times(contenders: list[Callable[[], object]], rounds: int) -> list[float]:
    """Milliseconds of each; they take turns."""
    times = np.empty((rounds, len(contenders)))
    for turn in range(-2, rounds):  # the first two are not counted
        for number, run in enumerate(contenders):
            begun = time.perf_counter()
            run()
            times[turn, number] = (time.perf_counter() - begun) * 1e3
    return np.quantile(times, 0.1, axis=0).tolist()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    checkpoint = load(pull("smollm2-135m-instruct"))
    ids = torch.tensor([checkpoint.tokenizer.encode(TEXT)])
    logits = checkpoint.model(ids)[0].float()
    prompt = np.arange(2000)
    print(f"{'':30} rows      ours    theirs     ratio")
    for count in options.rows:
        places = torch.linspace(8, len(logits) - 1, count).long()
        rows = LogitRows.from_logits(logits[places].contiguous())
        for name, parameters in SAMPLERS.items():
            mine, other = quick_times([make(rows, parameters, prompt) for make in (ours, theirs)], options.rounds)
            print(f"{name:30} {count:4} {mine:9.3f} {other:9.3f} {other / mine:9.1f}", flush=True)


if __name__ == "__main__":
    main()
