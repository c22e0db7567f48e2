"""Training Unigram, beside the trainers of `sentencepiece` and `tokenizers`: time, peak memory, and tokens a word.

    .venv/bin/python benchmarks/unigram_training.py FOLDER... [--vocabulary 32000] [--megabytes 20] [--rounds 3]

Texts are the lines of the .py, .rst, .md, .txt and .html files of the folders (the standard library is taken where none
is named), read by each program while it trains; runs of spaces are one space, since the other two differ in what they
make of them. All cut words at spaces, have the same special tokens and the same number of pieces to begin with, of the
same length at most, and use all cores. Each training is a process of its own, they take turns, and the peak is that of
the process. Tokens a word are those of the same lines.
"""

import io
import json
import os
import re
import statistics
from collections.abc import Callable, Iterator
from itertools import islice

from contenders import trainers

SPECIAL = ("<pad>", "</s>", "<unk>")
Encode = Callable[[str], list[int]]


def lines(folders: list[str], megabytes: float) -> Iterator[str]:
    """The lines of the files, up to so many megabytes."""
    left = megabytes * 1e6
    for text in trainers.files(folders):
        for line in text.splitlines():
            line = re.sub(r"\s+", " ", line).strip()
            left -= len(line.encode()) + 1
            if left < 0:
                return
            if line:
                yield line


def train_lmworks(texts: Iterator[str], vocabulary: int) -> Encode:
    from lmworks.tokenizer.config import UnigramConfig
    from lmworks.tokenizer.training.trainers import train_unigram

    return train_unigram(texts, UnigramConfig(vocabulary_size=vocabulary)).tokenizer.encode


def train_sentencepiece(texts: Iterator[str], vocabulary: int) -> Encode:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, model_type="unigram", vocab_size=vocabulary,
        character_coverage=0.9995, normalization_rule_name="identity", split_by_unicode_script=False,
        split_by_number=False, max_sentence_length=1 << 20, num_threads=os.cpu_count(),
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode


def train_tokenizers(texts: Iterator[str], vocabulary: int) -> Encode:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.trainers import UnigramTrainer

    theirs = Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    theirs.train_from_iterator(texts, trainer)
    return lambda text: theirs.encode(text).ids


CONTENDERS = {"lmworks": train_lmworks, "sentencepiece": train_sentencepiece, "tokenizers": train_tokenizers}


def train(contender: str, folders: list[str], megabytes: float, vocabulary: int) -> dict[str, float]:
    """In this process: seconds, peak in MB, and how many tokens every twentieth line has for a word."""
    encode, cost = trainers.measured(lambda: CONTENDERS[contender](lines(folders, megabytes), vocabulary))
    tokens = words = 0
    for line in islice(lines(folders, megabytes), 0, None, 20):
        tokens += len(encode(line))
        words += len(line.split(" "))
    return {**cost, "tokens a word": tokens / words}


def main() -> None:
    options = trainers.parser(__doc__, list(CONTENDERS), megabytes=20).parse_args()
    settings = (options.folders, options.megabytes, options.vocabulary)
    if options.child:
        print(json.dumps(train(options.child, *settings)))
        return
    size = sum(len(line.encode()) + 1 for line in lines(options.folders, options.megabytes)) / 1e6
    print(f"{size:.1f} MB of text, {options.vocabulary:,} tokens, {options.rounds} rounds, {os.cpu_count()} cores")
    runs: dict[str, list[dict[str, float]]] = {contender: [] for contender in CONTENDERS}
    for number in range(options.rounds):
        for contender in list(CONTENDERS)[:: -1 if number % 2 else 1]:
            runs[contender].append(trainers.in_process(__file__, contender, *settings))
    for key in ("seconds", "megabytes", "tokens a word"):
        print(f"\n{key:15} {'median':>9} {'beside lmworks':>15}")
        for contender, found in runs.items():
            ratios = [run[key] / own[key] for run, own in zip(found, runs["lmworks"], strict=True)]
            median = statistics.median(run[key] for run in found)
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})" if contender != "lmworks" else ""
            print(f"{contender:15} {median:9.2f} {statistics.median(ratios):15.2f} {spread}")


if __name__ == "__main__":
    main()
