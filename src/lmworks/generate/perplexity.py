"""The log-probabilities of whole texts under a language model, in rolling windows; and the perplexity of each document
(stage `corpus.perplexity`), as attributes next to the others.

The model is a checkpoint, or an n-gram model that learns from an input (`corpus/taggers/ngram_model.py`).
`corpus.filter` reads what the stage makes as a further input.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.artefact import StageContext, StageResult
from lmworks.config import unknown, within
from lmworks.corpus.attributes import (
    ATTRIBUTES,
    Attributes,
    AttributeTable,
    CorpusTexts,
    DocumentAttributes,
    open_corpus,
    write_attributes,
)
from lmworks.corpus.documents import Shard, kind_of, open_documents
from lmworks.corpus.taggers.config import ModelPerplexityConfig
from lmworks.corpus.taggers.ngram_model import learn_ngrams, ngram_section
from lmworks.corpus.taggers.tag_document import repaired_text
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import EngineProtocol
from lmworks.generate.scoring import document_start
from lmworks.model.download import located
from lmworks.report import Section, Table
from lmworks.tokenizer.tokenizer import Tokenizer

_MODEL = "model.safetensors"
_PART_CHARACTERS = 1 << 20  # of the documents of a part: what a kill costs at most


def rolling_windows(
    ids: Sequence[int], start: int, length: int, context: int = 1
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Pairs (context, continuation) whose continuations are together `ids`, so that each token is scored once.

    A model reads at most `length` tokens of a pair (the last one is predicted alone). The first context is the token
    `start`. Each further window predicts at most `length - context + 1` tokens, the stride, and its context is filled
    with the tokens before them: `context` of them, and more in the last window. These are the windows of
    lm-evaluation-harness (`get_rolling_token_windows`, `make_disjoint_window`). ValueError for a context outside
    [1, length].
    """
    within(1, length, context=context)
    end = min(length, len(ids))
    if end:
        yield (start,), ids[:end]
    while end < len(ids):
        first, end = end, min(end + length - context + 1, len(ids))
        yield ids[end - length - 1 : first], ids[first:end]


@dataclass(frozen=True, slots=True)
class LanguageModelCost:
    """The nats and the tokens of texts under the language model of an engine.

    Texts are read in `rolling_windows` of so many tokens with this context, the first behind the token that begins a
    document. What a text costs does not depend on the others, but for the rounding of an engine without fused kernels.
    """

    engine: EngineProtocol
    tokenizer: Tokenizer
    window: int
    context: int = 1

    def __call__(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        return [(max(-math.fsum(row), 0.0), len(row)) for row in self.log_probabilities(texts)]

    def log_probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """For each text ln p of each of its tokens."""
        start = document_start(self.tokenizer)
        pieces = [
            (number, *pair)
            for number, ids in enumerate(self.tokenizer.encode_batch(list(texts)))
            for pair in rolling_windows(ids, start, self.window, self.context)
        ]
        scores = self.engine.score([context for _, context, _ in pieces], [ids for _, _, ids in pieces])
        rows: list[list[float]] = [[] for _ in texts]
        for (number, *_), score in zip(pieces, scores, strict=True):
            rows[number] += score.log_probabilities
        return rows


def language_model_cost(checkpoint: Path | str, window: int = 1024) -> LanguageModelCost:
    """The cost of texts under a checkpoint: the name of a pulled model, a Hugging Face folder or a GGUF file.

    In float32, so that it is the same on all machines with the same kernels; a longer window than the model was trained
    for is cut to that. ValueError for a model that generates no language."""
    loaded = load(checkpoint)
    length = min(window + 1, loaded.config.context_length)  # with the token that begins a document
    engine = Engine(loaded, context_length=length, weights="float32")
    engine.capabilities.require("score")
    return LanguageModelCost(engine, loaded.required_tokenizer, length - 1)


# ---------------------------------------------------------------------------------------------------------------------
# The stage


def perplexity(config: ModelPerplexityConfig, context: StageContext) -> StageResult:
    """Perplexity of each document: for every shard a file of attributes with one measure, in their order.

    Texts are scored as `corpus.tag` measured them, after its repairs. ValueError where an input is missing, or the
    attributes are not those of the documents.
    """
    inputs, learned = dict(context.inputs), None
    if config.learn_from:
        if config.learn_from not in inputs:
            raise ValueError(f"learn_from: {unknown('input', config.learn_from, sorted(inputs))}")
        wanted = open_documents(inputs.pop(config.learn_from))
        learned = learn_ngrams(map(repaired_text, wanted), config.ngrams, context.progress)
    folders = [folder for folder in inputs.values() if (folder / _MODEL).exists()]
    folders += [located(config.checkpoint, context.base)] if config.checkpoint else []
    if len(folders) + (learned is not None) != 1:
        raise ValueError(
            f"expected one checkpoint, an input's or the setting checkpoint, or learn_from, found {len(folders)}"
        )
    shards, attributes = open_corpus(inputs)
    tables, texts = attributes.only("hash", "edits"), CorpusTexts(shards, attributes)

    @cache
    def cost() -> Callable[[Sequence[str]], list[tuple[float, int]]]:
        return learned.model.score if learned else language_model_cost(folders[0], config.window)

    def score_block(block: range, path: Path) -> None:
        costs = cost()([texts[number] for number in block])
        with path.open("wb") as stream:
            np.save(stream, np.array([math.exp(nats / count) if count else np.nan for nats, count in costs]))

    blocks, start = list[list[Part[range]]](), 0
    for shard, table in zip(shards, tables.only(), strict=True):
        cuts = list(_blocks(table.characters.tolist()))
        folder = context.work / shard.name
        blocks.append(
            [Part(range(start + low, start + high), folder / f"{low:09d}.npy", size) for low, high, size in cuts]
        )
        start += len(table)
    carry_out(score_block, [*chain(*blocks)], ExecutionConfig(workers=1), context.progress, "characters")
    (context.output / ATTRIBUTES).mkdir()
    measured = []
    for shard, table, of_shard in zip(shards, tables, blocks, strict=True):
        values = np.concatenate([np.load(block.done) for block in of_shard])
        rows = _rows(shard, table, values, config.score)
        write_attributes(context.output / ATTRIBUTES / f"{shard.name}.parquet", rows)
        measured.append(values)
    result = _result(config.score, np.concatenate(measured))
    sections = (ngram_section(learned, config.score),) if learned else ()
    return replace(result, sections=(*result.sections, *sections))


def _blocks(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start, end and characters of the parts of a shard, one at least, by the characters of its documents."""
    start = size = 0
    for index, characters in enumerate(sizes):
        if index > start and size + characters > _PART_CHARACTERS:
            yield start, index, size
            start, size = index, 0
        size += characters
    yield start, len(sizes), size


def _rows(shard: Shard, table: AttributeTable, values: np.ndarray, measure: str) -> Iterator[DocumentAttributes]:
    """Attribute rows with the edits by which the texts were repaired, so that both attributes can be joined."""
    for index, document in enumerate(shard):
        value = float(values[index])
        yield DocumentAttributes(
            document.uri,
            document.hash,
            kind_of(document),
            int(table.characters[index]),
            int(table.bytes[index]),
            Attributes({} if math.isnan(value) else {measure: value}),
            tuple(table.edits[index]),
            document.source,
        )


def _result(measure: str, values: np.ndarray) -> StageResult:
    known = values[np.isfinite(values)]
    quartiles = (
        [f"{quantile:.4g}" for quantile in np.quantile(known, [0, 0.25, 0.5, 0.75, 1])] if len(known) else ["none"] * 5
    )
    columns = ("measure", "documents", "lowest", "a quarter", "median", "three quarters", "highest")
    text = (
        f"{len(known):,} of {len(values):,} documents have a perplexity: e to the power of the nats that a token "
        "costs. It depends on the model's vocabulary, so those of two models cannot be compared."
    )
    table = Table(columns, ((measure, len(known), *quartiles),))
    return StageResult({"documents": len(values), "scored": len(known)}, (Section("Perplexity", text, (table,)),))
