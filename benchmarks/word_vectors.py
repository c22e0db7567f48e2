"""Training word vectors, beside gensim: time from the text to vectors, words learnt a second, and how good they are.

    .venv/bin/python benchmarks/word_vectors.py FILE... [--kinds skip-gram cbow] [--threads 2] [--rounds 3] \
        [--analogies questions-words.txt] [--similarity pairs.txt ...]

The files (the standard library's text is taken where none is named) are cut into sentences once, and both read the same
lines of words. (Given a file's name, gensim with two threads took a sixth more processor time and scored higher than
with one thread from the same lines, as if it learnt more often; this way is not taken.) Both have the same settings:
100 dimensions, window 5, 5 noise words, words that occur 5 times, the same shares of frequent words left out, and
gensim's BLAS chooses its kernels itself. Each training is a process of its own and the two take turns, with another
seed in each round. Seconds are of the clock; those of the processor, of all threads together, depend less on what else
runs on the machine. Scores are of the last round, with 95 % intervals over questions or pairs; "spread" is from the
lowest to the highest of all rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTENDERS = ("lmworks", "gensim")
KINDS = {"skip-gram": 0.025, "cbow": 0.05, "subwords": 0.05}  # learning rates
SUFFIXES = {".py", ".rst", ".md", ".txt"}


def lines_of(paths: list[str], megabytes: float) -> Iterator[str]:
    """The sentences of the files, words between single spaces."""
    from lmworks.embeddings.corpus import sentences_of

    left = megabytes * 1e6
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and (file == path or file.suffix in SUFFIXES) and left > 0:
                text = file.read_text("utf-8", errors="replace")
                left -= len(text.encode())
                yield from (" ".join(sentence) for sentence in sentences_of([text]))


def train_lmworks(text: Path, out: Path, kind: str, options: argparse.Namespace) -> float:
    from lmworks.embeddings.config import Subwords, WordVectorsConfig
    from lmworks.embeddings.corpus import training_corpus
    from lmworks.embeddings.vector_files import write_word2vec
    from lmworks.embeddings.word2vec import train_on

    config = WordVectorsConfig(
        objective="cbow" if kind == "cbow" else "skip-gram", epochs=options.epochs, learning_rate=KINDS[kind],
        subwords=Subwords() if kind == "subwords" else None, threads=options.threads, seed=options.seed,
    )  # fmt: skip
    with text.open(encoding="utf-8") as stream:
        corpus = training_corpus((line.split() for line in stream), config)
    begun = time.perf_counter()
    vectors = train_on(corpus, config)
    seconds = time.perf_counter() - begun
    write_word2vec(vectors, out, binary=True)
    return seconds


def train_gensim(text: Path, out: Path, kind: str, options: argparse.Namespace) -> float:
    import numpy as np
    from gensim.models import FastText, Word2Vec
    from gensim.models.word2vec import LineSentence

    from lmworks.embeddings.negative_sampling import keep_limits

    made: Any = FastText if kind == "subwords" else Word2Vec
    model = made(
        vector_size=100, window=5, min_count=5, sample=1e-3, negative=5, sg=int(kind != "cbow"), hs=0,
        alpha=KINDS[kind], workers=options.threads, seed=options.seed,
    )  # fmt: skip
    model.build_vocab(LineSentence(str(text)))
    counts = np.array([model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key])
    for word, limit in zip(model.wv.index_to_key, keep_limits(counts, 1e-3), strict=True):
        model.wv.set_vecattr(word, "sample_int", limit)  # gensim's own formula leaves out less
    model.train(
        LineSentence(str(text)), total_words=model.corpus_total_words, total_examples=model.corpus_count,
        epochs=options.epochs,
    )  # fmt: skip
    model.wv.save_word2vec_format(str(out), binary=True)
    return model.total_train_time


def train(contender: str, text: Path, out: Path, kind: str, options: argparse.Namespace) -> dict[str, float]:
    """In this process: seconds of the clock and of the processor from the text to the file of vectors."""
    begun = time.perf_counter()
    learning = (train_lmworks if contender == "lmworks" else train_gensim)(text, out, kind, options)
    return {"seconds": time.perf_counter() - begun, "learning": learning, "processor": sum(os.times()[:2])}


def in_process(contender: str, text: Path, out: Path, kind: str, options: argparse.Namespace, seed: int) -> dict:
    given = ("--threads", options.threads, "--epochs", options.epochs, "--seed", seed)
    arguments = [str(text), "--child", contender, str(out), kind, *map(str, given)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # both have threads of their own
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def scores(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    from lmworks.embeddings.analogy_evaluation import read_analogies, read_pairs, score_analogies, score_similarity
    from lmworks.embeddings.vector_files import read_word2vec

    vectors = read_word2vec(path, binary=True)
    found: dict[str, Any] = {}
    for file in options.analogies:
        for method in ("add", "multiply"):
            found[f"{file.name}, {method}"] = score_analogies(vectors, read_analogies(file), method)["all"]
    return found | {file.name: score_similarity(vectors, read_pairs(file)) for file in options.similarity}


def compare(kind: str, text: Path, words: int, options: argparse.Namespace) -> None:
    """Runs both in turn and prints them side by side."""
    runs: dict[str, list[dict]] = {contender: [] for contender in CONTENDERS}
    results: dict[str, list[dict[str, Any]]] = {contender: [] for contender in CONTENDERS}
    for seed in range(options.rounds):
        for contender in CONTENDERS[:: -1 if seed % 2 else 1]:
            out = text.with_name(f"{kind}-{contender}-{seed}.bin")
            runs[contender].append(in_process(contender, text, out, kind, options, seed))
            results[contender].append(scores(out, options))
            out.unlink()
    print(f"\n{kind}, {options.threads} threads, {options.epochs} epochs, {options.rounds} rounds")
    for key, name in (
        ("seconds", "seconds, all"),
        ("learning", "seconds, learning"),
        ("processor", "processor seconds"),
    ):
        ours, theirs = ([run[key] for run in runs[contender]] for contender in CONTENDERS)
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        print(
            f"  {name:18} lmworks {statistics.median(ours):8.1f}  gensim {statistics.median(theirs):8.1f}  "
            f"{statistics.median(ratios):5.2f} times as much ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    rates = [statistics.median(words * options.epochs / run["learning"] for run in runs[c]) for c in CONTENDERS]
    print(f"  {'words a second':18} lmworks {rates[0]:8,.0f}  gensim {rates[1]:8,.0f}")
    for name, result in results["lmworks"][-1].items():
        print(f"  {name}: {result.covered:,} of {result.asked:,}")
        for contender in CONTENDERS:
            values = [getattr(each[name].score, "value", float("nan")) for each in results[contender]]
            told = f"spread {min(values):.3f} to {max(values):.3f}"
            print(f"    {contender:10} {results[contender][-1][name].score}, {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=[sysconfig.get_path("stdlib")])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["skip-gram", "cbow"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--analogies", nargs="*", type=Path, default=[])
    parser.add_argument("--similarity", nargs="*", type=Path, default=[])
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        contender, out, kind = options.child
        print(json.dumps(train(contender, Path(options.files[0]), Path(out), kind, options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "sentences.txt"
        words = 0
        with text.open("w", encoding="utf-8") as stream:
            for line in lines_of(options.files, options.megabytes):
                words += line.count(" ") + 1
                stream.write(line + "\n")
        print(f"{text.stat().st_size / 1e6:.1f} MB, {words:,} words, {os.cpu_count()} cores")
        for kind in options.kinds:
            compare(kind, text, words, options)


if __name__ == "__main__":
    main()
