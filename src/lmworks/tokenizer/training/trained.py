"""Result of a training: a tokenizer, and what its vocabulary was learnt from."""

from dataclasses import dataclass, field

from lmworks.tokenizer.merge_history import HEADINGS
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import Uncovered
from lmworks.tokenizer.training.merges import Merges
from lmworks.tokenizer.training.unigram_em import Pieces


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A tokenizer, and what it was learnt from.

    first        the id of the first token that was learnt: of BPE and WordPiece the alphabet's first
    words        different words that were learnt from
    occurrences  of them in the texts
    merges       of BPE and WordPiece: what was merged, in the order in which it was learnt
    pieces       of Unigram: with log-probabilities, in the order of the ids
    uncovered    characters that got no token; its `warning` is for the user
    """

    tokenizer: Tokenizer
    first: int
    words: int
    occurrences: int
    merges: Merges | None = None
    pieces: Pieces | None = None
    uncovered: Uncovered = field(default_factory=Uncovered)

    def trace(self) -> str | None:
        """A line for each merge, with tabs between: the token's id, those of the two that make it, and how often they
        were neighbours when it was learnt. The lines are in the order of learning, below a line of headings. None for
        Unigram."""
        if self.merges is None:
            return None
        made = self.first + len(self.merges.tokens) - len(self.merges)
        rows = zip(self.merges.left + self.first, self.merges.right + self.first, self.merges.counts, strict=True)
        lines = (f"{made + n}\t{left}\t{right}\t{count}" for n, (left, right, count) in enumerate(rows))
        return "\n".join([HEADINGS, *lines, ""])
