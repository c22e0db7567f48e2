"""Encoding texts, many at once and one by one: `Tokenizer` beside `tokenizers` alone and `tiktoken`.

    .venv/bin/python benchmarks/encoding.py TOKENIZER [FOLDER...] [--megabytes 20] [--rounds 7]

TOKENIZER is a folder with a byte-level BPE `tokenizer.json` by the rule of GPT-2 or GPT-4, such as `lmworks tokenizer
train` writes. `tiktoken` gets the same tokens as ranks and the same rule, and must give the same ids. The texts are the
Python files of the folders, the standard library by default. The contenders take turns; told are the megabytes a
second of the median round, and the median ratio to `tokenizers` with its lowest and highest.
"""

import argparse
import json
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import tiktoken
import tokenizers

from lmworks.tokenizer.token_bytes import token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer


def read_texts(folders: list[str], megabytes: float) -> list[str]:
    found: list[str] = []
    size = 0
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            if size < megabytes * 1e6:
                found.append(path.read_text("utf-8", errors="replace"))
                size += len(found[-1].encode())
    return found


def as_tiktoken(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """The same vocabulary: its merges are in the order of the ids."""
    state = json.loads(tokenizer.backend.to_str())
    pattern = state["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    spelled = token_bytes(tokenizer)
    ranks = {text: token for token, text in enumerate(spelled) if text}
    return tiktoken.Encoding(
        tokenizer.hash, pat_str=pattern, mergeable_ranks=ranks, special_tokens=tokenizer.special_ids
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folders", nargs="*", default=[sysconfig.get_path("stdlib")])
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    texts = read_texts(options.folders, options.megabytes)
    size = sum(len(text.encode()) for text in texts) / 1e6
    ours = Tokenizer.load(options.tokenizer)
    theirs = tokenizers.Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
    third = as_tiktoken(ours)
    contenders: dict[str, dict[str, Callable[[], list[list[int]]]]] = {
        "a batch, all cores": {
            "lmworks": lambda: ours.encode_batch(texts),
            "tokenizers": lambda: [found.ids for found in theirs.encode_batch(texts, add_special_tokens=False)],
            "tiktoken": lambda: third.encode_ordinary_batch(texts, num_threads=2),
        },
        "one by one": {
            "lmworks": lambda: [ours.encode(text) for text in texts],
            "tokenizers": lambda: [theirs.encode(text, add_special_tokens=False).ids for text in texts],
            "tiktoken": lambda: [third.encode_ordinary(text) for text in texts],
        },
    }
    for way, runs in contenders.items():
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        results: dict[str, list[list[int]]] = {}
        for _ in range(options.rounds):
            for name, run in runs.items():
                begun = time.perf_counter()
                results[name] = run()
                seconds[name].append(time.perf_counter() - begun)
        equal = all(found == results["lmworks"] for found in results.values())
        print(f"{way}: {size:.1f} MB in {len(texts):,} texts, ids {'equal' if equal else 'DIFFERENT'}")
        for name, each in seconds.items():
            ratios = [base / own for own, base in zip(each, seconds["tokenizers"], strict=True)]
            rate = size / statistics.median(each)
            print(
                f"  {name:12} {rate:6.1f} MB/s  {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
