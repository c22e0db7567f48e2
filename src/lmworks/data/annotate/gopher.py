"""The measures of Gopher's quality rules (Rae et al. 2021, "Scaling Language Models", appendix A.1.1).

The paper does not say what a word is. Here it is one of `words.py`, without punctuation, for the number of words, their
mean length, stop words and ratios of symbols. For the share of words with a letter it is what stands between spaces,
since that rule is about symbols that stand alone, in prose: blocks of code between fences of Markdown, and the bars and
dashes that draw its tables, are left out (`prose`).

datatrove 0.10.1 divides by tokens, in which punctuation counts: ratios of symbols get smaller, and prose with much
punctuation fails the rule of letters. The measures `…_token_…` are those. It also counts blank lines as lines that
begin with no bullet; `filled_line_share` times a share of lines is its share. It knows two bullets, • and -.
"""

from collections.abc import Mapping, Sequence

from lmworks.data.annotate.prose import prose
from lmworks.data.annotate.words import dense_share
from lmworks.data.annotation import Annotations, Text

# Those of the paper; of other languages none are published there, so the measure is absent.
STOP_WORDS: Mapping[str, frozenset[str]] = {"en": frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})}
_BULLETS = tuple("•‣⁃◦▪●■·*-")
_ELLIPSES = ("...", "…")


def gopher(text: Text) -> Annotations:
    """Measures; ratios and shares are absent where there is nothing to divide by.

    words, tokens           How many there are.
    mean_word_length        Characters. Absent where letters are words or syllables, as in Chinese, Thai and Korean:
                            where words are short and most are of such scripts.
    hash_word_ratio         `#` for each word; `hash_token_ratio` for each token.
    ellipsis_word_ratio     `...` and `…` for each word; `ellipsis_token_ratio` for each token.
    bullet_line_share       Of the lines that are not blank, those that begin with a bullet.
    ellipsis_line_share     ... and those that end with an ellipsis.
    filled_line_share       Of all lines, those that are not blank.
    alphabetic_word_share   Of what stands between spaces in prose, that with a letter; `alphabetic_token_share` of all
                            tokens.
    stop_words              How many different ones of the eight; whatever their case. Only in English.
    """
    return Annotations({**_words(text), **_lines(text)})


def _words(text: Text) -> dict[str, float]:
    words, tokens = text.words, text.tokens
    measures: dict[str, float] = {"words": len(words), "tokens": len(tokens)}
    symbols = {"hash": text.text.count("#"), "ellipsis": sum(map(text.text.count, _ELLIPSES))}
    for unit, number in (("token", len(tokens)), ("word", len(words))):
        if number:
            measures |= {f"{symbol}_{unit}_ratio": count / number for symbol, count in symbols.items()}
    if tokens:
        if chunks := prose(text).text.split():
            measures["alphabetic_word_share"] = _alphabetic(chunks) / len(chunks)
        measures["alphabetic_token_share"] = _alphabetic(words) / len(tokens)
    if words:
        mean = sum(map(len, words)) / len(words)
        if mean >= 4 or dense_share(words) <= 0.5:
            measures["mean_word_length"] = mean
    if (stop_words := STOP_WORDS.get(text.language)) is not None:
        seen = set(words)
        measures["stop_words"] = sum(
            1 for word in stop_words if word in seen or word.capitalize() in seen or word.upper() in seen
        )
    return measures


def _alphabetic(words: Sequence[str]) -> int:
    """How many hold a letter. Most are all letters, and that is asked first, in one go."""
    rest = [word for word in words if not word.isalpha()]
    return len(words) - len(rest) + sum(1 for word in rest if any(map(str.isalpha, word)))


def _lines(text: Text) -> dict[str, float]:
    lines = [stripped for line in text.lines if (stripped := line.strip())]
    if not lines:
        return {}
    return {
        "bullet_line_share": sum(line.startswith(_BULLETS) for line in lines) / len(lines),
        "ellipsis_line_share": sum(line.endswith(_ELLIPSES) for line in lines) / len(lines),
        "filled_line_share": len(lines) / len(text.lines),
    }
