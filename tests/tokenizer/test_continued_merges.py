"""Merges that go on where others ended, beside the reference that compares names: Sennrich et al. 2016 as one reads it.

The reference is told of names and refuses each that there is; the learner under test is told of nothing but the letters
of names that merging does not lead to. That both agree is the theorem that `continued_merges.py` states.
"""

import json
from functools import cache
from itertools import islice

import foreign_vocabularies as foreign
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from lmworks.tokenizer import library
from lmworks.tokenizer.gguf_vocabulary import read_tokenizer, write_tokenizer
from lmworks.tokenizer.tokenizer import Tokenizer, load_sentence_piece
from lmworks.tokenizer.training.continued_merges import continue_merges, count_encoded_words
from lmworks.tokenizer.training.merges import reference_merges
from lmworks.tokenizer.vocabulary_extension import extend_for_texts
from published_data import needs_data
from slow_cases import slow

LETTERS = "abc"
TEXTS = st.lists(st.text(LETTERS + " ", max_size=25), min_size=1, max_size=8)


def by_names(words, taken, count, least):
    """The merges, where a name is refused that there is already, however it is spelled."""
    names = sorted({name for word in words for name in word})
    number = {name: symbol for symbol, name in enumerate(names)}
    taken = set(taken)

    def allowed(symbols):
        return "".join(names[symbol] for symbol in symbols) not in taken

    spelled = [([number[name] for name in word], times) for word, times in words.items()]
    pairs = []
    for left, right, _ in islice(reference_merges(spelled, len(names), least, allowed), count):
        pairs.append((names[left], names[right]))
        names.append("".join(pairs[-1]))
        taken.add(names[-1])
    return pairs


def new_merges(tokenizer, extension):
    before, after = (json.loads(t.backend.to_str())["model"]["merges"] for t in (tokenizer, extension.tokenizer))
    assert after[: len(before)] == before
    return [tuple(pair) for pair in after[len(before) :]]


@st.composite
def bpe(draw):
    """A vocabulary of a few letters, with merges in any order and with names that no merge leads to."""
    names, merges = list(LETTERS), []
    for _ in range(draw(st.integers(0, 6))):
        pair = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        if pair not in merges:
            merges.append(pair)
            names.append("".join(pair))
    merges = draw(st.permutations(merges))
    names += draw(st.lists(st.text(LETTERS, min_size=2, max_size=4), max_size=4))
    vocabulary = {name: index for index, name in enumerate(dict.fromkeys(names))}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=draw(st.booleans())))
    if draw(st.booleans()):
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    return Tokenizer(backend)


@given(tokenizer=bpe(), texts=TEXTS, count=st.integers(1, 12), least=st.integers(1, 3))
def test_no_name_is_made_twice_though_none_is_compared(tokenizer, texts, count, least):
    words = count_encoded_words(tokenizer, texts)
    expected = by_names(words, tokenizer.backend.get_vocab(), count, least)
    if not expected:
        with pytest.raises(ValueError, match="nothing that is worth a token"):
            extend_for_texts(tokenizer, texts, count, least)
        return
    extension = extend_for_texts(tokenizer, texts, count, least)
    assert new_merges(tokenizer, extension) == expected
    assert len(extension.pieces) == len(expected)


@given(tokenizer=bpe(), texts=TEXTS, count=st.integers(1, 12), other=st.text(LETTERS + " ", max_size=40))
def test_an_encoding_is_the_old_one_with_pieces_joined(tokenizer, texts, count, other):
    try:
        extension = extend_for_texts(tokenizer, texts, count, least=1)
    except ValueError:
        return
    for text in (*texts, other):
        ids = extension.tokenizer.encode(text)
        assert [old for i in ids for old in extension.pieces.get(i, (i,))] == tokenizer.encode(text)


@given(
    words=st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "ab", "c", "X"]), max_size=9).map(tuple), st.integers(1, 9)
    )
)
def test_what_stands_apart_is_no_part_of_a_merge(words):
    found = continue_merges(words, 9, least=2, apart={"X"})
    cut = {}  # the oracle cuts words at it
    for word, times in words.items():
        start = 0
        for place in range(len(word) + 1):
            if place == len(word) or word[place] == "X":
                if place > start:
                    cut[word[start:place]] = cut.get(word[start:place], 0) + times
                start = place + 1
    names = sorted({name for word in cut for name in word})
    number = {name: symbol for symbol, name in enumerate(names)}
    spelled = [([number[name] for name in word], times) for word, times in cut.items()]
    expected = []
    for left, right, _ in islice(reference_merges(spelled, len(names), 2), 9):
        expected.append((names[left], names[right]))
        names.append("".join(expected[-1]))
    assert found == expected


def test_the_order_of_words_does_not_matter():
    words = {("a", "b"): 3, ("b", "c"): 3, ("a", "b", "c"): 2, ("c", "c"): 5}
    assert continue_merges(words, 5) == continue_merges(dict(reversed(words.items())), 5)


@needs_data
@pytest.mark.skipif(library.load() is None, reason="nothing is compiled: both sides would be the reference")
@pytest.mark.parametrize(("sentences", "merges"), [(200, 300), *slow((400, 600))])
def test_real_text_has_the_merges_of_the_reference(sentences, merges):
    """GPT-2's vocabulary on German."""
    tokenizer = foreign.gpt2()
    lines = german()[:sentences]
    words = count_encoded_words(tokenizer, lines)
    expected = by_names(words, tokenizer.backend.get_vocab(), merges, 2)
    extension = extend_for_texts(tokenizer, lines, merges)
    assert len(expected) == merges and new_merges(tokenizer, extension) == expected


def test_the_reference_gives_the_same_tokenizer(monkeypatch, tiny_tokenizer):
    texts = ["the antigen binds the antibody", "antibodies and antigens in the serum"] * 2
    compiled = extend_for_texts(tiny_tokenizer, texts, 20)
    library.load.cache_clear()
    monkeypatch.setenv(library.CHOICE, "reference")
    try:
        assert library.load() is None
        assert extend_for_texts(tiny_tokenizer, texts, 20).tokenizer.hash == compiled.tokenizer.hash
    finally:
        library.load.cache_clear()


@needs_data
@pytest.mark.parametrize(("kind", "sentences"), [("gpt2", 1000), *slow(("gpt2", None), ("mistral", None))])
def test_real_text_is_encoded_as_before_with_pieces_joined(kind, sentences):
    """And so it is by what a GGUF file has of the vocabulary, where SentencePiece's BPE has scores and no merges."""
    wheel = "mistral-common==1.13.1"
    old = foreign.gpt2() if kind == "gpt2" else load_sentence_piece(foreign.from_wheel(wheel) / "v1.model")
    lines = german()[:sentences]
    extension = extend_for_texts(old, lines[:600], 300)
    new = extension.tokenizer
    again = read_tokenizer(write_tokenizer(new, new.vocabulary_size))
    used = set()
    for line in lines:
        ids = new.encode(line)
        used |= {*ids} & extension.pieces.keys()
        assert [old_id for i in ids for old_id in extension.pieces.get(i, (i,))] == old.encode(line)
        assert new.decode(ids) == old.decode(old.encode(line))
        assert again.encode(line) == ids
    assert len(used) > 200  # the others are parts of longer ones


@cache
def german():
    return next(text for text in foreign.ntrex() if " der " in text[:2000] and "ü" in text[:2000]).splitlines()
