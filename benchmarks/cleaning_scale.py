"""How the time and the memory of cleaning grow with the corpus: read, annotate, duplicates and clean.

    .venv/bin/python benchmarks/cleaning_scale.py [--sizes 10 100] [--workers 2] [--data FOLDER] [--keep FOLDER]

Corpora of so many megabytes are grown from real texts, a quarter each of books, Python's enhancement proposals, logs of
chats and web pages (C4): as many copies as it takes, in each of which 40 % of the words are replaced by others of the
same source, at random places by a seed. Of two copies about one shingle of five words in ten is the same, so they are
no duplicates of each other, while lines, paragraphs and punctuation stay as people made them. Pages are one file of
JSON Lines; the others are a file each.

Each corpus is built once, by the command line, in processes of its own. Seconds are those of the stages, from their
manifests, and of the whole command; memory is the largest sum over all its processes of what each takes of the
machine's (PSS, which counts a page that two processes share once), sampled four times a second, and the largest
process. Linux only. The last lines divide the growth of time by that of size: 1 is linear.
"""

import argparse
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from contenders.texts import DATA, books, proposals

SOURCES = {"books": "book", "proposals": "text", "chats": "chat", "pages": "web"}  # name → kind
REPLACED = 0.4  # of the words
STAGES = ("read", "annotations", "duplicates", "cleaned")
_WORD = re.compile(r"[^\W\d_]+")


def texts_of(data: Path) -> dict[str, dict[str, str]]:
    """Source → file name → text. FileNotFoundError names what is missing."""
    with gzip.open(data / "llama-factory-demos" / "c4_demo.jsonl.gz", "rt", encoding="utf-8") as stream:
        pages = {f"{number}.txt": json.loads(line)["text"] for number, line in enumerate(stream)}
    return {"books": books(data), "proposals": proposals(data), "chats": _chats(data), "pages": pages}


def _chats(data: Path) -> dict[str, str]:
    texts = {}
    for path in sorted((data / "ubuntu-irc").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    texts[member.name.replace("/", "-")] = stream.read().decode("utf-8", "replace")
    return texts


class Grown:
    """One text, cut into its words and what is between them, of which copies with other words are made."""

    def __init__(self, text: str) -> None:
        ends = [place for found in _WORD.finditer(text) for place in found.span()]
        starts = [0, *ends]
        self.pieces = np.array([text[a:b] for a, b in zip(starts, [*ends, len(text)], strict=True)], dtype=object)

    @property
    def words(self) -> np.ndarray:
        return self.pieces[1::2]

    def copy(self, pool: np.ndarray, generator: np.random.Generator) -> str:
        pieces = self.pieces.copy()
        places = 1 + 2 * np.flatnonzero(generator.random(len(self.words)) < REPLACED)
        pieces[places] = pool[generator.integers(0, len(pool), len(places))]
        return "".join(pieces.tolist())


def grow(texts: dict[str, dict[str, str]], folder: Path, size: int) -> int:
    """Write a corpus of about `size` bytes; how many it has."""
    written = 0
    for number, (source, found) in enumerate(texts.items()):
        grown = {name: Grown(text) for name, text in found.items()}
        pool = np.concatenate([each.words for each in grown.values()])
        (folder / source).mkdir(parents=True)
        written += _write(folder / source, source, _copies(grown, pool, number), size // len(texts))
    return written


def _copies(grown: dict[str, Grown], pool: np.ndarray, seed: int) -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        generator = np.random.default_rng((seed, number))
        for name, text in grown.items():
            yield f"{number:05d}-{name}", text.copy(pool, generator)
        number += 1


def _write(folder: Path, source: str, copies: Iterator[tuple[str, str]], size: int) -> int:
    written = 0
    rows = (folder / "pages.jsonl").open("w", encoding="utf-8") if source == "pages" else None
    for name, text in copies:
        if written >= size:
            break
        if rows is not None:
            rows.write(json.dumps({"text": text, "url": name}, ensure_ascii=False) + "\n")
        else:
            (folder / name).write_text(text, encoding="utf-8")
        written += len(text.encode())
    if rows is not None:
        rows.close()
    return written


def recipe_of(corpus: Path, workers: int) -> str:
    """A stage to read each source, and the others over all."""
    execution = f"execution.workers = {workers}"
    lines = ['name = "scale"', 'description = "Growth of cleaning"']
    for source, kind in SOURCES.items():
        lines += [f"[stages.{source}]", 'use = "corpus.read"', f"sources = [{json.dumps(str(corpus / source))}]"]
        lines += [f'kind = "{kind}"', 'licence = "CC0-1.0"', execution]
    inputs = list(SOURCES)
    for name, use in (("annotations", "corpus.tag"), ("duplicates", "corpus.dedup"), ("cleaned", "corpus.filter")):
        lines += [f"[stages.{name}]", f'use = "{use}"', f"from = {json.dumps(inputs)}", execution]
        inputs.append(name)
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# One build


@dataclass
class Memory:
    """Peaks in bytes, sampled while a group of processes runs."""

    group: int
    all: int = 0
    largest: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.over.wait(0.25):
            sizes = [_proportional(pid) for pid in _members(self.group)]
            self.all, self.largest = max(self.all, sum(sizes)), max([self.largest, *sizes])


def _members(group: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group:
                yield int(path.name)
        except OSError:
            pass  # it has ended


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


@dataclass(frozen=True)
class Built:
    """A build: bytes and documents that went in, seconds by stage (of reading: all sources), of the command, and of
    all processors together, and peaks of memory in bytes."""

    size: int
    documents: int
    seconds: dict[str, float]
    whole: float
    processor: float
    memory: int
    largest: int


def build(corpus: Path, size: int, folder: Path, workers: int) -> Built:
    """Build a corpus into a new workspace. RuntimeError, with what it said, where that fails."""
    folder.mkdir(parents=True)
    recipe, workspace = folder / "recipe.toml", folder / "workspace"
    recipe.write_text(recipe_of(corpus, workers), encoding="utf-8")
    command = [sys.executable, "-m", "lmworks", "build", str(recipe), "--workspace", str(workspace)]
    begin, used = time.perf_counter(), _processor()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        memory = Memory(process.pid)
        thread = threading.Thread(target=memory.watch)
        thread.start()
        code = process.wait()
    whole, processor = time.perf_counter() - begin, _processor() - used
    memory.over.set()
    thread.join()
    if code:
        raise RuntimeError((folder / "log").read_text("utf-8", "replace")[-2000:])
    seconds, documents = dict.fromkeys(STAGES, 0.0), 0
    for path in workspace.glob("stages/*/*/manifest.json"):
        manifest = json.loads(path.read_text("utf-8"))
        name = path.parts[-3] if path.parts[-3] not in SOURCES else "read"
        seconds[name] += manifest["seconds"]
        documents += manifest["metrics"]["documents"] if name == "read" else 0
    return Built(size, documents, seconds, whole, processor, memory.all, memory.largest)


def _processor() -> float:
    """Seconds that all processes took which have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(built: list[Built]) -> None:
    print(f"{'MB':>7}{'documents':>11}  {'stage':<12}{'seconds':>9}{'MB/s':>8}{'documents/s':>13}")
    for each in built:
        megabytes = each.size / 1e6
        for number, (stage, seconds) in enumerate([*each.seconds.items(), ("whole", each.whole)]):
            told = f"{megabytes:>7.0f}{each.documents:>11,}" if not number else " " * 18
            rates = f"{megabytes / seconds:>8.2f}{each.documents / seconds:>13,.0f}"
            print(f"{told}  {stage:<12}{seconds:>9.1f}{rates}")
        peaks = f"{each.memory / 1e6:,.0f} MB in all processes, {each.largest / 1e6:,.0f} MB in the largest"
        print(f"{'':18}  {each.processor:.0f} s of processors; peak memory: {peaks}")
    for before, after in pairwise(built):
        size = after.size / before.size
        growth = {stage: after.seconds[stage] / before.seconds[stage] / size for stage in STAGES}
        growth |= {"whole": after.whole / before.whole / size, "processor": after.processor / before.processor / size}
        growth |= {"memory": after.memory / before.memory / size}
        told = ", ".join(f"{name} {ratio:.2f}" for name, ratio in growth.items())
        print(f"from {before.size / 1e6:.0f} to {after.size / 1e6:.0f} MB, growth over growth of the size: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of cleaning as the corpus grows.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100], help="megabytes of text")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: as many as there are cores")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with the real texts")
    parser.add_argument("--keep", type=Path, help="a folder for corpora and workspaces, which stay there")
    arguments = parser.parse_args()
    texts = texts_of(arguments.data)
    built = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for size in arguments.sizes:
            corpus = folder / f"corpus-{size}"
            written = grow(texts, corpus, size * 1_000_000)
            built.append(build(corpus, written, folder / f"build-{size}", arguments.workers))
            print(f"{size} MB: {built[-1].whole:.0f} s", file=sys.stderr)
    show(built)


if __name__ == "__main__":
    main()
