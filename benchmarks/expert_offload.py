"""How fast does a mixture of experts generate when only some of its experts fit in memory?

    .venv/bin/python benchmarks/expert_offload.py [--layers 4] [--hidden 2048] [--tokens 48] [--rounds 3] [--json]

Writes a random Mixtral (width 512, 8 experts, 2 for each token) in bfloat16 to a temporary place. Each row is a process
of its own: it maps the file, keeps `resident` experts of each layer ready in float32, reads a prompt of 16 tokens and
generates greedily, one text, one token at a time. Linux only.

Memory is the highest resident memory above what the process had before the model, and counts the pages of the mapped
file. Random experts are used evenly; those of a trained model are not, and hit more often (Eliseev & Mazur 2023, figure
2), so these rows are the worst case.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

from lmworks.artefact import write_json
from lmworks.generate.expert_offload import offload_counters, offload_experts
from lmworks.model.checkpoint import load
from lmworks.model.huggingface import to_our_names, to_their_names, write_config
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import mixtral
from lmworks.model.tensor_files import LazyTensors, read_weights, write_tensors
from lmworks.model.transformer import Transformer, empty_model
from lmworks.tokenizer.tokenizer import Tokenizer

WIDTH, EXPERTS, PROMPT = 512, 8, 16
RESIDENT = (2, 4, 8)


def write_folder(folder: Path, layers: int, hidden: int) -> None:
    config = mixtral(4096, WIDTH, layers, heads=8, kv_heads=4, hidden=hidden, context_length=512, experts=EXPERTS)
    document = write_config(config)
    shapes = {name: tensor.to(torch.bfloat16) for name, tensor in empty_model(config).state_dict().items()}

    def random(name: str) -> Tensor:
        tensor = torch.empty(shapes[name].shape, dtype=torch.bfloat16)
        return tensor.fill_(1.0) if tensor.dim() == 1 else tensor.normal_(std=0.05)

    torch.manual_seed(0)
    weights = LazyTensors({name: partial(random, name) for name in shapes})
    sizes = {name: tensor.nbytes for name, tensor in to_their_names(config, document, shapes).items()}
    write_tensors(folder, to_their_names(config, document, weights), sizes, shard_size=500_000_000)
    write_json(folder / "config.json", {**document, "dtype": "bfloat16"})
    Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))).save(folder)


def memory() -> int:
    """Bytes of this process that are resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@torch.no_grad()
def generate(model: Transformer, tokens: int) -> float:
    """Seconds that `tokens` tokens took after the prompt."""
    cache, slot = KVCache(model.config, slots=1, length=PROMPT + tokens), torch.tensor([0])
    new, start, begun = torch.arange(PROMPT)[None], 0, 0.0
    for _ in range(tokens + 1):
        positions = torch.arange(start, start + new.shape[1])[None]
        hidden = model.hidden(new, cache=cache.view(slot, positions))
        start += new.shape[1]
        new = model.logits(hidden[:, -1:]).argmax(dim=-1)
        begun = begun or time.perf_counter()
    return time.perf_counter() - begun


@torch.no_grad()
def warm_up() -> None:
    """A small model of the same width, so that threads and the libraries' own buffers are there."""
    model = Transformer(mixtral(64, WIDTH, 1, heads=8, kv_heads=4, hidden=2048, context_length=512, experts=2, top_k=2))
    generate(model, 2)


def measure(folder: Path, resident: int, tokens: int) -> dict[str, float]:
    torch.set_num_threads(2)
    warm_up()
    before, done = memory(), threading.Event()
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, memory())
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    checkpoint = load(folder, "stored")
    assert checkpoint.published is not None
    weights = to_our_names(checkpoint.config, checkpoint.published, read_weights(folder))
    model = offload_experts(checkpoint.model, resident, dtype=torch.float32, weights=weights)
    sizes = {name: 2 * tensor.nbytes for name, tensor in checkpoint.model.state_dict().items()}  # in float32
    del checkpoint
    seconds = generate(model, tokens)
    done.set()
    thread.join()
    counters = offload_counters(model)
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    return {
        "resident": resident,
        "tokens_per_second": tokens / seconds,
        "memory": peak - before,
        "hit_rate": counters.hits / (counters.hits + counters.misses),
        "moved_per_token": counters.bytes_moved / (PROMPT + tokens),
        "experts_bytes": experts,
        "expert_bytes": next(size for name, size in sizes.items() if ".experts." in name) * 3,
        "rest_bytes": sum(sizes.values()) - experts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=2048, help="width of an expert")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3, help="each row once a round; the medians are shown")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row instead of a table")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "RESIDENT"), help=argparse.SUPPRESS)  # the child
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), int(options.measure[1]), options.tokens)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), options.layers, options.hidden)
        rounds = [
            [in_a_process(folder, resident, options.tokens) for resident in RESIDENT] for _ in range(options.rounds)
        ]
    rows = [
        {**runs[0], **{name: statistics.median(run[name] for run in runs) for name in ("tokens_per_second", "memory")}}
        for runs in zip(*rounds, strict=True)
    ]
    if options.json:
        print("\n".join(map(json.dumps, rows)))
    else:
        table(rows)


def in_a_process(folder: str, resident: int, tokens: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--tokens", str(tokens), "--measure", folder, str(resident)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(rows: list[dict[str, float]]) -> None:
    print(f"all experts {rows[0]['experts_bytes'] / 1e6:.0f} MB, the rest {rows[0]['rest_bytes'] / 1e6:.0f} MB")
    print(f"{'resident':>10}{'tokens/s':>10}{'memory, MB':>12}{'hits':>7}{'MB moved a token':>18}")
    for row in rows:
        print(
            f"{row['resident']:>5} of {EXPERTS}{row['tokens_per_second']:>10.1f}{row['memory'] / 1e6:>12.0f}"
            f"{row['hit_rate']:>7.0%}{row['moved_per_token'] / 1e6:>18.1f}"
        )


if __name__ == "__main__":
    main()
