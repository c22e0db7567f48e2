"""Texts to sentences of words and to ids on disk, and phrases in them."""

from collections import Counter
from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pytest
from gensim.models.phrases import Phrases as Theirs
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.embeddings import corpus as corpus_module
from lmworks.embeddings.config import WordVectorsConfig
from lmworks.embeddings.corpus import END, LONGEST, blocks, read_corpus, scored_pairs, sentences_of, words_of


@for_each(
    ("text", "expected"),
    [
        ("Don't stop. It’s 5 o'clock!", [["don't", "stop"], ["it's", "5", "o'clock"]]),
        ("well-known snake_case 'quoted' dogs'", [["well", "known", "snake", "case", "quoted", "dogs"]]),
        ("one\nline\n\nnext", [["one", "line"], ["next"]]),
        ("version 3.14 of e.g. this", [["version", "3", "14", "of", "e", "g"], ["this"]]),
        ('He said "no." Then', [["he", "said", "no"], ["then"]]),
        ("हिन्दी में", [["हिन्दी", "में"]]),  # vowel signs are marks, which \w does not match
        ("cafe\u0301 naïve", [["café", "naïve"]]),  # composed by NFC
        ("你好。再见", [["你好"], ["再见"]]),
        ("...", []),
    ],
)
def test_words_and_ends(text, expected):
    assert list(sentences_of([text])) == expected


def test_case_is_kept_when_asked():
    assert list(sentences_of(["New York"], lowercase=False)) == [["New", "York"]]


def test_lists_of_words_stay_as_they_are():
    assert list(sentences_of([["New York", "is"], []])) == [["New York", "is"]]


def test_long_sentences_are_cut():
    found = list(sentences_of(["word " * (LONGEST + 5)]))
    assert [len(sentence) for sentence in found] == [LONGEST, 5]


def test_a_single_string_is_refused():
    with pytest.raises(ValueError, match=r"\[text\] for a single one"):
        next(sentences_of("text"))


@given(st.text())
def test_no_letter_is_lost_and_nothing_else_is_kept(text):
    joined = "".join("".join(words) for words in sentences_of([text], lowercase=False))
    assert "".join(words_of(text, lowercase=False)) == joined  # sentences cut between words only
    assert not any(character.isspace() or character in ".!?_" for character in joined)


SENTENCES = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), min_size=1, max_size=30)


def spelled(corpus) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for number in corpus.ids.tolist():
        if number == END:
            sentences.append([])
        else:
            sentences[-1].append(corpus.words[number])
    return sentences[:-1]


@given(SENTENCES, st.integers(1, 4), st.integers(0, 3))
def test_ids_are_the_text_of_the_frequent_words(sentences, min_count, max_words):
    counts = Counter(word for sentence in sentences for word in sentence)
    first = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    frequent = sorted((w for w in first if counts[w] >= min_count), key=lambda w: -counts[w])[: max_words or None]
    corpus = read_corpus(iter(sentences), WordVectorsConfig(min_count=min_count, max_words=max_words))
    assert list(corpus.words) == frequent and corpus.counts.tolist() == [counts[word] for word in frequent]
    assert corpus.total == sum(counts.values())
    assert spelled(corpus) == [[word for word in sentence if word in frequent] for sentence in sentences]


def test_blocks_change_nothing(monkeypatch, sentences):
    whole = read_corpus(sentences, WordVectorsConfig(min_count=3, phrases=(1.5, 1.5)))
    monkeypatch.setattr(corpus_module, "BLOCK", 64)
    monkeypatch.setattr(corpus_module.blocks, "__defaults__", (64,))
    cut = read_corpus(sentences, WordVectorsConfig(min_count=3, phrases=(1.5, 1.5)))
    assert whole.words == cut.words and any("_" in word for word in whole.words)
    assert np.array_equal(whole.ids, cut.ids) and np.array_equal(whole.counts, cut.counts)


def theirs(sentences, threshold, discount) -> Theirs:
    """gensim multiplies by the size of the vocabulary, pairs among it, where we and word2phrase have the words of the
    text; the threshold is scaled accordingly, once its vocabulary is known."""
    made = Theirs(sentences, min_count=discount, threshold=1e-9, delimiter="_")
    made.threshold = threshold * len(made.vocab) / sum(map(len, sentences))
    return made


def scores_of(sentences, threshold, discount) -> dict[tuple[str, ...], float]:
    corpus = read_corpus(sentences, WordVectorsConfig(min_count=1))
    pairs, scores = scored_pairs(blocks(corpus.ids), corpus.counts, threshold, discount)
    return {tuple(corpus.words[word] for word in pair): score for pair, score in zip(pairs, scores, strict=True)}


def joined(sentence: list[str], pairs: Collection[tuple[str, ...]]) -> list[str]:
    """The definition: from left to right, each word in one pair at most."""
    if len(sentence) > 1 and tuple(sentence[:2]) in pairs:
        return ["_".join(sentence[:2]), *joined(sentence[2:], pairs)]
    return [sentence[0], *joined(sentence[1:], pairs)] if sentence else []


@for_each(("threshold", "discount"), [(1.0, 1), (1.7, 5), (1.5, 20)])
def test_phrases_are_those_of_gensim(sentences, threshold, discount):
    ours, reference = scores_of(sentences, threshold, discount), theirs(sentences, threshold, discount)
    pairs = {pair for sentence in sentences for pair in pairwise(sentence)}
    scores = {pair: score for pair in pairs if (score := reference.score_candidate(*pair, [])[1]) is not None}
    assert 5 < len(scores) < len(pairs) and set(ours) == set(scores)
    factor = sum(map(len, sentences)) / len(reference.vocab)
    for pair, score in ours.items():
        assert score == pytest.approx(scores[pair] * factor, rel=1e-12)
    for sentence in sentences:
        assert joined(sentence, ours) == reference[sentence]


@given(SENTENCES, st.floats(0.2, 3))
def test_pairs_are_joined_from_the_left(sentences, threshold):
    pairs = scores_of(sentences, threshold, 1)
    corpus = read_corpus(sentences, WordVectorsConfig(min_count=1, phrases=(threshold,)))
    assert spelled(corpus) == [joined(sentence, pairs) for sentence in sentences]
