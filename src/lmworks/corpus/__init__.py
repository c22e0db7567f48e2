"""From raw sources to a clean, explained corpus: read, tag, dedup, filter, balance."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.corpus.balance.config import BalanceConfig
    from lmworks.corpus.documents import DocumentStore, write_documents
    from lmworks.corpus.edits import CleanText, apply_edits
    from lmworks.corpus.filtering.filter_policy import Policy, default_policy, read_policy
    from lmworks.corpus.filtering.ledger import read_ledger
    from lmworks.corpus.read.config import ReadConfig
    from lmworks.corpus.read.document_reader import read_documents
    from lmworks.corpus.taggers.config import AnnotateConfig
    from lmworks.corpus.taggers.tag_document import tag_document

__getattr__, __all__ = lazy_exports(__name__, __file__)
