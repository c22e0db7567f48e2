"""The stage `retrieve.index`: documents into an index, going on from the last one and from where a kill stopped it."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmworks.adapt.adapter import load
from lmworks.artefact import StageContext, StageResult
from lmworks.corpus.documents import DOCUMENTS, open_documents
from lmworks.generate.text_embedding import TextEncoder
from lmworks.report import Figure, Section, Table, histogram
from lmworks.retrieve.catalogue import CATALOGUE, UnusableIndexError
from lmworks.retrieve.config import ChunkConfig, IndexConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.index import Index
from lmworks.retrieve.usearch_store import GRAPH
from lmworks.retrieve.vector_store import RECALL_AT, STORE, StoreRecord, check_store

SHOWN = 30  # sentences that command a model, in the report


def index(config: IndexConfig, context: StageContext) -> StageResult:
    """Build or update the index with the recipe's model in the role `embedder`."""
    return build_index(config, context, TextEncoder(load(context.models["embedder"])))


def build_index(config: IndexConfig, context: StageContext, encoder: Encoder) -> StageResult:
    """Index the documents of the one input that has some, into `context.output`.

    The work happens in `context.work`, which survives a kill: the next call continues there. The first call starts from
    the previous artefact where encoder and chunking are the same, so that only changed documents are embedded.
    Raises ValueError when there are no documents, or when the encoder would cut off chunks of the configured size.
    """
    if config.chunk.max_tokens > encoder.max_tokens:
        raise ValueError(
            f"chunk.max_tokens is {config.chunk.max_tokens}, the encoder reads only {encoder.max_tokens}: lower it"
        )
    check_store(config.store, encoder.width)
    store = open_documents(context.input(DOCUMENTS))
    started = time.monotonic()
    with _start(context, config.chunk, encoder) as working:
        counts = working.sync(store, encoder, context.progress)
        digest = working.digest()
        tokens = working.tokens()
        vector_store = working.build_store(config.store)
        instructions = [*_instructions(working)]
        sections = (_section(working, tokens, config.chunk, vector_store), *_warning(instructions))
        working.write_copy(context.output)
    files = [name for name in (STORE, GRAPH) if (context.work / name).is_file()]
    for name in files:
        shutil.copyfile(context.work / name, context.output / name)
    metrics = {
        "documents": len(store),
        "chunks": len(tokens),
        "tokens": sum(tokens),
        "embedded": counts.embedded,
        "reused": len(tokens) - counts.embedded,
        "added": counts.added,
        "replaced": counts.replaced,
        "removed": counts.removed,
        "unchanged": counts.unchanged,
        "instructions": len(instructions),
        "seconds": time.monotonic() - started,
        **({"store_recall": vector_store.recall} if vector_store else {}),
    }
    # One digest of what the files mean: their bytes depend on the order in which documents came and went, those of a
    # graph on the order in which threads added to it.
    return StageResult(metrics=metrics, sections=sections, digests=dict.fromkeys(files) | {CATALOGUE: digest})


def _start(context: StageContext, chunk: ChunkConfig, encoder: Encoder) -> Index:
    """The index to go on with: interrupted work, a copy of the previous artefact, or an empty one."""
    if (resumed := _usable(context.work, chunk, encoder)) is not None:
        return resumed
    for name in (CATALOGUE, f"{CATALOGUE}-journal"):
        (context.work / name).unlink(missing_ok=True)
    if context.previous is not None and (previous := _usable(context.previous, chunk, encoder)) is not None:
        previous.close()
        shutil.copyfile(context.previous / CATALOGUE, context.work / "copy.sqlite").rename(context.work / CATALOGUE)
        return Index.open(context.work, encoder.fingerprint, with_store=False)
    return Index.create(context.work, encoder, chunk)


def _usable(folder: Path, chunk: ChunkConfig, encoder: Encoder) -> Index | None:
    """The index in a folder, when it was made by the same encoder from chunks of the same kind."""
    try:
        index = Index.open(folder, encoder.fingerprint, with_store=False)
    except (FileNotFoundError, UnusableIndexError):
        return None
    if index.chunk_config == chunk:
        return index
    index.close()
    return None


def _instructions(working: Index) -> Iterator[tuple[str, str]]:
    """(uri, text) of what commands a language model."""
    for chunk in working.chunks(working.keys_with("instruction")):
        for start, end, kind in chunk.units:
            if kind == "instruction":
                yield chunk.uri, chunk.text[start - chunk.span.start : end - chunk.span.start]


def _warning(instructions: Sequence[tuple[str, str]]) -> Iterator[Section]:
    if instructions:
        text = (
            f"WARNING: {len(instructions)} sentences command a language model. Searches show them with their passages; "
            "no language model reads them, and no answer quotes them: docs/grounding.md#documents-that-command."
        )
        rows = tuple((uri, " ".join(sentence.split())[:200]) for uri, sentence in instructions[:SHOWN])
        yield Section("Commands to a model", text, (Table(("document", "sentence"), rows),))


def _section(working: Index, tokens: Sequence[int], chunk: ChunkConfig, store: StoreRecord | None) -> Section:
    """For the report: the sizes of the chunks, and what each source gave."""
    sources: dict[str, tuple[int, int]] = {}  # documents that have chunks, and these
    for document in working.summary():
        documents, chunks = sources.get(document["source"], (0, 0))
        if document["chunks"]:
            sources[document["source"]] = documents + 1, chunks + document["chunks"]
    rows = [(source, *counts) for source, counts in sources.items()]
    drawing = histogram(
        tokens,
        x="tokens of a chunk, headings included",
        y="chunks",
        marks={"target": chunk.target_tokens, "limit": chunk.max_tokens},
    )
    text = f"{len(tokens):,} chunks of {sum(count for _, count, _ in rows):,} documents, {sum(tokens):,} tokens."
    if store:
        text += (
            f" The store {store.store} finds {store.recall:.1%} of the {RECALL_AT} nearest chunks that an exact search "
            f"finds, for {store.sample} of the index's own vectors."
        )
    caption = "A chunk never crosses a section, so a short section is a short chunk."
    return Section("Index", text, (Table(("source", "documents", "chunks"), tuple(rows)),), (Figure(drawing, caption),))
