"""The stages `tokenizer.bpe` and `tokenizer.wordpiece`: documents into a tokenizer."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lmworks.artefact import StageContext, StageResult, write_text
from lmworks.data.store import DOCUMENTS, DocumentStore
from lmworks.progress import Report
from lmworks.report import Section, Table
from lmworks.tokenizer.config import BpeConfig, WordPieceConfig
from lmworks.tokenizer.explaining import TRACE
from lmworks.tokenizer.training.bpe import Trained, train_bpe
from lmworks.tokenizer.training.wordpiece import train_wordpiece


def bpe(config: BpeConfig, context: StageContext) -> StageResult:
    """Byte-pair encoding from the texts of the one input with documents; ValueError when they are all empty."""
    return _train(train_bpe, config, context)


def wordpiece(config: WordPieceConfig, context: StageContext) -> StageResult:
    """WordPiece from the texts of the one input with documents; ValueError when they are all empty."""
    return _train(train_wordpiece, config, context)


def _train(
    train: Callable[[Iterable[str], Any, Report], Trained], config: BpeConfig | WordPieceConfig, context: StageContext
) -> StageResult:
    store = DocumentStore(context.input(DOCUMENTS))
    trained = train((document.text for document in store), config, context.progress)
    write_tokenizer(context.output, trained)
    return StageResult(metrics=metrics(trained, config), sections=(section(trained, config),))


def write_tokenizer(folder: Path, trained: Trained) -> None:
    """`tokenizer.json`, `tokenizer_config.json` and the trace of the merges, into an existing folder."""
    trained.tokenizer.save(folder)
    write_text(folder / TRACE, trained.trace())


def metrics(trained: Trained, config: BpeConfig | WordPieceConfig) -> dict[str, int]:
    return {
        "vocabulary": trained.tokenizer.vocabulary_size,
        "missing": max(config.vocabulary_size - trained.tokenizer.vocabulary_size, 0),
        "merges": len(trained.merges),
        "words": trained.occurrences,
        "different_words": trained.words,
    }


def section(trained: Trained, config: BpeConfig | WordPieceConfig) -> Section:
    """What was learnt, with the first merges and the last."""
    merges, counts = trained.merges.pairs(), trained.merges.counts.tolist()
    rows = [(number + 1, *merges[number], counts[number]) for number in range(len(merges))]
    shown = rows if len(rows) <= 20 else [*rows[:10], *rows[-10:]]
    numbers = metrics(trained, config)
    text = (
        f"{numbers['vocabulary']:,} tokens were learnt from {numbers['words']:,} words, of which "
        f"{numbers['different_words']:,} are different."
    )
    if numbers["missing"]:
        text += (
            f" {numbers['missing']:,} fewer than asked for: no further pair occurs {config.min_frequency} times. Give "
            "more text, or lower vocabulary_size or min_frequency."
        )
    table = Table(("merge", "left", "right", "neighbours so often"), tuple(shown), "The first merges and the last")
    return Section("Vocabulary", text, (table,))
