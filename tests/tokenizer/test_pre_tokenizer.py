"""The compiled scanner cuts as the library's regular expressions do."""

import random
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer import library
from lmworks.tokenizer.config import DIGITS, RULES
from lmworks.tokenizer.pre_tokenizer import CODE_POINTS, SPACE, WordRule, character_classes
from odd_characters import PIECES
from slow_cases import slow


def cut_words(text: str, rule: WordRule) -> list[str]:
    """The words of a text by the compiled scanner."""
    compiled, data = library.load(), text.encode()
    assert compiled is not None
    ends, classes = np.empty(len(data), np.int64), character_classes().ctypes.data
    number = compiled.lmworks_cut_words(classes, *rule.codes, data, len(data), ends.ctypes.data)
    return [data[start:end].decode() for start, end in pairwise([0, *ends[:number].tolist()])]


ALL = [WordRule(rule, digits) for rule in RULES for digits in DIGITS]


@pytest.mark.parametrize("rule", ALL, ids=str)
@pytest.mark.parametrize("count", [500, *slow(2000)])
def test_equals_the_library_on_what_the_rules_look_at(rule, count):
    generator = random.Random(0)
    for _ in range(count):
        text = "".join(generator.choices(PIECES, k=generator.randrange(14)))
        assert cut_words(text, rule) == rule.cut(text)


@given(st.text(), st.sampled_from(ALL))
def test_equals_the_library_on_any_text(text, rule):
    words = cut_words(text, rule)
    assert words == rule.cut(text)
    assert "".join(words) == text


@for_each("rule", [WordRule("gpt2", "run"), WordRule("gpt4"), WordRule("metaspace", "one")])
def test_equals_the_library_on_source_code(rule):
    text = "".join(source(module) for module in ("argparse", "_pydecimal", "html.entities"))
    assert cut_words(text, rule) == rule.cut(text)


def source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text("utf-8")


@for_each("code", [0x41, 0x301, 0x663, 0x3000, 0x1C, 0xBD, 0x2167, 0x1F642, 0x31350, 0x10FFFF])
def test_classes_are_the_librarys(code):
    pattern_of = {0: r"[^\s\p{L}\p{N}]", 1: r"\p{L}", 2: r"\p{N}", 3: r"\s"}
    pattern = pattern_of[int(character_classes()[code])]
    found = pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(chr(code))
    assert found == [(chr(code), (0, 1))]


def test_every_code_point_has_a_class():
    classes = character_classes()
    assert classes.shape == (CODE_POINTS,) and not classes.flags.writeable
    assert classes[0xD800:0xE000].max() == 0  # surrogates are no characters
    assert (classes == 1).sum() > 130_000


@pytest.mark.parametrize("rule", ALL, ids=str)
@given(text=st.text(st.sampled_from(PIECES)))
def test_the_exported_pre_tokenizer_cuts_at_the_same_places(rule, text):
    pieces = rule.pre_tokenizer().pre_tokenize_str(text)
    if rule.rule == "metaspace":  # a text's first word has a space in front, and ▁ is one
        text = text.replace(SPACE, " ")
        text = text if text.startswith(" ") or not text else " " + text
        assert [piece.replace(SPACE, " ") for piece, _ in pieces] == rule.cut(text)
    else:
        assert [text[start:end] for _, (start, end) in pieces] == rule.cut(text)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="gpt2, gpt4"):
        WordRule("gpt5")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="run, one, three"):
        WordRule("gpt2", "two")  # pyright: ignore[reportArgumentType]


def test_a_word_may_be_long():
    text = "a" * 1_000_000 + " " * 1_000_000 + "\n"
    assert [len(word) for word in cut_words(text, WordRule("gpt4"))] == [1_000_000, 1_000_001]
