"""The stages `embeddings.words` and `embeddings.glove`: documents into word vectors."""

from collections.abc import Callable, Iterable
from typing import Any

from lmworks.artefact import StageContext, StageResult
from lmworks.corpus.documents import DOCUMENTS, open_documents
from lmworks.embeddings.config import GloveConfig, WordVectorsConfig
from lmworks.embeddings.glove import train_glove
from lmworks.embeddings.vector_files import write_folder
from lmworks.embeddings.word2vec import train_word_vectors
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.progress import Report
from lmworks.report import Section, Table

Trainer = Callable[[Iterable[str], Any, Report], WordVectors]
_SHOWN, _NEIGHBOURS = 10, 6


def words(config: WordVectorsConfig, context: StageContext) -> StageResult:
    """Skip-gram or CBOW from the texts of the one input with documents; ValueError when they hold too few words."""
    return _train(train_word_vectors, config, context)


def glove(config: GloveConfig, context: StageContext) -> StageResult:
    """GloVe from the texts of the one input with documents; ValueError when they hold too few words."""
    return _train(train_glove, config, context)


def _train(train: Trainer, config: WordVectorsConfig | GloveConfig, context: StageContext) -> StageResult:
    store = open_documents(context.input(DOCUMENTS))
    vectors = train((document.text for document in store), config, context.progress)
    write_folder(vectors, context.output)
    return StageResult(metrics=metrics(vectors), sections=(section(vectors),))


def metrics(vectors: WordVectors) -> dict[str, int]:
    """`words` is how many words of the text have a vector, each as often as it occurs."""
    known = 0 if vectors.counts is None else int(vectors.counts.sum())
    return {"vocabulary": len(vectors), "dimensions": vectors.dimensions, "words": known}


def section(vectors: WordVectors) -> Section:
    """The report of a training, with the neighbours of words from the middle of the vocabulary."""
    numbers = metrics(vectors)
    text = (
        f"{numbers['vocabulary']:,} words have vectors of {numbers['dimensions']} dimensions, learnt from "
        f"{numbers['words']:,} words of text."
    )
    chosen = sorted({len(vectors) * number // (4 * _SHOWN) for number in range(1, _SHOWN + 1)})
    rows = tuple(
        (vectors.words[row], ", ".join(near.word for near in vectors.neighbours(vectors.words[row], _NEIGHBOURS)))
        for row in chosen
    )
    return Section("Word vectors", text, (Table(("word", "its neighbours"), rows),))
