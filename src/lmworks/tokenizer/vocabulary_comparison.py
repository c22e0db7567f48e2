"""Several vocabularies on the same texts: what the report shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.records import Score
from lmworks.tokenizer.fertility import Counts, Text, count, parity, scores
from lmworks.tokenizer.reachable_tokens import Reachability, reachability
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.undertrained import Undertrained, undertrained


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
        by_vocabulary_and_text = {}
        for (vocabulary, text), counts in self.counts.items():
            tokenizer = self.vocabularies[vocabulary]
            values = scores(counts, tokenizer, self.texts[text])
            if self.reference not in (None, text):
                assert self.reference is not None
                original = self.counts[vocabulary, self.reference]
                values["parity"] = parity(counts, original, tokenizer, self.texts[text], self.texts[self.reference])
            by_vocabulary_and_text[vocabulary, text] = values
        return by_vocabulary_and_text

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
            counts[vocabulary, name] = count(tokenizer, text)
            done += text.characters
            progress(done, total, "characters")
    reaches = {name: reachability(tokenizer) for name, tokenizer in vocabularies.items()}
    judged = {name: _judged(rows, reaches[name]) for name, rows in (embeddings or {}).items()}
    return Comparison(vocabularies, texts, reference, counts, reaches, judged)


def _judged(rows: EmbeddingRows, reached: Reachability) -> Undertrained | str:
    try:
        return undertrained(rows.values, reached, rows.tied)
    except ValueError as error:
        return str(error)
