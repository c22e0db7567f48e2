"""Real arrivals against two servers: how long until the first token, how long between tokens?

    python benchmarks/trace_replay.py TRACE [--llama-server PATH] [--llama-python PATH] [--requests 60] [--load 0.6]

TRACE is the code service's file of the Azure LLM inference trace (github.com/Azure/AzurePublicDataset, CC BY 4.0):
when requests arrived, and how many tokens went in and out. lmworks and llama-server serve the same model as Q4_0, with
as many slots, on the same processors, and replay the same requests in turns; the idle server does not compute.

What is changed of the trace, and why. Completions are cut to --most-new tokens, prompts to what these leave of
--context. Arrivals keep their pattern but are stretched to a rate that both servers can keep up with: the first
requests are sent all at once, and the slower server's requests per second, times --load, is the rate. The trace has no
texts: prompts are pieces of the standard library's source, of just the length, and none begins like another one.

The client shares the processors with the servers, alike for both. A piece is what one event of the stream brings:
usually a token.
"""

import argparse
import json
import random
import statistics
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from contenders import client
from contenders.arrivals import Arrival, at_rate, capped, percentile, read_trace
from contenders.bystanders import Watch
from contenders.servers import Served, Stream, llama_server, llama_server_binary, lmworks_server, replay

import lmworks
from lmworks.compiled import cores
from lmworks.model.download import MODELS, pull

PERCENTS = (50, 90, 99)
Sent = list[tuple[float, Sequence[int], int]]


def source_ids(model: Path, count: int) -> list[int]:
    """At least `count` tokens of Python's standard library."""
    tokenizer = lmworks.load(model).tokenizer
    ids: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        if len(ids) >= count:
            break
        ids += tokenizer.encode(path.read_text("utf-8"))
    return ids


def with_prompts(arrivals: Sequence[Arrival], ids: Sequence[int], seed: int) -> Sent:
    """Each prompt begins somewhere else."""
    starts = random.Random(seed).sample(range(len(ids) - max(a.prompt for a in arrivals)), len(arrivals))
    return [(a.seconds, ids[start : start + a.prompt], a.new) for a, start in zip(arrivals, starts, strict=True)]


def requests_per_second(served: Served, sent: Sent) -> float:
    """When all are sent at once."""
    _, seconds = replay(served, [(0.0, prompt, new) for _, prompt, new in sent])
    return len(sent) / seconds


def report(name: str, done: Sequence[Stream], seconds: float) -> dict[str, object]:
    first = [one.first for one in done]
    gaps = [gap for one in done for gap in one.gaps]
    row = {"first": [percentile(first, p) for p in PERCENTS], "gap": [percentile(gaps, p) for p in PERCENTS]}
    shown = "".join(f"{1000 * value:>10,.0f}" for values in row.values() for value in values)
    tokens = sum(one.new for one in done)
    print(f"{name:<14}{shown}{tokens / seconds:>12,.1f}{len(done) / seconds:>12.2f}", flush=True)
    return {"name": name, "percents": PERCENTS, "seconds": seconds, **row}


def compare(
    servers: Sequence[Served], arrivals: Sequence[Arrival], ids: Sequence[int], options: argparse.Namespace
) -> dict[str, object]:
    """Find a rate, then replay on each server in turns; everything that was found, times in seconds."""
    first = with_prompts(arrivals[: 2 * options.slots], ids, 0)
    capacity = {served.name: requests_per_second(served, first) for served in servers}
    rate = options.load * min(capacity.values())
    prompt, new = statistics.mean(a.prompt for a in arrivals), statistics.mean(a.new for a in arrivals)
    print("requests per second when all come at once:", {name: round(value, 2) for name, value in capacity.items()})
    print(f"{len(arrivals)} requests at {rate:.2f} a second, on average {prompt:,.0f} tokens and {new:,.0f} new ones\n")
    heads = [f"{what} p{percent}" for what in ("first", "gap") for percent in PERCENTS]
    print(f"{'milliseconds':<14}" + "".join(f"{head:>10}" for head in heads) + f"{'tokens/s':>12}{'requests/s':>12}")
    rows, watch = [], Watch([served.process for served in servers])
    for round_ in range(options.rounds):
        sent = with_prompts(at_rate(arrivals, rate), ids, round_ + 1)
        for served in servers if round_ % 2 else reversed(servers):
            rows.append(report(served.name, *replay(served, sent)))
    others = watch.share()
    print(f"\nother processes took {others:.0%} of the machine's processors meanwhile")
    return {"capacity": capacity, "rate": rate, "others": others, "rounds": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--llama-server", help="the binary; default: LLAMA_SERVER")
    parser.add_argument("--llama-python", help="the Python that has llama-cpp-python; default: LLAMA_PYTHON")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--load", type=float, default=0.6, help="of what the slower server can do")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--context", type=int, default=4096, help="tokens of a prompt with its completion")
    parser.add_argument("--most-new", type=int, default=256)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=Path, help="write the percentiles into this file, in seconds")
    options = parser.parse_args()
    binary, python = llama_server_binary(options.llama_server), client.llama_python(options.llama_python)
    trace = read_trace(options.trace, options.requests)
    arrivals = [capped(arrival, options.context, options.most_new) for arrival in trace]
    source = pull(options.model) if options.model in MODELS else Path(options.model)
    ids = source_ids(source, 4 * sum(a.prompt for a in arrivals))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        model = client.quantise(python, source, Path(folder), "Q4_0")
        size = (options.slots, options.context, options.threads)
        servers = [
            stack.enter_context(llama_server(binary, model, *size)),
            stack.enter_context(lmworks_server(model, *size)),
        ]
        everything = compare(servers, arrivals, ids, options)
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
