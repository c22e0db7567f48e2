"""How many tokens a second does the loader give, packed and mixed, in one process?

    .venv/bin/python benchmarks/loader_speed.py [--rounds 7] [--tokens 40000000] [--length 2048] [--batch 32]

Contenders take turns in one run, over the same made-up documents on the same disk: three sources whose lengths are
log-normal like those of web pages, code and books, mixed at temperature 2. Each makes ids, targets and, where it can,
positions and document numbers of the same number of batches.

    lmworks             best-fit packing, exact quotas, order by arithmetic; one thread ahead of the consumer
    DataLoader, greedy  torch.utils.data.DataLoader over the same memory-mapped tokens: sources by chance, documents in
                        a shuffled order, each cropped where its sequence is full; in this process and with one worker
    litdata             CombinedStreamingDataset of its own files, where litdata is installed: mixing by chance, blocks
                        of a stream, of which it gives the ids and nothing else: no packing, targets, positions,
                        documents. How fast files can be read, rather than another answer to the question

Printed are medians over the rounds with the lowest and the highest, the median of the ratios within a round, and what
was lost: a greedy crop throws tokens away. A first round warms all of them up and is not counted.
"""

import argparse
import hashlib
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from lmworks.data import Loader, LoaderConfig, SourceConfig, TokenDataset, TokenWriter

SOURCES = {"web": (0.7, 5.8, 1.2), "code": (0.2, 6.2, 1.3), "books": (0.1, 9.5, 1.0)}  # share, log-normal μ, σ
VOCABULARY = 50_000


def documents_of(name: str, tokens: int) -> Iterator[np.ndarray]:
    share, mean, deviation = SOURCES[name]
    rng = np.random.default_rng(len(name))
    left = int(share * tokens)
    while left > 0:
        length = min(max(int(rng.lognormal(mean, deviation)), 1), left)
        yield rng.integers(0, VOCABULARY, length)
        left -= length


def write(folder: Path, tokens: int) -> None:
    for name in SOURCES:
        (folder / name).mkdir()
        with TokenWriter(folder / name, "00" * 32, VOCABULARY, shard_tokens=2**23) as writer:
            for number, ids in enumerate(documents_of(name, tokens)):
                writer.add(ids, hashlib.sha256(f"{name} {number}".encode()).hexdigest())


# ---------------------------------------------------------------------------------------------------------------------
# Contenders: each gives an iterator of batches, to be closed or dropped


class Greedy(IterableDataset):
    """What a user writes by hand: documents drawn by chance fill a sequence, and the last one is cropped."""

    def __init__(self, folder: Path, length: int) -> None:
        self.folder, self.length = folder, length

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        datasets = [TokenDataset(self.folder / name) for name in SOURCES]
        rng = np.random.default_rng(0)
        weights = np.array([dataset.tokens for dataset in datasets]) ** 0.5
        weights /= weights.sum()
        orders = [iter(rng.permutation(dataset.documents).tolist()) for dataset in datasets]
        while True:
            ids, targets, positions, documents = (np.zeros(self.length, np.int64) for _ in range(4))
            place = 0
            while place < self.length:
                source = rng.choice(len(datasets), p=weights)
                document = next(orders[source], None)
                if document is None:
                    orders[source] = iter(rng.permutation(datasets[source].documents).tolist())
                    continue
                start, stop = datasets[source].offsets[document : document + 2].tolist()
                text = datasets[source].read(start, min(stop, start + self.length - place + 1))
                here = slice(place, min(place + len(text), self.length))
                count = here.stop - place
                ids[here], positions[here], documents[here] = text[:count], np.arange(count), document
                targets[place : place + len(text) - 1] = text[1:]
                place += count
            yield tuple(torch.from_numpy(field) for field in (ids, targets, positions, documents))


def greedy(folder: Path, length: int, batch: int, workers: int) -> Iterator[tuple[torch.Tensor, ...]]:
    return iter(DataLoader(Greedy(folder, length), batch_size=batch, num_workers=workers))


def packed(folder: Path, length: int, batch: int, steps: int) -> Loader:
    sources = {name: SourceConfig(str(folder / name)) for name in SOURCES}
    return Loader(LoaderConfig(sources, length, batch, steps, temperature=2.0))


def to_tensor(file: str) -> Iterator[torch.Tensor]:
    dataset = TokenDataset(Path(file))
    for document in range(dataset.documents):
        yield torch.from_numpy(dataset.read(*dataset.offsets[document : document + 2].tolist()).astype(np.int32))


def write_litdata(folder: Path) -> None:
    from litdata import TokensLoader, optimize

    for name in SOURCES:
        optimize(
            to_tensor, [str(folder / name)], str(folder / f"litdata-{name}"), chunk_bytes="16MB", num_workers=1,
            item_loader=TokensLoader(), verbose=False,
        )  # fmt: skip


def litdata(folder: Path, length: int, batch: int, workers: int) -> Iterator[torch.Tensor]:
    from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, TokensLoader

    streams = [
        StreamingDataset(str(folder / f"litdata-{name}"), item_loader=TokensLoader(length + 1), shuffle=True)
        for name in SOURCES
    ]
    weights = [share**0.5 for share, _, _ in SOURCES.values()]
    mixed = CombinedStreamingDataset(streams, weights=weights, iterate_over_all=False)
    return iter(StreamingDataLoader(mixed, batch_size=batch, num_workers=workers))


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def rate(start: Callable[[], Iterator], steps: int, tokens: int) -> float:
    """Tokens a second over the steps after the first, which also pays for planning and for starting workers."""
    batches = start()
    next(batches)
    began = time.perf_counter()
    made = sum(1 for _ in islice(batches, steps))
    seconds = time.perf_counter() - began
    if isinstance(batches, Loader):
        batches.close()
    return made * tokens / seconds


def lost_by_cropping(folder: Path, length: int) -> float:
    """Share of tokens that a greedy crop never shows, in one pass over the documents of all sources."""
    lengths = np.concatenate([TokenDataset(folder / name).lengths for name in SOURCES])
    lost, place = 0, 0
    for size in np.random.default_rng(0).permutation(lengths).tolist():
        lost += max(0, size - (length - place))
        place = (place + size) % length if place + size < length else 0
    return lost / lengths.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=40_000_000, help="in all sources")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100, help="batches in a round")
    arguments = parser.parse_args()
    length, batch, steps = arguments.length, arguments.batch, arguments.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, arguments.tokens)
        sides: dict[str, Callable[[], Iterator]] = {
            "lmworks": lambda: packed(folder, length, batch, steps + 1),
            "DataLoader, greedy": lambda: greedy(folder, length, batch, 0),
            "DataLoader, greedy, 1 worker": lambda: greedy(folder, length, batch, 1),
        }
        if importlib.util.find_spec("litdata"):
            write_litdata(folder)
            sides["litdata, blocks"] = lambda: litdata(folder, length, batch, 0)
            sides["litdata, blocks, 1 worker"] = lambda: litdata(folder, length, batch, 1)
        else:
            print("litdata is not installed and left out")
        began = time.perf_counter()
        with packed(folder, length, batch, steps) as loader:
            print(f"opening and planning {arguments.tokens:,} tokens: {time.perf_counter() - began:.2f} s")
            lost = sum(d.tokens - p.tokens for d, p in zip(loader.datasets, loader.plans, strict=True))
            padding = sum(plan.padding for plan in loader.plans) / sum(plan.tokens for plan in loader.plans)
        found: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(arguments.rounds + 1):
            for side in list(sides)[:: 1 if number % 2 else -1]:
                measured = rate(sides[side], steps, length * batch)
                if number:
                    found[side].append(measured)
        print(f"{'':30} {'million tokens/s (lowest, highest)':>36} {'lmworks is':>12}")
        for side, rates in found.items():
            ratio = statistics.median(a / b for a, b in zip(found["lmworks"], rates, strict=True))
            spread = f"{statistics.median(rates) / 1e6:.2f} ({min(rates) / 1e6:.2f}, {max(rates) / 1e6:.2f})"
            print(f"{side:30} {spread:>36} {ratio:>11.1f}x")
        cropped, shape = 100 * lost_by_cropping(folder, length), f"batches of {batch} x {length}"
        print(f"lost: lmworks {lost} tokens ({100 * padding:.3f} % padding), greedy {cropped:.1f} % of them")
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {shape}, {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
