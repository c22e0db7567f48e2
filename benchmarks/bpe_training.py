"""Training byte-pair encoding, beside the trainer of `tokenizers`: time, peak memory, and whether both learn the same.

    .venv/bin/python benchmarks/bpe_training.py FOLDER... [--vocabulary 32000] [--rounds 3]
    .venv/bin/python benchmarks/bpe_training.py FOLDER... --growth docs/bpe-training.svg

Texts are the .py, .rst, .md, .txt and .html files of the folders (the standard library is taken where none is named),
read by either program while it trains. Both cut words by the same rule and have the same alphabet, special token and
least frequency. Each training is a process of its own, the two take turns, and the peak is that of the process. With
`--growth`, parts of the text and several sizes of vocabulary are drawn as a plot.
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from contenders import trainers

CONTENDERS = ("lmworks", "tokenizers")


def texts(folders: list[str], megabytes: float) -> Iterator[str]:
    """The files, up to the end of the one in which so many megabytes end."""
    left = megabytes * 1e6
    for text in trainers.files(folders):
        left -= len(text.encode())
        yield text
        if left <= 0:
            return


def train_lmworks(folders: list[str], megabytes: float, vocabulary: int) -> list[list[str]]:
    from lmworks.tokenizer.config import BpeConfig
    from lmworks.tokenizer.training.trainers import train_bpe

    trained = train_bpe(texts(folders, megabytes), BpeConfig(vocabulary_size=vocabulary))
    return [list(pair) for pair in trained.merges.pairs()]


def train_tokenizers(folders: list[str], megabytes: float, vocabulary: int) -> list[list[str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer

    from lmworks.tokenizer.pre_tokenizer import WordRule

    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = WordRule().pre_tokenizer()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(texts(folders, megabytes), trainer)
    return json.loads(theirs.to_str())["model"]["merges"]


def train(contender: str, folders: list[str], megabytes: float, vocabulary: int) -> dict:
    """In this process: seconds, peak in MB, and the merges."""
    train_one = {"lmworks": train_lmworks, "tokenizers": train_tokenizers}[contender]
    merges, cost = trainers.measured(lambda: train_one(folders, megabytes, vocabulary))
    return {**cost, "merges": merges}


def compare(folders: list[str], megabytes: float, vocabulary: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of each, printed with their ratio."""
    runs: dict[str, list[dict]] = {contender: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender in CONTENDERS:
            runs[contender].append(trainers.in_process(__file__, contender, folders, megabytes, vocabulary))
    print(f"\n{vocabulary:,} tokens, {rounds} rounds")
    median = {c: {k: statistics.median(r[k] for r in runs[c]) for k in ("seconds", "megabytes")} for c in CONTENDERS}
    for key, unit in (("seconds", "s"), ("megabytes", "MB at most")):
        ratios = [theirs[key] / ours[key] for ours, theirs in zip(*runs.values(), strict=True)]
        told = ", ".join(f"{contender} {median[contender][key]:.1f} {unit}" for contender in CONTENDERS)
        print(f"{told}: {statistics.median(ratios):.2f} times as much ({min(ratios):.2f} to {max(ratios):.2f})")
    ours, theirs = runs["lmworks"][0]["merges"], runs["tokenizers"][0]["merges"]
    different = [number for number, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b]
    print(f"{len(ours):,} merges; " + (f"the first that differs is {different[0]}" if different else "all the same"))
    return median


def growth(folders: list[str], size: float, path: Path) -> None:
    """Time and memory by the size of the text at 32,000 tokens, and by the vocabulary at all of the text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharey="row")
    by_text = {share * size: compare(folders, share * size, 32_000, 1) for share in (0.125, 0.25, 0.5, 1.0)}
    by_vocabulary = {number: compare(folders, size, number, 1) for number in (4_000, 16_000, 32_000, 100_000)}
    for column, (label, points) in enumerate(
        [("text, MB (32,000 tokens)", by_text), (f"vocabulary ({size:.0f} MB)", by_vocabulary)]
    ):
        for row, (key, name) in enumerate([("seconds", "seconds"), ("megabytes", "peak memory, MB")]):
            for contender in CONTENDERS:
                values = [point[contender][key] for point in points.values()]
                axes[row, column].plot(list(points), values, marker="o", label=contender)
            axes[row, column].set(xlabel=label)
            axes[row, column].grid(color="#e0e1e6", linewidth=0.6)
            axes[row, column].spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes[row, column].set_ylabel(name)
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    print(f"plot -> {path}")


def main() -> None:
    parser = trainers.parser(__doc__, CONTENDERS, megabytes=1e9)
    parser.add_argument("--growth", type=Path)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train(options.child, options.folders, options.megabytes, options.vocabulary)))
        return
    size = sum(len(text.encode()) for text in texts(options.folders, options.megabytes)) / 1e6
    print(f"{size:.1f} MB of text")
    if options.growth:
        growth(options.folders, size, options.growth)
    else:
        compare(options.folders, options.megabytes, options.vocabulary, options.rounds)


if __name__ == "__main__":
    main()
