"""Configuration of chunking, index and search."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from lmworks.config import at_least, positive

EXACT, USEARCH = "exact", "usearch"
EXPANSION = 512  # candidates that a search of a graph keeps open: questions are farther from chunks than chunks are


@dataclass(frozen=True, slots=True)
class ChunkConfig:
    """Size of the chunks, in tokens of the encoder.

    Chunks do not overlap: they end where a block ends, and each character can be cited from one chunk only.

    target_tokens  What a chunk aims at.
    max_tokens     Most that the encoder reads for one chunk, its headings included, so that nothing is cut off
                   (all-MiniLM-L6-v2 reads 256 with its two special tokens).
    """

    target_tokens: int = 180
    max_tokens: int = 230

    def __post_init__(self) -> None:
        if not 8 <= self.target_tokens <= self.max_tokens:
            raise ValueError(
                f"expected 8 <= target_tokens <= max_tokens, got {self.target_tokens} and {self.max_tokens}"
            )


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """The stage `retrieve.index`; the encoder is the recipe's model in the role `embedder`.

    chunk  Size of the chunks.
    store  How the nearest chunks are found: "exact" reads all vectors; "usearch" walks a graph in a file next to the
           index, "postgresql://user@host:port/database" one in a database with pgvector. A password is taken from the
           environment (PGPASSWORD, ~/.pgpass), never from here.
    """

    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    store: str = EXACT

    def __post_init__(self) -> None:
        if self.store in (EXACT, USEARCH):
            return
        address = urlsplit(self.store)
        if address.scheme not in ("postgresql", "postgres"):
            raise ValueError(
                f"store must be {EXACT!r}, {USEARCH!r} or an address such as postgresql://user@host:5432/database"
            )
        if address.password is not None or any("password" in name for name, _ in parse_qsl(address.query)):
            raise ValueError(
                "the address of the store holds a password, which every manifest would repeat: take it out, and set "
                "PGPASSWORD or write ~/.pgpass"
            )


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Configuration of a search.

    k               How many passages are returned: the best that fit the budget together.
    candidates      How many each leg, dense and lexical, brings.
    near_duplicate  From which overlap (Jaccard) of its word shingles with those of a better one a chunk is dropped; 1
                    drops equal shingles only.
    budget_tokens   What the passages may have together; 0 is no budget.
    rerank          How many of the best are read by the reranker, where there is one.
    rewrites        How many further ways to ask the question are searched as well; the model in the role "expander"
                    writes them.
    hypothetical    Whether it writes a passage that might answer, whose vector is averaged with the question's.
    """

    k: int = 8
    candidates: int = 30
    near_duplicate: float = 0.8
    budget_tokens: int = 0
    rerank: int = 12
    rewrites: int = 0
    hypothetical: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.candidates < self.k:
            raise ValueError(f"expected 1 <= k <= candidates, got k={self.k}, candidates={self.candidates}")
        positive(up_to=1, near_duplicate=self.near_duplicate)
        at_least(0, budget_tokens=self.budget_tokens, rerank=self.rerank, rewrites=self.rewrites)

    @property
    def expands(self) -> bool:
        return bool(self.rewrites or self.hypothetical)
