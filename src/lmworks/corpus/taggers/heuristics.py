"""The scores of published heuristic filters, and their thresholds: Gopher's quality rules, C4, FineWeb, signs of spam.

Gopher's paper does not say what a word is. Here it is one of `words.py`, without punctuation; for the share of words
with a letter it is what stands between spaces in prose, since that rule is about symbols that stand alone. A
typographic quotation mark is an end of a sentence to C4 here, and so is the end of "text. [1]".
"""

import re
import zlib
from collections.abc import Mapping
from typing import Literal

import regex

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.repetition import duplicates
from lmworks.corpus.taggers.tagger import Text, built_in
from lmworks.corpus.taggers.words import DENSE, mostly
from lmworks.tokenizer.sentence_splitter import sentence_ranges

# Those of the paper; of other languages none are published there, so the score is absent.
STOP_WORDS: Mapping[str, frozenset[str]] = {"en": frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})}
_BULLETS = tuple("•‣⁃◦▪●■·*-")
_ELLIPSES = ("...", "…")


def gopher(text: Text) -> Attributes:
    """Rae et al. 2021, "Scaling Language Models", appendix A.1.1; absent where there is nothing to divide by. Mean
    length is absent where letters are words or syllables, as in Chinese, Thai and Korean."""
    words = text.words
    scores: dict[str, float] = {"words": len(words)}
    if words:
        scores["hash_word_ratio"] = text.text.count("#") / len(words)
        scores["ellipsis_word_ratio"] = sum(map(text.text.count, _ELLIPSES)) / len(words)
    if chunks := text.prose.text.split():
        without = sum(not any(map(str.isalpha, chunk)) for chunk in chunks if not chunk[0].isalpha())  # few are left
        scores["alphabetic_word_share"] = (len(chunks) - without) / len(chunks)
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
    return Attributes(scores)


GOPHER = built_in("gopher", gopher)

# ---------------------------------------------------------------------------------------------------------------------
# C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2. Written for English pages whose
# lines are paragraphs. The first version (2019) wants lines of 3 words and pages of 5 sentences; the one in JMLR, and
# the code in TensorFlow Datasets, want lines of 5 words and pages of 3 sentences. Words of over 1,000 characters,
# policies and marks of citation are from that code.

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
    end = 0
    for line in text.lines:
        start, end = end, end + len(line) + 1
        if not (stripped := line.strip()):
            continue
        bare = _CITATION.sub("", stripped).rstrip() if "[" in stripped else stripped
        lowered_line = bare.lower() if phrases else ""
        broken = {
            "c4.no_terminal_punctuation": not bare.endswith(_ENDS) or bare.endswith(_NO_END),
            "c4.few_words": len(stripped.split(None, _FEWEST_WORDS)) < _FEWEST_WORDS,
            "c4.long_word": len(stripped) > _LONGEST_WORD and max(map(len, stripped.split())) > _LONGEST_WORD,
            **{rule: any(phrase in lowered_line for phrase in words) for rule, words in phrases.items()},
        }
        spans += [TaggedSpan(rule, start, min(end, len(text.text))) for rule, is_broken in broken.items() if is_broken]
        if not any(broken.values()):
            kept.append(bare)
    scores: dict[str, float] = {
        "lorem_ipsum": lowered.count(_PLACEHOLDER),
        "curly_brackets": text.text.count("{"),
        "c4_kept_sentences": len(sentence_ranges("\n\n".join(kept))),
    }
    citations = _CITATION.finditer(text.text) if "[" in text.text else ()
    return Attributes(scores, (*spans, *(TaggedSpan("c4.citation", *match.span()) for match in citations)))


C4 = built_in("c4", c4)

# ---------------------------------------------------------------------------------------------------------------------
# FineWeb's own rules (Penedo et al. 2024, "The FineWeb Datasets", section 3.6), which it chose by ablation out of some
# fifty. Lines are those that are not blank, with the spaces at their ends, as in datatrove 0.10.1, which made FineWeb.

_SHORT = 30  # characters
_TERMINAL = regex.compile(r"\p{Sentence_Terminal}")


def fineweb(text: Text) -> Attributes:
    """Absent where there is nothing to divide by. Newlines for each token are a rule of the code alone."""
    scores: dict[str, float] = {}
    lines = [line for line in text.lines if line and not line.isspace()]
    newlines = len(text.lines) - 1
    if lines:
        scores["terminal_line_share"] = sum(bool(_TERMINAL.match(line[-1])) for line in lines) / len(lines)
        scores["short_line_share"] = sum(len(line) <= _SHORT for line in lines) / len(lines)
        scores["fineweb_duplicate_character_share"] = duplicates(lines)[1] / (len(text.text) - newlines)
    if text.tokens:
        scores["newlines_per_token"] = newlines / len(text.tokens)
    return Attributes(scores)


FINEWEB = built_in("fineweb", fineweb)

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


SPAM = built_in("spam", spam)

# ---------------------------------------------------------------------------------------------------------------------
# Thresholds: a score, and the lowest and highest value with which a document stays

Preset = Literal["gopher", "gopher_repetition", "c4", "fineweb"]
Published = tuple[str, float | None, float | None]

PRESETS: Mapping[Preset, tuple[Published, ...]] = {
    "gopher": (  # Rae et al. 2021, appendix A.1.1
        ("words", 50, 100_000),
        ("mean_word_length", 3, 10),
        ("hash_word_ratio", None, 0.1),
        ("ellipsis_word_ratio", None, 0.1),
        ("bullet_line_share", None, 0.9),
        ("ellipsis_line_share", None, 0.3),
        ("alphabetic_word_share", 0.8, None),
        ("stop_words", 2, None),
    ),
    "gopher_repetition": (  # table A1
        ("duplicate_paragraph_share", None, 0.30),
        ("duplicate_paragraph_character_share", None, 0.20),
        ("duplicate_line_share", None, 0.30),
        ("duplicate_line_character_share", None, 0.20),
        *((f"top_{n}_gram_character_share", None, most) for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))),
        *((f"duplicate_{n}_gram_character_share", None, round(0.20 - n / 100, 2)) for n in range(5, 11)),
    ),
    # Raffel et al., section 2.2, of the first version (2019).
    "c4": (("lorem_ipsum", None, 0), ("curly_brackets", None, 0), ("c4_kept_sentences", 5, None)),
    # Penedo et al. 2024, section 3.6; newlines for each token are a rule of its code alone. The paper drops a document
    # that lies at a threshold as well; here, as in its code, only one that lies beyond.
    "fineweb": (
        ("terminal_line_share", 0.12, None),
        ("short_line_share", None, 0.67),
        ("fineweb_duplicate_character_share", None, 0.1),
        ("newlines_per_token", None, 0.3),
    ),
}
