"""The scores of published heuristic filters, and their thresholds: Gopher's quality rules, C4, FineWeb, signs of spam.

Gopher's paper does not say what a word is. Here it is one of `words.py`, without punctuation; for the share of words
with a letter it is what stands between spaces in prose, since that rule is about symbols that stand alone. datatrove
0.10.1 divides by tokens, in which punctuation counts: the scores `…_token_…` are those. Its shares of lines are of all
lines (`filled_line_share` times ours), and it knows two bullets, • and -. Of C4's it looks for "lorem ipsum" and "{"
only in lines that end as sentences do, and the paper in the page; the scores `c4_kept_…` are of the lines that stay. A
typographic quotation mark is no end of a sentence to it, nor is the end of "text. [1]".
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.repetition import duplicates
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import DENSE, SENTENCE_TERMINALS, mostly, sentence_count

# Those of the paper; of other languages none are published there, so the score is absent.
STOP_WORDS: Mapping[str, frozenset[str]] = {"en": frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})}
_BULLETS = tuple("•‣⁃◦▪●■·*-")
_ELLIPSES = ("...", "…")


def gopher(text: Text) -> Attributes:
    """Rae et al. 2021, "Scaling Language Models", appendix A.1.1; absent where there is nothing to divide by. Mean
    length is absent where letters are words or syllables, as in Chinese, Thai and Korean."""
    words, number = text.words, len(text.tokens)
    scores: dict[str, float] = {"words": len(words), "tokens": number}
    symbols = {"hash": text.text.count("#"), "ellipsis": sum(map(text.text.count, _ELLIPSES))}
    for unit, units in (("token", number), ("word", len(words))):
        if units:
            scores |= {f"{symbol}_{unit}_ratio": count / units for symbol, count in symbols.items()}
    if number:
        if chunks := text.prose.text.split():
            scores["alphabetic_word_share"] = _alphabetic(chunks) / len(chunks)
        scores["alphabetic_token_share"] = _alphabetic(words) / number
    if words:
        mean = sum(map(len, words)) / len(words)
        if mean >= 4 or not mostly(DENSE, words):
            scores["mean_word_length"] = mean
    if (stop_words := STOP_WORDS.get(text.language)) is not None:
        seen = set(words)
        scores["stop_words"] = sum(not seen.isdisjoint((w, w.capitalize(), w.upper())) for w in stop_words)
    if lines := [stripped for line in text.lines if (stripped := line.strip())]:
        scores["bullet_line_share"] = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
        scores["ellipsis_line_share"] = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
        scores["filled_line_share"] = len(lines) / len(text.lines)
    return Attributes(scores)


def _alphabetic(words: Sequence[str]) -> int:
    """Count those that hold a letter. Most are all letters, and that is asked first, in one go."""
    rest = [word for word in words if not word.isalpha()]
    return len(words) - len(rest) + sum(any(map(str.isalpha, word)) for word in rest)


GOPHER = Tagger(
    "gopher",
    gopher,
    {
        "score.words": "words without punctuation",
        "score.tokens": "words, and all other characters that are no spaces",
        "score.mean_word_length": "characters of a word",
        "score.hash_word_ratio": "# for each word",
        "score.hash_token_ratio": "# for each token",
        "score.ellipsis_word_ratio": "... and … for each word",
        "score.ellipsis_token_ratio": "... and … for each token",
        "score.bullet_line_share": "of the lines that are not blank, those that begin with a bullet",
        "score.ellipsis_line_share": "of the lines that are not blank, those that end with an ellipsis",
        "score.filled_line_share": "of all lines, those that are not blank",
        "score.alphabetic_word_share": "of what stands between spaces in prose, that with a letter",
        "score.alphabetic_token_share": "of all tokens, those with a letter",
        "score.stop_words": "how many different ones of the eight, in English",
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2. Written for English pages whose
# lines are paragraphs. The first version (2019) wants lines of 3 words and pages of 5 sentences, and so does datatrove
# 0.10.1; the one in JMLR, and the code in TensorFlow Datasets, want lines of 5 words and pages of 3 sentences. Words of
# over 1,000 characters, policies and marks of citation are from that code.

_FEWEST_WORDS, _LONGEST_WORD = 3, 1000
_ENDS, _NO_END = (".", "?", "!", '"', "'", "”", "’"), "..."
_PHRASES = {
    "c4.javascript": ("javascript",),
    "c4.policy": ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
}
_PLACEHOLDER = "lorem ipsum"
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")


def c4(text: Text) -> Attributes:
    """Spans of lines to cut, each with its newline, one for each rule that says so, and of citations; scores of what
    stays. Blank lines are left alone."""
    lowered = text.text.lower()
    # Mostly none: no line is asked.
    phrases = {rule: found for rule, all_of in _PHRASES.items() if (found := [p for p in all_of if p in lowered])}
    spans: list[TaggedSpan] = []
    kept: list[str] = []
    lines = end = 0
    for line in text.lines:
        start, end = end, end + len(line) + 1
        if not (stripped := line.strip()):
            continue
        lines += 1
        bare = _CITATION.sub("", stripped).rstrip() if "[" in stripped else stripped
        if rules := _broken_rules(stripped, bare, phrases):
            spans += [TaggedSpan(rule, start, min(end, len(text.text))) for rule in rules]
        else:
            kept.append(bare)
    stays = "\n".join(kept)
    scores: dict[str, float] = {
        "lorem_ipsum": lowered.count(_PLACEHOLDER),
        "curly_brackets": text.text.count("{"),
        "c4_kept_lorem_ipsum": stays.lower().count(_PLACEHOLDER),
        "c4_kept_curly_brackets": stays.count("{"),
        "c4_kept_sentences": sum(map(sentence_count, kept)),
    }
    if lines:
        scores["c4_kept_line_share"] = len(kept) / lines
    citations = _CITATION.finditer(text.text) if "[" in text.text else ()
    return Attributes(scores, (*spans, *(TaggedSpan("c4.citation", *match.span()) for match in citations)))


def _broken_rules(line: str, bare: str, phrases: Mapping[str, Sequence[str]]) -> list[str]:
    """The rules that cut the line. `bare` is the line without citations."""
    rules: list[str] = []
    if not bare.endswith(_ENDS) or bare.endswith(_NO_END):
        rules.append("c4.no_terminal_punctuation")
    if len(line.split(None, _FEWEST_WORDS)) < _FEWEST_WORDS:
        rules.append("c4.few_words")
    if len(line) > _LONGEST_WORD and max(map(len, line.split())) > _LONGEST_WORD:
        rules.append("c4.long_word")
    if phrases:
        lowered = bare.lower()
        rules += [rule for rule, words in phrases.items() if any(phrase in lowered for phrase in words)]
    return rules


C4 = Tagger(
    "c4",
    c4,
    {
        "score.lorem_ipsum": "how often the text says so, in any case",
        "score.curly_brackets": "how many { it has",
        "score.c4_kept_lorem_ipsum": "the same of the lines that no rule cuts",
        "score.c4_kept_curly_brackets": "the same of the lines that no rule cuts",
        "score.c4_kept_sentences": "sentences in those lines, each line by itself",
        "score.c4_kept_line_share": "of the lines that are not blank, those",
        "span.c4.no_terminal_punctuation": "a line that ends like no sentence",
        "span.c4.few_words": "a line of fewer than three words",
        "span.c4.long_word": "a line with a word of more than 1,000 characters",
        "span.c4.javascript": "a line that speaks of JavaScript",
        "span.c4.policy": "a line that speaks of cookies, privacy or terms of use",
        "span.c4.citation": "[12], [edit], [citation needed], []",
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# FineWeb's own rules (Penedo et al. 2024, "The FineWeb Datasets", section 3.6), which it chose by ablation out of some
# fifty. Lines are those that are not blank, with the spaces at their ends, as in datatrove 0.10.1, which made FineWeb.

_SHORT = 30  # characters


def fineweb(text: Text) -> Attributes:
    """Absent where there is nothing to divide by. Newlines for each token are a rule of the code alone."""
    scores: dict[str, float] = {}
    lines = [line for line in text.lines if line and not line.isspace()]
    newlines = len(text.lines) - 1
    if lines:
        scores["terminal_line_share"] = sum(line[-1] in SENTENCE_TERMINALS for line in lines) / len(lines)
        scores["short_line_share"] = sum(len(line) <= _SHORT for line in lines) / len(lines)
        scores["fineweb_duplicate_character_share"] = duplicates(lines)[1] / (len(text.text) - newlines)
    if text.words:
        scores["newlines_per_word"] = newlines / len(text.words)
    if text.tokens:
        scores["newlines_per_token"] = newlines / len(text.tokens)
    return Attributes(scores)


FINEWEB = Tagger(
    "fineweb",
    fineweb,
    {
        "score.terminal_line_share": "of the lines, those whose last character ends a sentence in any script",
        "score.short_line_share": "of the lines, those of at most 30 characters",
        "score.fineweb_duplicate_character_share": "of all characters but newlines, those in lines that come again",
        "score.newlines_per_word": "newlines for each word",
        "score.newlines_per_token": "newlines for each token",
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Spam: pages get likelier to be it as they compress better (Ntoulas et al. 2006, "Detecting Spam Web Pages through
# Content Analysis") and as more of them is links. Where a threshold lies depends on the source.

_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^()\s]*\)|http://[^\s<>()\[\]]+|https://[^\s<>()\[\]]+|www\.[^\s<>()\[\]]+")


def spam(text: Text) -> Attributes:
    """Absent where there is nothing to measure."""
    scores: dict[str, float] = {}
    if data := text.text.encode("utf-8", "surrogatepass"):
        scores["compression_ratio"] = len(data) / len(zlib.compress(data))
    shown, linked = sum(map(len, text.text.split())), 0
    for match in _LINK.finditer(text.text):
        label = match[1]
        if label is None:
            linked += len(match[0])
        else:  # brackets and address are no text of the page
            shown -= len(match[0]) - len(label)
            linked += sum(map(len, label.split()))
    if shown > 0:
        scores["link_density"] = linked / shown
    return Attributes(scores)


SPAM = Tagger(
    "spam",
    spam,
    {
        "score.compression_ratio": "bytes for each byte of zlib's: what repeats itself compresses well",
        "score.link_density": "of all characters that are no spaces, those of links",
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Thresholds: a score, and the lowest and highest value with which a document stays. In the order in which datatrove
# 0.10.1 looks, so that first reasons can be compared. The presets `datatrove_…` give its verdicts where its scores or
# numbers are not those of the papers.

Preset = Literal[
    "gopher", "gopher_repetition", "c4", "fineweb", "datatrove_gopher", "datatrove_c4", "datatrove_fineweb"
]
Published = tuple[str, float | None, float | None]

_OF_TOKENS = {"hash_word_ratio", "ellipsis_word_ratio", "alphabetic_word_share"}
_GOPHER: tuple[Published, ...] = (  # Rae et al. 2021, appendix A.1.1
    ("words", 50, 100_000),
    ("mean_word_length", 3, 10),
    ("hash_word_ratio", None, 0.1),
    ("ellipsis_word_ratio", None, 0.1),
    ("bullet_line_share", None, 0.9),
    ("ellipsis_line_share", None, 0.3),
    ("alphabetic_word_share", 0.8, None),
    ("stop_words", 2, None),
)
_LINES: tuple[Published, ...] = (("terminal_line_share", 0.12, None), ("short_line_share", None, 0.67))
_NEWLINES: Published = ("newlines_per_token", None, 0.3)  # of datatrove; the paper does not name it
_SENTENCES: Published = ("c4_kept_sentences", 5, None)  # Raffel et al., section 2.2, of the first version (2019)
_DUPLICATES = "fineweb_duplicate_character_share"

PRESETS: Mapping[Preset, tuple[Published, ...]] = {
    "gopher": _GOPHER,
    "gopher_repetition": (  # table A1
        ("duplicate_paragraph_share", None, 0.30),
        ("duplicate_paragraph_character_share", None, 0.20),
        ("duplicate_line_share", None, 0.30),
        ("duplicate_line_character_share", None, 0.20),
        *((f"top_{n}_gram_character_share", None, most) for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))),
        *((f"duplicate_{n}_gram_character_share", None, round(0.20 - n / 100, 2)) for n in range(5, 11)),
    ),
    "c4": (("lorem_ipsum", None, 0), ("curly_brackets", None, 0), _SENTENCES),
    # Penedo et al. 2024, section 3.6. The paper drops a document that lies at a threshold as well; here, as in its
    # code, only one that lies beyond.
    "fineweb": (*_LINES, (_DUPLICATES, None, 0.1), _NEWLINES),
    "datatrove_gopher": tuple(
        (name.replace("_word_", "_token_") if name in _OF_TOKENS else name, low, high) for name, low, high in _GOPHER
    ),
    "datatrove_c4": (("c4_kept_lorem_ipsum", None, 0), ("c4_kept_curly_brackets", None, 0), _SENTENCES),
    "datatrove_fineweb": (*_LINES, (_DUPLICATES, None, 0.01), _NEWLINES),
}
