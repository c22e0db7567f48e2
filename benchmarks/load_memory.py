"""How much memory and time does loading a checkpoint take, against the size of the model?

    .venv/bin/python benchmarks/load_memory.py [--layers 32] [--json]

Writes a random LLaMA-shaped folder in bfloat16, in shards, to a temporary place, and loads it in child processes, one
for each way to load. Peaks are above what the process had before. Linux only. With 32 layers the model has 1.54 billion
parameters: 3.1 GB on disk, and up to 6.2 GB of memory for its float32 row.

Resident memory counts the pages of the mapped file too, which are the page cache's own and go when memory is short;
anonymous memory does not and is what a model truly costs beside its file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from lmworks.artefact import write_json
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.huggingface import to_their_names, write_config
from lmworks.model.presets import llama
from lmworks.model.tensor_files import LazyTensors, write_tensors
from lmworks.model.transformer import empty_model
from lmworks.tokenizer.tokenizer import Tokenizer

# What is done, the dtype it is done in, and the bytes of a value.
WAYS = {
    "open, as stored": ("stored", 2),
    "read every weight, as stored": ("stored", 2),
    "fingerprint, as stored": ("stored", 2),
    "load as float16": ("float16", 2),
    "load as float32": ("float32", 4),
}


def write_folder(folder: Path, layers: int) -> int:
    """A LLaMA of width 2048; returns its number of parameters. No more than a shard is in memory at once."""
    config = llama(32_000, 2048, layers, heads=32, kv_heads=4, hidden=5632, context_length=2048)
    document = write_config(config)
    shapes = {name: tensor.to(torch.bfloat16) for name, tensor in empty_model(config).state_dict().items()}

    def random(name: str) -> Tensor:
        return torch.empty(shapes[name].shape, dtype=torch.bfloat16).normal_(std=0.02)

    weights = LazyTensors({name: lambda name=name: random(name) for name in shapes})
    sizes = {name: tensor.nbytes for name, tensor in to_their_names(config, document, shapes).items()}
    write_tensors(folder, to_their_names(config, document, weights), sizes, shard_size=500_000_000)
    write_json(folder / "config.json", {**document, "dtype": "bfloat16"})
    Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))).save(folder)
    return sum(tensor.numel() for tensor in shapes.values())


def memory() -> dict[str, int]:
    """Bytes of this process: resident (VmRSS), and of these anonymous (RssAnon)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")}


def measure(folder: Path, way: str) -> dict[str, float]:
    """Seconds, and the peaks of both kinds of memory above the start, while the folder is loaded in one of `WAYS`."""
    before, done = memory(), threading.Event()
    peak = dict(before)

    def watch() -> None:
        while not done.is_set():
            for name, size in memory().items():
                peak[name] = max(peak[name], size)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    use(load(folder, "stored" if WAYS[way][0] == "stored" else getattr(torch, WAYS[way][0])), way)
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    return {"seconds": seconds, **{name: peak[name] - before[name] for name in before}}


def use(checkpoint: Checkpoint, way: str) -> None:
    if way.startswith("read every"):
        for parameter in checkpoint.model.parameters():
            parameter.amax()
    if way.startswith("fingerprint"):
        _ = checkpoint.fingerprint


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of loading a checkpoint.")
    parser.add_argument("--layers", type=int, default=32, help="32 make a model of 1.54 billion parameters")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each way instead of a table")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)  # the child process
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure[0]), arguments.measure[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_folder(Path(folder), arguments.layers)
        if not arguments.json:
            print(f"{parameters:,} parameters, {2 * parameters / 1e9:.2f} GB in bfloat16")
            print(f"{'':30}{'seconds':>9}{'resident':>12}{'anonymous':>12}{'resident / size':>17}")
        for way, (_, width) in WAYS.items():
            command = [sys.executable, __file__, "--measure", folder, way]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ratio = row["VmRSS"] / (parameters * width)
            if arguments.json:
                print(json.dumps({"way": way, **row, "ratio": ratio}))
            else:
                resident, anonymous = (f"{row[name] / 1e9:.2f} GB" for name in ("VmRSS", "RssAnon"))
                print(f"{way:30}{row['seconds']:>9.2f}{resident:>12}{anonymous:>12}{ratio:>17.2f}")


if __name__ == "__main__":
    main()
