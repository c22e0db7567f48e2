"""Several vocabularies on the same texts: what the report shows, and what an extended vocabulary saves."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.records import Score
from lmworks.tokenizer.fertility import Counts, Text, count, parity, ratio, scores
from lmworks.tokenizer.reachable_tokens import Reachability, reachability
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.undertrained import Undertrained, undertrained

LEAST_HELD_OUT = 2  # documents: one has no spread


@dataclass(frozen=True)
class EmbeddingRows:
    """The rows of an embedding, (rows, width) floating point; `tied`: they make the logits, too."""

    values: np.ndarray
    tied: bool


@dataclass(frozen=True)
class Comparison:
    """Measures of vocabularies on texts; `counts` and what is derived from them by names of (vocabulary, text).

    reference       the text whose translations the others are.
    undertrained    for the vocabularies whose embedding was given; a string says why one could not be judged.
    """

    vocabularies: Mapping[str, Tokenizer]
    texts: Mapping[str, Text]
    reference: str | None
    counts: Mapping[tuple[str, str], Counts]
    reaches: Mapping[str, Reachability]
    undertrained: Mapping[str, Undertrained | str] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[tuple[str, str], dict[str, Score]]:
        """The measures by their names, "parity" among them where there is a reference."""
        found = {}
        for (vocabulary, text), counts in self.counts.items():
            tokenizer = self.vocabularies[vocabulary]
            values = scores(counts, tokenizer, self.texts[text])
            if self.reference not in (None, text):
                assert self.reference is not None
                original = self.counts[vocabulary, self.reference]
                values["parity"] = parity(counts, original, tokenizer, self.texts[text], self.texts[self.reference])
            found[vocabulary, text] = values
        return found

    def uses(self, vocabulary: str) -> np.ndarray:
        """(ids,) int64: how often each id occurs in all texts together."""
        return np.sum([self.counts[vocabulary, text].uses for text in self.texts], axis=0)


def compare(
    vocabularies: Mapping[str, Tokenizer],
    texts: Mapping[str, Text],
    reference: str | None = None,
    embeddings: Mapping[str, EmbeddingRows] | None = None,
    progress: Report = no_report,
) -> Comparison:
    """Measures every vocabulary on every text; ValueError for no vocabulary, no text, an empty one, or a reference
    that is none of the texts. `progress` counts the characters of all texts under all vocabularies."""
    if not vocabularies or not texts:
        raise ValueError("a comparison needs a vocabulary and a text, at least")
    if empty := [name for name, text in texts.items() if not text.characters]:
        raise ValueError(f"no text in {', '.join(empty)}")
    if reference is not None and reference not in texts:
        raise ValueError(f"the reference {reference!r} is none of the texts: {', '.join(texts)}")
    total = len(vocabularies) * sum(text.characters for text in texts.values())
    done, counts = 0, {}
    for vocabulary, tokenizer in vocabularies.items():
        for name, text in texts.items():
            counts[vocabulary, name] = count(tokenizer, text, _from(done, total, progress))
            done += text.characters
    reaches = {name: reachability(tokenizer) for name, tokenizer in vocabularies.items()}
    judged = {name: _judged(rows, reaches[name]) for name, rows in (embeddings or {}).items()}
    return Comparison(vocabularies, texts, reference, counts, reaches, judged)


def _from(start: int, whole: int, progress: Report) -> Report:
    """Progress of a part of the work, as progress of the whole."""

    def report(done: int, total: int | None, unit: str, kept: int = 0, note: str = "") -> None:
        progress(start + done, whole, unit)

    return report


def _judged(rows: EmbeddingRows, reached: Reachability) -> Undertrained | str:
    try:
        return undertrained(rows.values, reached, rows.tied)
    except ValueError as error:
        return str(error)


# ---------------------------------------------------------------------------------------------------------------------
# An extended vocabulary


def hold_out(text: Text, share: float) -> tuple[Text, Text]:
    """The documents to choose tokens from, and at least this share of the different ones, held out to measure on.

    On the documents that tokens were chosen from, any number of them looks good: a token for a name that one document
    repeats saves a lot there and nothing elsewhere. So whole documents are held out, and equal ones stay together.
    Which ones depends on the documents alone, not on their order. ValueError where that leaves less than
    `LEAST_HELD_OUT` on either side, and for a share that is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of documents to hold out lies between 0 and 1, got {share}")
    different = sorted({each for each in text.passages if each.strip()}, key=_order)
    count = max(math.ceil(share * len(different)), LEAST_HELD_OUT)
    if len(different) - count < LEAST_HELD_OUT:
        raise ValueError(
            f"{len(different)} different documents are too few to choose tokens from some and hold {share:.0%} out: "
            "give several files, a file with several lines, or a .jsonl file with several rows"
        )
    held = set(different[:count])
    kept = tuple(each for each in text.passages if each not in held)
    return Text(kept, text.unit), Text(tuple(each for each in text.passages if each in held), text.unit)


def _order(document: str) -> bytes:
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()


def bytes_per_token(tokenizer: Tokenizer, text: Text) -> Score:
    """UTF-8 bytes that a token stands for, with its interval by document."""
    sizes = np.array([len(document.encode()) for document in text.passages], np.int64)
    return ratio(sizes, _tokens(tokenizer, text.passages), _signature("bytes per token", text, tokenizer))


def tokens_left(before: Tokenizer, after: Tokenizer, text: Text) -> Score:
    """Tokens of the same text after for each token before, with its interval by document."""
    counts, former = (_tokens(tokenizer, text.passages) for tokenizer in (after, before))
    return ratio(counts, former, _signature("tokens left", text, before, after))


def _tokens(tokenizer: Tokenizer, documents: Sequence[str]) -> np.ndarray:
    return np.array([len(ids) for ids in tokenizer.encode_batch(documents)], np.int64)


def _signature(name: str, text: Text, *tokenizers: Tokenizer) -> dict[str, object]:
    hashes = [tokenizer.hash for tokenizer in tokenizers]
    return {"measure": name, "version": 1, "tokenizers": hashes, "text": text.hash, "unit": text.unit}
