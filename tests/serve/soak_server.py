"""The server of the mixed soak: what `lmworks serve` serves, while a thread of its own changes adapters.

HTTP has no route for that: whoever embeds the server does it. What the thread has seen is written to `swaps.json` in
the workspace when the server has stopped. Its pools have all their threads from the beginning: they would start one
by one, as late as two long texts happen to come together, and could not be told from threads that are left behind.
"""

import argparse
import asyncio
import json
import random
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from lmworks.adapt import Lora, LoraConfig, initialise_lora
from lmworks.config import from_mapping
from lmworks.generate.engine_worker import EngineWorker, QueueFullError
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.config import ModelConfig
from lmworks.serve.app import create_app
from lmworks.serve.config import ServeConfig
from lmworks.serve.listener import listen
from lmworks.serve.server import Server
from lmworks.serve.service import Service

Ids = tuple[int, ...] | None
_NAME = "swapped"
_PLAIN = Request(tuple(range(100, 140)), sampling=SamplingParameters(max_tokens=12, ignore_eos=True))


@dataclass
class Swaps:
    """How often an adapter was used, was refused to go while it was in use, and gave other tokens than alone."""

    counts: Counter[str] = field(default_factory=Counter)
    preemptions: int = 0
    error: str = ""


class _Filled(Server):
    """A server whose pools are full."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        beside = ThreadPoolExecutor()
        loop.set_default_executor(beside)  # as large as the one that the loop would make itself
        for pool in (beside, self._service._compiling, self._service._threads):
            together = threading.Barrier(pool._max_workers)
            await asyncio.gather(*(loop.run_in_executor(pool, together.wait) for _ in range(pool._max_workers)))
        await super().startup(sockets)


def random_lora(config: ModelConfig, seed: int, spread: float) -> Lora:
    """With a B that is not zero: normal, of this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    fresh = initialise_lora(config, LoraConfig(r=4), generator).changes
    return Lora({n: c._replace(b=spread * torch.randn(c.b.shape, generator=generator)) for n, c in fresh.items()})


def swap(service: Service, worker: EngineWorker, loras: list[Lora], expected: list[Ids], swaps: Swaps) -> None:
    """Load, use and unload adapters by one name, while others run, until the service ends."""
    generator = random.Random(0)
    while service.state == "ready":
        time.sleep(0.2)
        if not worker.running:  # an idle server is to be idle
            continue
        try:
            number = generator.randrange(len(loras))
            swaps.counts["same" if _use(worker, loras[number], swaps) == expected[number] else "different"] += 1
        except QueueFullError:
            swaps.counts["refused"] += 1
            _unload(worker)
        except Exception as error:
            if service.state == "ready":
                swaps.error = repr(error)
            return


def _use(worker: EngineWorker, lora: Lora, swaps: Swaps | None = None) -> Ids:
    """The ids that it gives; in the middle of which it is told to go."""
    worker.load_adapter(_NAME, lora)
    ids: Ids = None
    for delta in worker.stream(replace(_PLAIN, adapter=_NAME)):
        if delta.completion is not None:
            ids = delta.completion.ids
        elif swaps is not None and _NAME in worker.adapters:  # it goes when all is done and not yet read
            try:
                worker.unload_adapter(_NAME)
            except RuntimeError:
                swaps.counts["in use"] += 1
    _unload(worker)
    return ids


def _unload(worker: EngineWorker) -> None:
    """As soon as no scores are in flight, under which no adapter goes."""
    while _NAME in worker.adapters:
        try:
            worker.unload_adapter(_NAME)
        except RuntimeError as error:
            if "in flight" not in str(error):
                raise
            time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True, help="`ServeConfig` as JSON")
    parser.add_argument(
        "--models", type=json.loads, required=True, help="name -> path as JSON; the first is swapped in"
    )
    options = parser.parse_args()
    config = from_mapping(ServeConfig, {**options.settings, "port": options.port})
    service = Service(options.workspace, config, options.models)
    listener = listen(config)
    server, swaps = _Filled(create_app(service), service), Swaps()
    service.load()
    worker = service.language(next(iter(options.models)))
    loras = [random_lora(worker.checkpoint.config, seed, 0.02) for seed in (11, 12)]
    alone = [_use(worker, lora) for lora in loras]
    swapping = threading.Thread(target=swap, args=(service, worker, loras, alone, swaps))
    swapping.start()
    server.run([listener])
    swapping.join()
    swaps.preemptions = worker._engine.batcher.scheduler.preemptions
    service.close()
    (options.workspace / "swaps.json").write_text(json.dumps(vars(swaps)), "utf-8")


if __name__ == "__main__":
    main()
