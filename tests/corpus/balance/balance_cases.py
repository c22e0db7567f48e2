"""Documents of several sources, and the stage over them."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from lmworks.artefact import StageContext, StageResult
from lmworks.corpus.attributes import ATTRIBUTES, Attributes, DocumentAttributes, write_attributes
from lmworks.corpus.balance.balanced_corpus import LEDGER
from lmworks.corpus.balance.config import BalanceConfig
from lmworks.corpus.balance.stage import balance
from lmworks.corpus.documents import DocumentStore, write_documents
from lmworks.corpus.work_parts import ExecutionConfig
from lmworks.records import Document

CODE = "def f(x):\n    # number {0}\n    if x:\n        return {0}\n    return x  # else\n"


def document(text: str, uri: str, language: str | None = "en", kind: str = "text") -> Document:
    source = uri.partition("/")[0]
    return Document(text, uri, "text/plain", "plain", "1", "0" * 64, language=language, source=source, kind=kind)


def corpus(prefix: str = "") -> list[Document]:
    """120 documents of web in three languages, 30 of wiki, 20 of code."""
    web = [
        document(
            f"{prefix}Page {n} says something. It says “so”. " * (1 + n % 9), f"web/{n}", ("en", "de", None)[n % 3]
        )
        for n in range(120)
    ]
    wiki = [document(f"{prefix}Article {n} knows better. Much better. " * (2 + n % 5), f"wiki/{n}") for n in range(30)]
    code = [document(f"# {prefix}\n" + CODE.format(n), f"code/{n}.py", None, "code") for n in range(20)]
    return [*web, *wiki, *code]


def artefact(folder: Path, documents: list[Document], shard_bytes: int = 20_000) -> Path:
    folder.mkdir(parents=True)
    write_documents(folder, documents, shard_bytes)
    return folder


def tagged(folder: Path, documents: list[Document], measures, labels=None) -> Path:
    """Attributes: a score or label for each document; None where it has none."""
    (folder / ATTRIBUTES).mkdir(parents=True)
    rows = [
        DocumentAttributes(
            *(each.uri, each.hash, "text", len(each.text), len(each.text.encode())),
            Attributes(
                {name: value for name, of in measures.items() if (value := of(place)) is not None},
                (),
                {name: value for name, of in (labels or {}).items() if (value := of(place)) is not None},
            ),
        )
        for place, each in enumerate(documents)
    ]
    write_attributes(folder / ATTRIBUTES / "00000-0.parquet", rows)
    return folder


def run(folder: Path, config: BalanceConfig, **inputs: Path) -> tuple[StageResult, list[Document], list[dict]]:
    """What the stage reports, the documents that it makes, and its ledger."""
    output, work = folder / "output", folder / "work"
    output.mkdir(parents=True)
    work.mkdir()
    config = replace(config, execution=ExecutionConfig(1))
    result = balance(config, StageContext(inputs, output, work))
    return result, list(DocumentStore(output)), pq.read_table(output / LEDGER).to_pylist()


def size(text: str) -> int:
    return len(text.encode())
