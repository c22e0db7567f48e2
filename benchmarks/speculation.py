"""What guessing ahead gains: the same completions with speculation and without, in turns, as the ratio of their times.

    python benchmarks/speculation.py [--model smollm2-135m-instruct] [--rounds 5] [--layers 0-14]

Questions about a passage, from answers that quote it to answers that have nothing of it. The tokens are equal by
construction, and compared. `--layers` drafts with these layers of the model itself (LayerSkip) instead of looking up.
"""

import argparse
import statistics
import time
from dataclasses import replace

import lmworks
from lmworks.generate import Completion, Engine, Request, SamplingParameters
from lmworks.generate.draft_proposers import LayerSkip
from lmworks.records import Message

PASSAGE = (
    "The harbour bridge of Velden was opened in 1931 after seven years of work. It was designed by Marta Olsen, who "
    "had built two smaller bridges in the north before. The main span is 412 metres long and hangs from two towers of "
    "granite, each 96 metres high. Because the river freezes in winter, the piers were sunk from the ice itself: the "
    "workers cut holes, lowered steel caissons and filled them with concrete. In 1957 a storm tore away part of the "
    "roadway, which was replaced by a lighter deck within eleven weeks. Today about 38,000 vehicles cross the bridge "
    "on a working day. A second deck for trains was planned several times, but the towers would not carry it. The city "
    "has listed the bridge as a monument since 1984, and its lamps are still lit by hand on the last night of the year."
)
QUESTIONS = {
    "copy": "Repeat the text above word for word.",
    "quote": "Quote the sentences that say how the piers were built and what the storm did.",
    "summarise": "Summarise the text in three sentences.",
    "poem": "Write a poem about the sea that mentions no bridge.",
    "unrelated": "How do I bake bread? Explain every step.",
    "code": "Write a Python function that counts the words of a text.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0, help="above 0 the texts are drawn, and repeat less")
    parser.add_argument("--layers", help="first-last: draft with these layers instead of looking up")
    arguments = parser.parse_args()
    speculation = "lookup"
    if arguments.layers:
        first, last = map(int, arguments.layers.split("-"))
        speculation = LayerSkip(tuple(range(first, last + 1)))
    engine = Engine(
        lmworks.load(arguments.model), slots=2, context_length=1024, weights=arguments.weights, speculation=speculation
    )
    sampling = SamplingParameters(
        max_tokens=arguments.tokens, ignore_eos=True, temperature=arguments.temperature, seed=1
    )
    print(f"{'question':12}{'plain tok/s':>12}{'gain':>8}   of the rounds     accepted / proposed")
    for name, question in QUESTIONS.items():
        request = Request(messages=(Message("user", f"{PASSAGE}\n\n{question}"),), sampling=sampling)
        plain = replace(request, sampling=replace(sampling, speculate=False))
        ratios, speeds, guessed = [], [], engine.generate([request])[0]  # the prompt is in the cache from here on
        for round_ in range(arguments.rounds):
            pair = {False: plain, True: request}
            seconds: dict[bool, float] = {}
            ids = {}
            for guesses in (True, False) if round_ % 2 else (False, True):  # neither is always the first
                completion, seconds[guesses] = timed(engine, pair[guesses])
                ids[guesses] = completion.ids
                guessed = completion if guesses else guessed
            assert ids[True] == ids[False], "speculation has changed a token"
            ratios.append(seconds[False] / seconds[True])
            speeds.append(arguments.tokens / seconds[False])
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{name:12}{statistics.median(speeds):12.0f}{statistics.median(ratios):7.2f}x   {spread:16}"
            f"{guessed.accepted_tokens:6} / {guessed.proposed_tokens}"
        )


def timed(engine: Engine, request: Request) -> tuple[Completion, float]:
    began = time.perf_counter()
    completion = engine.generate([request])[0]
    return completion, time.perf_counter() - began


if __name__ == "__main__":
    main()
