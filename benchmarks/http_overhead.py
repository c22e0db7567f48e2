"""What HTTP adds to the engine: the same completion from the bare engine and from the server, in turns.

    python benchmarks/http_overhead.py [--model smollm2-135m-instruct] [--rounds 15] [--tokens 64]

Both run in this process on the same `EngineWorker`, so that nothing else differs: the server adds reading the request,
JSON, server-sent events, the log, and a loopback connection; and the client shares the interpreter with the server.
Printed are medians and the median of the paired ratios for the time to the first token and for the whole completion,
alone and with several streams at once.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.download import pull
from lmworks.records import Message
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.listener import listen
from lmworks.serve.server import Server
from lmworks.serve.service import Service

PROMPT = "Explain in a few sentences what a context manager is and when to write one."


def bare(worker: EngineWorker, number: int, tokens: int) -> tuple[float, float]:
    """Seconds to the first text and to the end."""
    sampling = SamplingParameters(max_tokens=tokens, ignore_eos=True)
    started, first = time.perf_counter(), 0.0
    for delta in worker.stream(Request(messages=(Message("user", f"{number}. {PROMPT}"),), sampling=sampling)):
        first = first or (time.perf_counter() - started if delta.text else 0.0)
    return first, time.perf_counter() - started


def served(client: httpx.Client, name: str, number: int, tokens: int) -> tuple[float, float]:
    body = {
        "model": name, "messages": [{"role": "user", "content": f"{number}. {PROMPT}"}], "stream": True,
        "temperature": 0, "max_tokens": tokens, "ignore_eos": True,
    }  # fmt: skip
    started, first = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {") and not first:
                choices = json.loads(line.removeprefix("data: "))["choices"]
                first = time.perf_counter() - started if choices and choices[0]["delta"].get("content") else 0.0
    return first, time.perf_counter() - started


def compare(title: str, one: list[tuple[float, float]], other: list[tuple[float, float]]) -> None:
    for place, what in enumerate(("first token", "completion")):
        mine, theirs = [pair[place] for pair in other], [pair[place] for pair in one]
        ratio = statistics.median(m / t for m, t in zip(mine, theirs, strict=True))
        added = statistics.median(m - t for m, t in zip(mine, theirs, strict=True))
        print(
            f"{title:<10} {what:<12} engine {statistics.median(theirs):.4f} s   "
            f"over HTTP {statistics.median(mine):.4f} s   ratio {ratio:.3f}   added {1000 * added:+.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", type=int, default=8)
    options = parser.parse_args()
    name, path = options.model, pull(options.model)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder), ServeConfig(port=0, slots=options.streams), {name: str(path)})
        service.load()
        listener = listen(service.config)
        server = Server(create_app(service), service)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        worker = service.models.language(name)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=300) as client, ThreadPoolExecutor(options.streams) as threads:
            one, other, many_one, many_other = [], [], [], []
            for number in range(-2, options.rounds):
                pair = bare(worker, number, options.tokens), served(client, name, number, options.tokens)
                numbers = [number * 100 + i for i in range(options.streams)]
                all_bare = list(threads.map(lambda n: bare(worker, n, options.tokens), numbers))
                all_served = list(threads.map(lambda n: served(client, name, n, options.tokens), numbers))
                if number < 0:
                    continue  # warming up
                one.append(pair[0])
                other.append(pair[1])
                many_one += all_bare
                many_other += all_served
        compare("1 stream", one, other)
        compare(f"{options.streams} streams", many_one, many_other)
        server.stop()
        thread.join()
        service.close()
        listener.close()


if __name__ == "__main__":
    main()
