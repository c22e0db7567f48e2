"""What is measured of documents."""

from dataclasses import dataclass, field

from lmworks.config import SHAPES_NOTHING
from lmworks.data.executing import ExecutionConfig


@dataclass(frozen=True, slots=True)
class AnnotateConfig:
    """What is looked for in documents. Nothing is decided here: thresholds are those of the policy of `data.clean`.

    repair        Whether texts are repaired before they are measured, each by what kind of source it is from: running
                  heads, page numbers and broken words of books, quotations in mail, noise of chats and of web pages.
    language      Whether the language of each document is told, and paragraphs in another one marked.
    heuristics    Whether the measures of Gopher, C4 and FineWeb are taken.
    personal      Whether personal data and credentials are looked for.
    licences      Whether statements of a licence are.
    spam          Whether the measures of web spam are taken.
    quality       A classifier that `lmworks data classifier` trained, for the measure `quality`.
    word_lists    Files with a word or phrase a line, for the measures `words.NAME`.
    perplexity    A model that `lmworks data ngrams` trained, for the measure `perplexity`.
    evaluation    Files with items of evaluation sets: documents that hold one are marked.
    execution     Who does the work.
    """

    repair: bool = True
    language: bool = True
    heuristics: bool = True
    personal: bool = True
    licences: bool = True
    spam: bool = True
    quality: str = ""
    word_lists: tuple[str, ...] = ()
    perplexity: str = ""
    evaluation: tuple[str, ...] = ()
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)
