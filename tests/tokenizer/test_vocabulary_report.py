"""What the report on vocabularies says."""

import numpy as np
import pytest

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.records import Scored
from lmworks.report import to_html
from lmworks.tokenizer.fertility import Text
from lmworks.tokenizer.token_bytes import spelled_tokens
from lmworks.tokenizer.vocabulary_report import EmbeddingRows, _cell, compare, sections

ENGLISH = Text(("the thing in the inn\n", "on the other one\n", "in and on\n"), "line")
GERMAN = Text(("das Ding im Gasthof\n", "auf dem größeren\n", "in und auf\n"), "line")


@pytest.fixture(scope="module")
def comparison(tiny_tokenizer):
    vocabularies = {"tiny": tiny_tokenizer, "bytes": byte_tokenizer({"eos_token": "<end>"})}
    rows = EmbeddingRows(np.random.default_rng(0).normal(size=(tiny_tokenizer.vocabulary_size + 5, 16)), tied=True)
    return compare(vocabularies, {"eng": ENGLISH, "deu": GERMAN}, "eng", {"tiny": rows})


def test_bytes_cost_a_token_each(comparison):
    score = comparison.scores["bytes", "deu"]["bytes per token"]
    assert isinstance(score, Scored) and score.value == 1
    parity = comparison.scores["bytes", "deu"]["parity"]
    assert parity.value == sum(len(p.encode()) for p in GERMAN.passages) / sum(len(p) for p in ENGLISH.passages)
    assert "parity" not in comparison.scores["bytes", "eng"]


def test_uses_are_counted_over_all_texts(comparison, tiny_tokenizer):
    ids = [index for text in (ENGLISH, GERMAN) for passage in text.passages for index in tiny_tokenizer.encode(passage)]
    assert comparison.uses("tiny").tolist() == np.bincount(ids, minlength=tiny_tokenizer.vocabulary_size).tolist()


def test_the_sections_hold_what_was_measured(comparison):
    made = sections(comparison)
    titles = [section.title for section in made]
    assert titles == [
        "What was compared", "How long a text becomes", "Parity with eng", "How words are cut",
        "What a vocabulary cannot say", "How much of the vocabulary is used", "Tokens that no text becomes",
        "Tokens that look under-trained",
    ]  # fmt: skip
    by_title = {section.title: section for section in made}
    numbers = by_title["How long a text becomes"].tables[0]
    score = comparison.scores["tiny", "deu"]["bytes per token"]
    half = (score.interval[1] - score.interval[0]) / 2
    shown = dict(zip(numbers.columns, numbers.rows[1], strict=True))
    assert (shown["text"], shown["tiny"]) == (
        "deu",
        f"{score.value:.3f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{half:.3f}",
    )
    kinds = by_title["Tokens that no text becomes"].tables[0]
    assert sum(row[1] for row in kinds.rows) == 267 and sum(row[2] for row in kinds.rows) == 257
    use = by_title["How much of the vocabulary is used"].tables[0].rows[0]
    assert use[1] == comparison.uses("tiny").sum() and use[3] == (comparison.uses("tiny") > 0).sum()


def test_the_page_is_whole_and_escapes_tokens(comparison):
    page = to_html("Vocabularies", "", sections(comparison))
    assert page.count("<svg") == 6 and "http-equiv" not in page
    assert 'src="' not in page and "<script" not in page
    assert all(letter.isprintable() or letter in "\n\N{NO-BREAK SPACE}" for letter in page)


def test_without_a_reference_there_is_no_parity(tiny_tokenizer):
    made = sections(compare({"tiny": tiny_tokenizer}, {"eng": ENGLISH}))
    assert not [section for section in made if "Parity" in section.title or "under-trained" in section.title]


def test_tokens_are_shown_so_that_they_can_be_told_apart(tiny_tokenizer):
    shown = spelled_tokens(tiny_tokenizer)
    assert len(set(shown)) == len(shown)
    assert shown[0] == "<|endoftext|>" and "' the'" in shown and "'\\n'" in shown and "C3" in shown


def test_mistakes_are_named(tiny_tokenizer):
    with pytest.raises(ValueError, match="no text in nothing"):
        compare({"tiny": tiny_tokenizer}, {"eng": ENGLISH, "nothing": Text(("",))})
    with pytest.raises(ValueError, match="'fra' is none of the texts: eng"):
        compare({"tiny": tiny_tokenizer}, {"eng": ENGLISH}, "fra")
    with pytest.raises(ValueError, match="a vocabulary and a text"):
        compare({}, {"eng": ENGLISH})


@for_each(
    ("value", "interval", "words"),
    [
        (0.5, (0.4, 0.6), "50.0 % ± 10.0 %"),
        (0.01, (0.0, 0.03), "1 % (< 3 %)"),
        (0.0, (0.0, 0.000004), "0 (< 0.0004 %)"),
    ],
)
def test_a_share_is_never_said_to_be_less_than_nothing(value, interval, words):
    assert _cell("unknown tokens", Scored(value, interval, 20, "")).replace("\N{NO-BREAK SPACE}", " ") == words
