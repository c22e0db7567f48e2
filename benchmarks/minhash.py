"""MinHash beside datasketch: the time for signatures and for near duplicates, and which pairs are found.

    .venv/bin/python -m pip install datasketch==2.0.0
    .venv/bin/python benchmarks/minhash.py [--rounds 5] [--pieces 4000] [--threshold 0.8] [--data FOLDER]

Texts are pieces of 300 words of classic books and of Python's enhancement proposals. Both make shingles of five of the
same casefolded words, and signatures of 128 places, in one thread of one process; they take turns, and the other is
first in each round. datasketch gets its fast way: all shingles of a text at once, the same permutations for all, and
xxhash where that is installed, besides its own SHA-1. Times are from the text, since shingles are most of the work.

For the search, copies of some pieces are planted: words at random places are replaced, so that the true Jaccard
similarity of the shingles, which is counted and not assumed, lies about 0.50, 0.55, ... 0.95. Recall is over the
planted pairs at the threshold or above, with 95 % Wilson intervals; precision over all pairs that are found, by their
true similarity. datasketch's search answers with candidates; "estimated" are those whose signatures agree as much.

At last the memory that a text takes while all are searched, and how the search grows with their number: texts of 30
words of which a third are the same but for punctuation and a third the same but for a number, so that one bucket of
every band has a third of all.
"""

import argparse
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
from contenders.comparison import in_turns, ratios
from contenders.texts import DATA, books, proposals

WORDS, PLACES, PIECE = 5, 128, 300
TARGETS = [target / 100 for target in range(50, 100, 5)]
COPIES = 100  # of each similarity
Pairs = set[tuple[int, int]]


def pieces(data: Path, number: int) -> list[str]:
    """Texts of 300 words, chosen at random."""
    words = [text.split() for text in (books(data) | proposals(data)).values()]
    cut = [" ".join(w[start : start + PIECE]) for w in words for start in range(0, len(w) - PIECE, PIECE)]
    return random.Random(0).sample(cut, min(number, len(cut)))


def shingle_set(text: str) -> set[bytes]:
    found = re.findall(r"\w+", text.casefold())
    return {" ".join(found[start : start + WORDS]).encode() for start in range(max(len(found) - WORDS, 0) + 1)}


def jaccard(first: set[bytes], second: set[bytes]) -> float:
    return len(first & second) / len(first | second)


def plant(texts: list[str]) -> tuple[list[str], dict[tuple[int, int], float]]:
    """(texts and copies, the true similarity of each planted pair)."""
    generator = random.Random(1)
    planted: list[str] = []
    truth: dict[tuple[int, int], float] = {}
    chosen = generator.sample(range(len(texts)), min(COPIES * len(TARGETS), len(texts)))
    for number, original in enumerate(chosen):
        target = TARGETS[number % len(TARGETS)]
        found = texts[original].split()
        edits = round(len(found) * (1 - target) / (WORDS * (1 + target)))
        for place in generator.sample(range(len(found)), edits):
            found[place] = f"new{generator.randrange(10**9)}"
        planted.append(" ".join(found))
        pair = (original, len(texts) + number)
        truth[pair] = jaccard(shingle_set(texts[original]), shingle_set(planted[-1]))
    return texts + planted, truth


# ---------------------------------------------------------------------------------------------------------------------
# The contenders


def sign_lmworks(texts: list[str]) -> Any:
    from lmworks.corpus.dedup.library import hash_words, signatures
    from lmworks.corpus.dedup.near_duplicates import batches

    return np.concatenate([signatures(hash_words(batch), WORDS, PLACES) for batch in batches(texts)])


def sign_datasketch(texts: list[str], hash_function: Callable[[bytes], int] | None = None) -> list[Any]:
    from datasketch import MinHash

    options = {} if hash_function is None else {"hashfunc": hash_function}
    first = MinHash(num_perm=PLACES, **options)
    signed = []
    for text in texts:
        signature = MinHash(num_perm=PLACES, permutations=first.permutations, scheme=first.scheme, **options)
        signature.update_batch(shingle_set(text))
        signed.append(signature)
    return signed


def search_lmworks(texts: list[str], threshold: float) -> dict[str, Pairs]:
    from lmworks.corpus.dedup.near_duplicates import NearDuplicatesConfig, compare, keys_of_texts

    config = NearDuplicatesConfig(threshold, WORDS, PLACES)
    found = compare(texts, np.arange(len(texts)), keys_of_texts(texts, config), config).pairs
    return {"lmworks, verified": {*zip(found.first.tolist(), found.second.tolist(), strict=True)}}


def search_datasketch(
    texts: list[str], threshold: float, hash_function: Callable[[bytes], int] | None = None
) -> dict[str, Pairs]:
    from datasketch import MinHashLSH

    signed = sign_datasketch(texts, hash_function)
    index = MinHashLSH(threshold=threshold, num_perm=PLACES)
    for number, signature in enumerate(signed):
        index.insert(number, signature, check_duplication=False)
    candidates: Pairs = set()
    for number, signature in enumerate(signed):
        candidates |= {(other, number) for other in index.query(signature) if other < number}
    estimated = {(a, b) for a, b in candidates if signed[a].jaccard(signed[b]) >= threshold}
    return {"datasketch, candidates": candidates, "datasketch, estimated": estimated}


def peers() -> Iterator[tuple[str, Callable[[bytes], int] | None]]:
    yield "datasketch", None
    try:
        import xxhash
    except ImportError:
        print("xxhash is not installed: datasketch is measured with SHA-1 only")
        return
    yield "datasketch, xxhash", xxhash.xxh32_intdigest


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


def compare(contenders: Mapping[str, Callable[[], Any]], megabytes: float, rounds: int) -> dict[str, Any]:
    """Prints the speeds, and for each peer how many times as fast lmworks is; the last results."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for _, order in in_turns(list(contenders), rounds):
        for name in order:
            begun = time.perf_counter()
            results[name] = contenders[name]()
            speeds[name].append(megabytes / (time.perf_counter() - begun))
    for name, values in speeds.items():
        line = f"  {name:22} {statistics.median(values):8.2f} MB/s"
        if name != "lmworks":
            ratio = ratios(values, speeds["lmworks"])
            line += f"   lmworks ×{ratio.median:.1f} ({ratio.least:.1f} to {ratio.most:.1f})"
        print(line)
    return results


def show_quality(
    found: Pairs, name: str, texts: list[str], truth: dict[tuple[int, int], float], threshold: float
) -> None:
    from lmworks.statistics import wilson_interval

    def told(successes: int, number: int) -> str:
        if not number:
            return "none"
        low, high = wilson_interval(successes, number)
        return f"{successes / number:.3f} [{low:.3f}, {high:.3f}] n={number}"

    wanted = {pair for pair, value in truth.items() if value >= threshold}
    right = sum(jaccard(shingle_set(texts[a]), shingle_set(texts[b])) >= threshold for a, b in found)
    print(f"  {name}: recall {told(len(wanted & found), len(wanted))}, precision {told(right, len(found))}")
    for low in TARGETS:
        here = {pair for pair, value in truth.items() if low - 0.025 <= value < low + 0.025}
        print(f"    about {low:.2f}: found {told(len(here & found), len(here))}")


def show_growth(threshold: float) -> None:
    """The time of the search, without signatures, for four numbers of short texts; two thirds of them alike."""
    from lmworks.corpus.dedup.kept_duplicates import best_of_groups, linked
    from lmworks.corpus.dedup.near_duplicates import NearDuplicatesConfig, compare, keys_of_texts

    config = NearDuplicatesConfig(threshold, WORDS, PLACES)
    for number in (12_500, 25_000, 50_000, 100_000):
        texts = hot_texts(number)
        rank = np.arange(number)
        keys = keys_of_texts(texts, config)
        begun = time.perf_counter()
        found = compare(texts, rank, keys, config)
        kept = best_of_groups(linked(found.pairs.first, found.pairs.second, number), rank, rank >= 0)
        seconds = time.perf_counter() - begun
        size = (keys.bands.nbytes + keys.words.nbytes) / number
        print(
            f"  {number:7,} texts: {seconds:6.2f} s, {seconds / number * 1e6:5.1f} µs a text, {size:.0f} bytes of keys "
            f"a text; {np.count_nonzero(kept != rank):,} go, {found.candidates:,} pairs compared in small buckets"
        )


def hot_texts(number: int) -> list[str]:
    generator = random.Random(2)

    def said(words: int) -> str:
        return " ".join(f"w{generator.randrange(10**6)}" for _ in range(words))

    page = said(60)
    third = number // 3
    own = [said(30) for _ in range(number - 2 * third)]
    return [*own, *(page + "!" * (n % 50) for n in range(third)), *(f"{page} number {n}" for n in range(third))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=4000)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    try:
        import datasketch
    except ImportError:
        sys.exit("datasketch is not installed: .venv/bin/python -m pip install datasketch==2.0.0")
    texts, truth = plant(pieces(options.data, options.pieces))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    version = getattr(datasketch, "__version__", "?")
    print(f"{len(texts):,} texts, {megabytes:.1f} MB, {len(truth):,} planted pairs; datasketch {version}, one thread")
    functions = dict(peers())
    print("\nsignatures, from texts")
    signing: dict[str, Callable[[], Any]] = {"lmworks": lambda: sign_lmworks(texts)}
    for name, function in functions.items():
        signing[name] = lambda f=function: sign_datasketch(texts, f)
    compare(signing, megabytes, options.rounds)
    print("\nnear duplicates, from texts to pairs; those of lmworks are verified")
    searching: dict[str, Callable[[], Any]] = {"lmworks": lambda: search_lmworks(texts, options.threshold)}
    for name, function in functions.items():
        searching[name] = lambda f=function: search_datasketch(texts, options.threshold, f)
    results = compare(searching, megabytes, options.rounds)
    print(f"\nat a similarity of {options.threshold:g}")
    for contender in ("lmworks", "datasketch"):
        for name, found in results[contender].items():
            show_quality(found, name, texts, truth, options.threshold)
    print("\ngrowth")
    show_growth(options.threshold)


if __name__ == "__main__":
    main()
