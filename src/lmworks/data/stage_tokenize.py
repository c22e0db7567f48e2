"""The stage `data.tokenize`: documents and a tokenizer into token shards."""

import shutil
from collections.abc import Iterator
from itertools import islice

from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import TokenizeConfig
from lmworks.data.store import DOCUMENTS, DocumentStore
from lmworks.data.token_dataset import INDEX, TokenDataset, TokenWriter
from lmworks.data.tokenising import framing_id, tokenize_documents
from lmworks.records import Document
from lmworks.report import Section, Table
from lmworks.tokenizer.tokenizer import Tokenizer


def tokenize(config: TokenizeConfig, context: StageContext) -> StageResult:
    """Write the ids of the one input with documents, by the tokenizer of the one input with a `tokenizer.json`.

    Finished shards stay in `context.work`, so that a killed run goes on after the last of them. The shards are the same
    for any number of threads and whether or not the run was interrupted. ValueError when there is no document.
    """
    store = DocumentStore(context.input(DOCUMENTS))
    tokenizer = Tokenizer.load(context.input("tokenizer.json"))
    begin, end = framing_id(tokenizer, config.begin), framing_id(tokenizer, config.end)
    if not len(store):
        raise ValueError(f"{store.folder} holds no documents, so there is nothing to tokenize")
    (context.work / INDEX).unlink(missing_ok=True)  # of a run killed between its last shard and its end
    with TokenWriter(context.work, tokenizer.hash, tokenizer.vocabulary_size, config.shard_tokens) as writer:
        kept = len(writer.hashes)
        documents = _after(iter(store), writer.hashes.copy())
        for done, found in enumerate(tokenize_documents(documents, tokenizer, begin, end), start=kept + 1):
            writer.add(found.ids, found.hash, found.mask)
            context.progress(done, len(store), "documents", kept)
    for path in [*sorted(context.work.glob("tokens-*.bin")), context.work / INDEX]:
        shutil.move(path, context.output / path.name)
    framing = (begin is not None) + (end is not None)
    return _result(TokenDataset(context.output), sum(len(d.text.encode()) for d in store), framing)


def _after(documents: Iterator[Document], hashes: list[str]) -> Iterator[Document]:
    """The documents that an interrupted run has not written yet; those it has must be the first of these."""
    found = [document.hash for document in islice(documents, len(hashes))]
    if found != hashes:
        raise ValueError("the shards of the interrupted run are of other documents: delete its work folder")
    return documents


def _result(dataset: TokenDataset, size: int, framing: int) -> StageResult:
    """`size` is the bytes of all texts; `framing` tokens around each document stand for none of them."""
    of_text = dataset.tokens - framing * dataset.documents
    metrics = {
        "documents": dataset.documents,
        "tokens": dataset.tokens,
        "bytes": size,
        "bytes_per_token": round(size / of_text, 4) if of_text else None,
        "shards": len(dataset.shards),
        "empty_documents": int((dataset.lengths <= framing).sum()),
    }
    table = Table(("what", "count"), tuple((name.replace("_", " "), value or 0) for name, value in metrics.items()))
    vocabulary = dataset.index.vocabulary[:12]
    text = f"{dataset.documents:,} documents are {dataset.tokens:,} tokens of the vocabulary {vocabulary}…"
    return StageResult(metrics=metrics, sections=(Section("Tokens", text, (table,)),))
