"""Cheap signs of spam, most of them from Ntoulas et al. 2006, "Detecting Spam Web Pages through Content Analysis".

None of them is a verdict, and where a threshold lies depends on the source. In the paper pages get likelier to be spam
as they compress better, as their titles grow, and as common words make up less of them than of natural text.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lmworks.data.annotate.words import tokens, words_among
from lmworks.data.annotation import Annotations, Text

_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^()\s]*\)|http://[^\s<>()\[\]]+|https://[^\s<>()\[\]]+|www\.[^\s<>()\[\]]+")
_TITLE = re.compile(r"\s*#[ \t]+([^\n]+)")
_KEYWORD_LETTERS = 4  # shorter words are mostly articles, pronouns and the like
_KEYWORDS = 5


@dataclass(frozen=True, slots=True)
class Spam:
    """The annotator.

    common  Words that are common in good texts of the language (`common_words`), casefolded. They are no keywords;
            without them, whatever has four letters is one, and the measures of common words are absent.
    """

    common: frozenset[str] = frozenset()

    def __call__(self, text: Text) -> Annotations:
        """Measures; absent where there is nothing to measure.

        compression_ratio   Bytes of UTF-8 for each byte of zlib's: what repeats itself compresses well.
        common_word_share   Of all words, those that are common; natural text is full of them.
        common_words_used   Of the common words, those that occur; grows with the length of a text.
        keyword_share       Of all words, the most frequent one that could be a keyword: stuffing repeats it.
        top_keywords_share  ... and the five most frequent ones.
        link_density        Of all characters that are no spaces, those of links: the text of Markdown's, and bare ones.
        title_words         Words of the title, a heading `# ` in the first line.
        """
        return Annotations({**_compression(text.text), **self._words(text), **_links(text.text), **_title(text.text)})

    def _words(self, text: Text) -> dict[str, float]:
        counts = Counter(_folded(text.words))
        if not counts:
            return {}
        number = counts.total()
        measures: dict[str, float] = {}
        if self.common:
            used = self.common & counts.keys()
            measures["common_word_share"] = sum(map(counts.__getitem__, used)) / number
            measures["common_words_used"] = len(used) / len(self.common)
        keywords = [
            count for word, count in counts.items() if len(word) >= _KEYWORD_LETTERS and word not in self.common
        ]
        top = sorted(keywords, reverse=True)[:_KEYWORDS]
        measures["keyword_share"] = (top[0] if top else 0) / number
        measures["top_keywords_share"] = sum(top) / number
        return measures


def common_words(texts: Iterable[str], number: int = 500) -> frozenset[str]:
    """The most frequent words of texts, casefolded; of equally frequent ones, the first of the alphabet."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_folded(words_among(tokens(text))))
    return frozenset(sorted(counts, key=lambda word: (-counts[word], word))[:number])


def _folded(words: Iterable[str]) -> Iterable[str]:
    return map(str.casefold, words)


def _compression(text: str) -> dict[str, float]:
    data = text.encode("utf-8", "surrogatepass")
    return {"compression_ratio": len(data) / len(zlib.compress(data))} if data else {}


def _links(text: str) -> dict[str, float]:
    shown = sum(map(len, text.split()))
    linked = 0
    for match in _LINK.finditer(text):
        label = match[1]
        if label is None:
            linked += len(match[0])
        else:  # brackets and address are no text of the page
            shown -= len(match[0]) - len(label)
            linked += sum(map(len, label.split()))
    return {"link_density": linked / shown} if shown > 0 else {}


def _title(text: str) -> dict[str, float]:
    match = _TITLE.match(text)
    return {"title_words": len(words_among(tokens(match[1])))} if match else {}
