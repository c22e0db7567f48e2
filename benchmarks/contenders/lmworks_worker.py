"""lmworks as a contender: through the engine, with its scheduler and its sampler."""

import argparse
import os
import time
from dataclasses import asdict
from typing import Any

from worker import Prompts, resident_bytes, serve, use_processors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--speculate", action="store_true", help="guess ahead, as the server does")
    options = parser.parse_args()
    use_processors(options.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
    from lmworks.generate.benchmark import run_workload, use_threads
    from lmworks.generate.engine import Engine
    from lmworks.model.checkpoint import load

    use_threads(options.threads)
    imported = resident_bytes()
    engine = Engine(load(options.model), options.slots, options.context, options.weights)

    def run(prompts: Prompts, new: int) -> dict[str, Any]:
        began = time.perf_counter()
        speed = run_workload(engine, prompts, new, options.speculate)
        return {**asdict(speed), "seconds": time.perf_counter() - began}

    serve(run, imported)


if __name__ == "__main__":
    main()
