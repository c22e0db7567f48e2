"""The measures of FineWeb's own rules (Penedo et al. 2024, "The FineWeb Datasets", section 3.6), which it chose by
ablation out of some fifty.

Lines are those that are not blank, with the spaces at their ends, as in datatrove 0.10.1, which made FineWeb. Its code
has a fourth rule that the paper does not name: newlines for each token.
"""

from lmworks.data.annotate.repetition import duplicates
from lmworks.data.annotate.words import SENTENCE_TERMINALS
from lmworks.data.annotation import Annotations, Text

_SHORT = 30  # characters


def fineweb(text: Text) -> Annotations:
    """Measures; absent where there is nothing to divide by.

    terminal_line_share  Of the lines, those whose last character ends a sentence in any script (Unicode's
                         Sentence_Terminal); quotation marks are none of these.
    short_line_share     Of the lines, those of at most 30 characters.
    fineweb_duplicate_character_share   Of all characters but newlines, those in lines that repeat an earlier one.
    newlines_per_word, newlines_per_token
    """
    measures: dict[str, float] = {}
    lines = [line for line in text.lines if line and not line.isspace()]
    newlines = len(text.lines) - 1
    if lines:
        measures["terminal_line_share"] = sum(line[-1] in SENTENCE_TERMINALS for line in lines) / len(lines)
        measures["short_line_share"] = sum(len(line) <= _SHORT for line in lines) / len(lines)
        measures["fineweb_duplicate_character_share"] = duplicates(lines)[1] / (len(text.text) - newlines)
    if text.words:
        measures["newlines_per_word"] = newlines / len(text.words)
    if text.tokens:
        measures["newlines_per_token"] = newlines / len(text.tokens)
    return Annotations(measures)
