"""Quotations and citations: what the masks let through is read again by a parser that shares no code with them."""

import re

import pytest
from constrained_cases import accepted, cut, sentence_piece_tokenizer, texts_of_walks
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint import CitedText, Quote, locate, quotable

PASSAGES = (
    'The fox said "no" twice.\n\n  It ran, then it\tstopped (3 m).',
    "   ",
    "«日本語» é ist schön — don't.",
)
ROWS = 400
CLOSING = frozenset((b" ", b"[", b"1", b"3", b"]", b"\n", b'"'))


@pytest.fixture(scope="module", params=["byte-level", "sentence-piece"])
def compiler(request, tiny_tokenizer):
    tokenizer = tiny_tokenizer if request.param == "byte-level" else sentence_piece_tokenizer()
    compiler = ConstraintCompiler(tokenizer, ROWS, tokenizer.eos_ids)
    yield compiler
    compiler.close()


def accepts(compiler, constraint, text: str, seed: int = 0) -> bool:
    tokens = [*cut(text, compiler.tokenizer, seed), compiler.tokenizer.eos_ids[0]]
    return accepted(compiler.compile(constraint).start(), tokens) == len(tokens)


def is_span(text: str, passage: str) -> bool:
    """A piece of the passage that cuts no word and has no white space at its ends."""
    places = [found.start() for found in re.finditer(f"(?={re.escape(text)})", passage)] if text.strip() == text else []
    between = [(passage[:start][-1:] + text[:1], text[-1:] + passage[start + len(text) :][:1]) for start in places]
    return bool(text) and any(not re.fullmatch(r"\w\w", a) and not re.fullmatch(r"\w\w", b) for a, b in between)


def read(text: str, passages: tuple[str, ...], quotes: bool) -> int:
    """How many quotations a cited text has; AssertionError where it breaks the rules of `CitedText`."""
    quoted = 0
    for line in text.split("\n"):
        body = line.removesuffix(".")
        assert re.search(r" \[\d+\]$", body) and line[:1].strip() and not line.startswith(" [")
        for number in re.findall(r"\[([^\]]*)\]", line):
            assert 1 <= int(number) <= len(passages) and number == str(int(number))
        parts = line.split('"')
        assert len(parts) % 2 == 1 and (quotes or len(parts) == 1)
        for inside, after in zip(parts[1::2], parts[2::2], strict=True):
            cited = re.match(r" \[(\d+)\]", after)
            assert cited and is_span(inside, quotable(passages[int(cited[1]) - 1]))
            quoted += 1
        bare = re.sub(r"\[\d+\]", "", "".join(parts[::2]))
        assert not set(bare) & set('[]“”„‟«»\n\r\t\x00"')
    return quoted


@for_each("quotes", [True, False])
def test_walks_cite_what_there_is_and_quote_what_it_says(compiler, quotes):
    compiled = compiler.compile(CitedText(PASSAGES, lines=2, quotes=quotes))
    texts = texts_of_walks(compiled, count=60, least=10, closing=CLOSING)
    assert (sum(read(text, PASSAGES, quotes) for text in texts) > 0) is quotes
    assert max(text.count("\n") for text in texts) == 1


def test_a_refusal_may_stand_in_the_place_of_the_lines(compiler):
    constraint = CitedText(PASSAGES, lines=1, refusal="I don't know.")
    assert accepts(compiler, constraint, "I don't know.") and accepts(compiler, constraint, "I don't know [1].")
    for text in ("I don't", "I don't know. [1]\nI don't know.", "I don't know.\nFoxes run [1]", "a [1]\nb [1]"):
        assert not accepts(compiler, constraint, text)


@for_each(("text", "one_sentence"), [
    ("Foxes run. [1]", True), ("It ran 3.5 m, e.g. here! [1] [3].", True), ('In x.y it said "it stopped" [1].', True),
    ("Foxes run. They stop [1]", False), ('It ran. He said "it stopped" [1]', False), ("a" * 60 + " [1]", False),
    ("It ran [1]. It sang so [3]", False), ("Foxes [1] run. [3]", False),
])  # fmt: skip
def test_a_citation_may_have_to_follow_each_sentence(compiler, text, one_sentence):
    constraint = CitedText(PASSAGES, lines=2, longest=50)
    assert all(accepts(compiler, constraint, text, seed) is one_sentence for seed in range(3))


def test_walks_quote_a_passage_letter_by_letter(compiler):
    texts = texts_of_walks(compiler.compile(Quote(PASSAGES)), count=60, least=60)
    assert all(any(is_span(text, passage) for passage in PASSAGES) for text in texts) and len(set(texts)) > 15


@given(st.sampled_from(PASSAGES[::2]), st.integers(0, 70), st.integers(0, 70), st.integers(0, 99))
def test_a_quote_is_accepted_exactly_where_it_is_a_span(compiler, passage, start, end, seed):
    text = passage[start:end]
    starts_with_space = text[:1] == " "  # SentencePiece would take it for its own
    expected = any(is_span(text, one) for one in PASSAGES)
    assert starts_with_space or accepts(compiler, Quote(PASSAGES), text, seed) is expected


@for_each("text", [
    "Foxes run [1]", "Foxes run [1].", "a [3]", "It ran, then [1] it sang [3] [1] x [1]\nB [3].",
    'He said "it stopped (3" [1]',
    "\"'no' twice. It ran\" [1] and \"é\" [3].", "Foxes [1] [3]. And more. [1]", "It's 5 € — 日本 [3]",
])  # fmt: skip
def test_what_follows_the_rules_is_accepted_however_it_is_cut(compiler, text):
    assert all(accepts(compiler, CitedText(PASSAGES), text, seed) for seed in range(5))
    read(text, PASSAGES, quotes=True)


@for_each("text", [
    "", "Foxes run", "Foxes run [4]", "Foxes run [0]", "Foxes run [01]", "Foxes [1] run", "[1]", " [1]", "a[1]",
    "a [x] [1]", "a [3][1]", 'He said "it flew" [1]', 'He said "it stopped" [3]', 'He said "t stopped" [1]',
    'He said "it stopped"', 'He said " it" [1]', 'He said "" [1]', "a “it stopped” [1]", "a [1]\n", "a [1]\n\nb [1]",
    "a [1]\nb [1]\nc [1]\nd [1]\ne [1]", 'a" [1]', "a ] [1]",
])  # fmt: skip
def test_what_breaks_a_rule_is_refused_however_it_is_cut(compiler, text):
    assert not any(accepts(compiler, CitedText(PASSAGES), text, seed) for seed in range(5))


@given(st.integers(0, 70), st.integers(0, 70))
def test_what_is_quotable_is_found_in_the_passage(start, end):
    quotation = quotable(PASSAGES[0][start:end])
    found = list(locate(quotation, PASSAGES[0]))
    assert bool(found) is bool(quotation)
    assert all(quotable(PASSAGES[0][a:b]) == quotation for a, b in found)
    if quotation:
        assert any(start <= a and b <= end for a, b in found)


def test_ten_passages_of_two_hundred_words_are_quoted(compiler):
    """In milliseconds: docs/constrained.md has the measured times."""
    words = [f"word{n % 97}" if n % 11 else f"term{n}." for n in range(2000)]
    passages = tuple(" ".join(words[n : n + 200]) for n in range(0, 2000, 200))
    text = f'As it says, "{" ".join(words[405:420])}" [3].'
    assert accepts(compiler, CitedText(passages), text)


@for_each("make", [lambda: Quote(()), lambda: Quote(("", " \n")), lambda: CitedText(()), lambda: Quote("a")])
def test_there_must_be_something_to_quote(make):
    with pytest.raises(ValueError, match="passages"):
        make()
