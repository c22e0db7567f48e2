"""What C4 cuts out of a page, and what it drops a page for (Raffel et al. 2020, "Exploring the Limits of Transfer
Learning", section 2.2). Written for English pages whose lines are paragraphs.

The numbers differ between versions of the paper. The first one (2019) wants lines of 3 words and pages of 5 sentences,
and so does datatrove 0.10.1. The one in JMLR, and the code in TensorFlow Datasets, want lines of 5 words and pages of 3
sentences: `C4(fewest_words=5)`. Words of over 1,000 characters, policies and marks of citation are from that code.

Where datatrove differs: it looks for "lorem ipsum" and "{" only in lines that end as sentences do, and the paper in the
page; the measures `c4_kept_…` are of the lines that stay. A typographic quotation mark is no end of a sentence to it,
though a plain one is, nor is the end of "text. [1]", since a space is left where the citation was.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.data.annotate.words import sentence_count
from lmworks.data.annotation import Annotations, Mark, Text

_ENDS = (".", "?", "!", '"', "'", "”", "’")
_NO_END = "..."
_SCRIPTS = ("javascript",)
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_PLACEHOLDER = "lorem ipsum"
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")


@dataclass(frozen=True, slots=True)
class C4:
    """The annotator.

    fewest_words  A line of fewer words, as spaces cut them, is marked.
    longest_word  So is a line with a word of more characters.
    """

    fewest_words: int = 3
    longest_word: int = 1000

    def __call__(self, text: Text) -> Annotations:
        """Marks of lines to cut, each with its newline, one for each rule that says so:
        `c4.no_terminal_punctuation`, `c4.few_words`, `c4.long_word`, `c4.javascript`, `c4.policy`. And `c4.citation`:
        "[12]", "[edit]", "[citation needed]", "[]". Blank lines are left alone.

        lorem_ipsum          How often the text says so, in any case.
        curly_brackets       How many `{` it has.
        c4_kept_lorem_ipsum, c4_kept_curly_brackets   The same of the lines that no mark cuts.
        c4_kept_sentences    Sentences in those lines, each line by itself.
        c4_kept_line_share   Of the lines that are not blank, those; absent where there are none.
        """
        lowered = text.text.lower()
        phrases = [phrase for phrase in (*_SCRIPTS, *_POLICIES) if phrase in lowered]  # mostly none: no line is asked
        marks: list[Mark] = []
        kept: list[str] = []
        lines = end = 0
        for line in text.lines:
            start, end = end, end + len(line) + 1
            if not (stripped := line.strip()):
                continue
            lines += 1
            bare = _CITATION.sub("", stripped).rstrip() if "[" in stripped else stripped
            if rules := self._rules(stripped, bare, phrases):
                marks += [Mark(rule, start, min(end, len(text.text))) for rule in rules]
            else:
                kept.append(bare)
        measures: dict[str, float] = {
            "lorem_ipsum": lowered.count(_PLACEHOLDER),
            "curly_brackets": text.text.count("{"),
            **_measure_kept(kept),
        }
        if lines:
            measures["c4_kept_line_share"] = len(kept) / lines
        return Annotations(measures, (*marks, *_citations(text.text)))

    def _rules(self, line: str, bare: str, phrases: Sequence[str]) -> list[str]:
        """Which rules cut the line. `bare` is the line without citations."""
        rules: list[str] = []
        if not bare.endswith(_ENDS) or bare.endswith(_NO_END):
            rules.append("c4.no_terminal_punctuation")
        if len(line.split(None, self.fewest_words)) < self.fewest_words:
            rules.append("c4.few_words")
        if len(line) > self.longest_word and max(map(len, line.split())) > self.longest_word:
            rules.append("c4.long_word")
        if phrases:
            lowered = bare.lower()
            found = [phrase for phrase in phrases if phrase in lowered]
            if any(phrase in _SCRIPTS for phrase in found):
                rules.append("c4.javascript")
            if any(phrase in _POLICIES for phrase in found):
                rules.append("c4.policy")
        return rules


def _measure_kept(lines: Sequence[str]) -> dict[str, float]:
    kept = "\n".join(lines)
    return {
        "c4_kept_lorem_ipsum": kept.lower().count(_PLACEHOLDER),
        "c4_kept_curly_brackets": kept.count("{"),
        "c4_kept_sentences": sum(map(sentence_count, lines)),
    }


def _citations(text: str) -> list[Mark]:
    if "[" not in text:
        return []
    return [Mark("c4.citation", *match.span()) for match in _CITATION.finditer(text)]
