"""How much of the engine's speed is left when its tokens travel over HTTP, one event each?

    python benchmarks/http_speed.py [--model smollm2-135m-instruct] [--rounds 5]

The bare engine runs in one process, `lmworks serve` in another one, on the same processors; they take turns with the
same prompts, 1, 8 and 16 at once, and guess ahead alike. Over HTTP each prompt is a streamed completion, and the client
(this process) shares the processors with the server. `http_overhead.py` compares the two on one engine in one process.

Printed are medians of new tokens per second, from the first request to the last token, and of the ratios in a round.
"""

import argparse
import asyncio
import statistics
from pathlib import Path

from contenders import client
from contenders.comparison import ratios
from contenders.servers import Connections, lmworks_server, streams

import lmworks
from lmworks.compiled import cores
from lmworks.generate.benchmark import Workload, prompts
from lmworks.model.download import MODELS, pull


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a pulled model, a folder or a .gguf file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens generated for each")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    model = pull(options.model) if options.model in MODELS else Path(options.model)
    vocabulary = lmworks.load(model).config.embedding.vocabulary
    slots, context = max(options.sequences), options.prompt + options.new
    bare = client.lmworks("engine", model, "auto", options.threads, slots, context, speculate=True)
    with lmworks_server(model, slots, context, options.threads) as served, asyncio.Runner() as runner:
        connections = Connections(served)
        for sequences in options.sequences:
            work = Workload(options.prompt, sequences, options.new)
            speeds: dict[str, list[float]] = {"engine": [], "HTTP": []}
            for round_ in range(options.rounds + 1):
                ids = prompts(work, vocabulary, round_)
                seconds = {"engine": bare.run(ids, work.new)["seconds"]}
                _, seconds["HTTP"] = runner.run(streams(connections, [(0.0, prompt, work.new) for prompt in ids]))
                for name, taken in seconds.items():
                    speeds[name] += [sequences * work.new / taken] if round_ else []  # round 0 warms up
            engine, http = (statistics.median(speeds[name]) for name in ("engine", "HTTP"))
            ratio = ratios(speeds["engine"], speeds["HTTP"])
            print(
                f"{sequences:>3} at once   engine {engine:>7,.0f} tokens/s   over HTTP {http:>7,.0f} tokens/s   "
                f"ratio {ratio.median:.2f} ({ratio.least:.2f}–{ratio.most:.2f})",
                flush=True,
            )
        runner.run(connections.close())
    bare.close()


if __name__ == "__main__":
    main()
