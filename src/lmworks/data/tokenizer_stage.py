"""The stages `tokenizer.bpe`, `tokenizer.wordpiece` and `tokenizer.unigram`: documents into a tokenizer."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, write_text
from lmworks.corpus.documents import DOCUMENTS, open_documents
from lmworks.progress import Report
from lmworks.report import Section, Table
from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
from lmworks.tokenizer.merge_history import TRACE
from lmworks.tokenizer.training.trainers import Trained, train_bpe, train_unigram, train_wordpiece

Config = BpeConfig | WordPieceConfig | UnigramConfig
Trainer = Callable[[Iterable[str], Any, Report], Trained]
TRAINERS: dict[type, Trainer] = {BpeConfig: train_bpe, WordPieceConfig: train_wordpiece, UnigramConfig: train_unigram}


def train(config: Config, context: StageContext) -> StageResult:
    """Learn from the texts of the one input with documents; ValueError when they are all empty."""
    store = open_documents(context.input(DOCUMENTS))
    trained = TRAINERS[type(config)]((document.text for document in store), config, context.progress)
    write_tokenizer(context.output, trained)
    return StageResult(metrics=metrics(trained, config), sections=(section(trained, config),))


def write_tokenizer(folder: Path, trained: Trained) -> None:
    """`tokenizer.json`, `tokenizer_config.json` and, where there are merges, their trace, into an existing folder."""
    trained.tokenizer.save(folder)
    if (trace := trained.trace()) is not None:
        write_text(folder / TRACE, trace)


def metrics(trained: Trained, config: Config) -> dict[str, int]:
    """Counts of the vocabulary: `missing` is how many tokens fewer than asked for there was text to learn; `uncovered`
    characters, which occur `uncovered_occurrences` times in all, have no token."""
    return {
        "vocabulary": trained.tokenizer.vocabulary_size,
        "missing": max(config.vocabulary_size - trained.tokenizer.vocabulary_size, 0),
        "words": trained.occurrences,
        "different_words": trained.words,
        "uncovered": trained.uncovered.characters,
        "uncovered_occurrences": trained.uncovered.occurrences,
    }


def section(trained: Trained, config: Config) -> Section:
    """The section of the report: the vocabulary's beginning and its end."""
    numbers = metrics(trained, config)
    text = (
        f"{numbers['vocabulary']:,} tokens were learnt from {numbers['words']:,} words, of which "
        f"{numbers['different_words']:,} are different."
    )
    if numbers["missing"]:
        text += (
            f" That is {numbers['missing']:,} fewer than asked for: nothing else in the texts is frequent enough. Give "
            "more of them, or lower vocabulary_size."
        )
    if trained.uncovered.warning:
        text += f" {trained.uncovered.warning}"
    if trained.pieces is not None:
        columns, title = ("piece", "log-probability"), "The most probable pieces and the least"
        rows = [*zip(trained.pieces.names, trained.pieces.scores.tolist(), strict=True)]
    else:
        assert trained.merges is not None
        columns, title = ("merge", "left", "right", "neighbours so often"), "The first merges and the last"
        merges = zip(trained.merges.pairs(), trained.merges.counts.tolist(), strict=True)
        rows = [(number, *pair, count) for number, (pair, count) in enumerate(merges, 1)]
    return Section("Vocabulary", text, (Table(columns, tuple(rows[:10] + rows[max(10, len(rows) - 10) :]), title),))
