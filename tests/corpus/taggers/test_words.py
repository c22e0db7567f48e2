"""Words and tokens against a scanner that goes by characters and knows scripts by Unicode's names."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.words import token_spans, tokens, words_among

JOINERS = "'’-\u2010\u2011_·\u00ad\u05f3\u05f4\u200c\u200d"
SINGLE = ("THAI ", "LAO ", "MYANMAR ", "KHMER ", "HIRAGANA ", "CJK UNIFIED ", "CJK COMPATIBILITY ", "HANGZHOU ")
SINGLE += ("IDEOGRAPHIC ", "VERTICAL IDEOGRAPHIC ")
PIECES = [*"aZé9٣½'’-_.,· \n#…世ひカﾟ。ไทยำ๒ကខ្មហ្ि।🙂"]
PIECES += ["\u0301", "\u200c", "\u3099", "\u3000", "\x85", "\U00011001", "\ud800"]


def is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def kind(character: str) -> str:
    """ "letter" (or digit) of a script with spaces, "single" or "katakana" of one without; else "other"."""
    if not character.isalnum():
        return "other"
    name = unicodedata.name(character, "")
    if unicodedata.category(character) in ("Nd", "No"):
        return "letter"
    if name.startswith(("KATAKANA", "HALFWIDTH KATAKANA")) and ord(character) < 0x10000:
        return "katakana"
    archaic = name.startswith("HIRAGANA") and ord(character) >= 0x10000
    return "single" if name.startswith(SINGLE) and not archaic else "letter"


def by_character(text: str) -> list[tuple[str, bool]]:
    """Every token, and whether it is a word."""
    found, at = [], 0
    while at < len(text):
        here, end = kind(text[at]), at + 1
        if text[at].isspace():
            at = end
            continue
        if here == "letter":
            while end < len(text):
                behind = text[end + 1 : end + 2]
                if kind(text[end]) == "letter" or is_mark(text[end]):
                    end += 1
                elif behind and (
                    (text[end] in JOINERS and kind(behind) == "letter")
                    or (text[end] in ".," and text[end - 1].isdecimal() and behind.isdecimal())
                ):
                    end += 2
                else:
                    break
        elif here != "other":
            while here == "katakana" and end < len(text) and kind(text[end]) == "katakana":
                end += 1
            while end < len(text) and is_mark(text[end]):
                end += 1
        found.append((text[at:end], here != "other"))
        at = end
    return found


@given(st.text(st.sampled_from(PIECES)) | st.text())
def test_tokens_and_words_are_those_of_the_scanner(text: str) -> None:
    expected = by_character(text)
    assert tokens(text) == [token for token, _ in expected]
    words = [token for token, is_word in expected if is_word]
    assert words_among(tokens(text)) == Text(text).words == words
    assert [text[start:end] for start, end in token_spans(text)] == tokens(text)


def test_every_letter_and_digit_of_unicode_is_of_its_kind() -> None:
    for code in (*range(0x3000), *range(0x3000, 0x110000, 7)):
        character = chr(code)
        if character.isalnum():
            expected = 2 if kind(character) == "single" else 1
            assert len(tokens(character * 2)) == expected, f"U+{code:04X} {unicodedata.name(character, '')}"
