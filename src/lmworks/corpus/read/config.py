"""Settings of reading: the sources, what of them is left out, and the bounds of a record."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.config import SHAPES_NOTHING, positive
from lmworks.corpus.work_parts import ExecutionConfig
from lmworks.sandbox import SandboxConfig

SourceCode = Literal["docstrings", "whole"]
Web = Literal["main", "whole"]
PYTHON_DOCS, LMWORKS_DOCS = "python-docs", "lmworks-docs"
NAMED_SOURCES = (PYTHON_DOCS, LMWORKS_DOCS)  # the documentation that Python and lmworks carry


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that hold the parts of a document. Only that of the text has to be there.

    text      Of the text; or of several, of which the first counts that holds a text in a row.
    title     Of its title.
    date      Of its date, in ISO 8601.
    licence   Of its licence, an SPDX expression.
    language  Of its language, ISO 639-1.
    id        Of what tells it from others, kept in its metadata.
    """

    text: str | tuple[str, ...] = "text"
    title: str = "title"
    date: str = "date"
    licence: str = "license"
    language: str = "language"
    id: str = "id"

    def __post_init__(self) -> None:
        if not self.texts or not all(self.texts):
            raise ValueError("columns need the name of the one that holds the text")

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the columns that may hold the text, the first ones before the others."""
        return (self.text,) if isinstance(self.text, str) else self.text


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Sources of documents.

    sources      Folders, files, globs such as `notes/**/*.md`, addresses that fsspec knows such as `s3://bucket/*.gz`,
                 or the names `python-docs` and `lmworks-docs`. A relative path starts at the folder of the recipe, or,
                 for a command, at the current one. Archives, tables, mailboxes and crawls are read record by record,
                 folders that a stage made and workspaces document by document.
    exclude      Glob patterns of what to leave out; one with a slash is matched against the path inside the source, one
                 without against the name of each file and folder.
    max_bytes    A file, or a record of one that holds many, of more bytes is left out.
    source_code  What becomes of source code: `docstrings`, to answer questions from, keeps those of Python files and
                 leaves other languages out; `whole`, to train on, keeps every file as it is.
    web          What becomes of web pages: `main`, their main text; `whole`, all of their text.
    kind         What sort of source it is, which decides about repairs and limits: `web`, `manual`, `book`, `code`,
                 `mail`, `chat`, `text`; `auto` goes by the format of each file, where a table or plain text is `text`
                 and a web page that reads like documentation is `manual`.
    licence      SPDX expression for documents that state none themselves.
    columns      Of tables (JSONL, CSV, Parquet): the names of the columns that hold the parts of a document.
    guard        Bounds of what a record may cost.
    execution    Who does the work.
    """

    sources: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("node_modules", "__pycache__", "site-packages")
    max_bytes: int = 20_000_000
    source_code: SourceCode = "docstrings"
    web: Web = "main"
    kind: Literal["auto", "web", "manual", "book", "code", "mail", "chat", "text"] = "auto"
    licence: str = ""
    columns: Columns = field(default_factory=Columns)
    guard: SandboxConfig = field(default_factory=SandboxConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def __post_init__(self) -> None:
        positive(max_bytes=self.max_bytes)
