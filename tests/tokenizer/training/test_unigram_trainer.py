"""Unigram: sums over segmentations against all of them written out, and vocabularies beside two other trainers'."""

import argparse
import gzip
import inspect
import io
import json
import random
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from reference_lattice import PythonLattice
from reference_tokenizer import reference_encoder
from tokenizers import models, pre_tokenizers, trainers

from kit.tables import for_each
from lmworks.tokenizer import library
from lmworks.tokenizer.config import UnigramConfig
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training import unigram
from lmworks.tokenizer.training.initial_symbols import spell_characters
from lmworks.tokenizer.training.trainers import train_unigram
from lmworks.tokenizer.training.unigram import BLOCKS, Lattice, expectation, learn_pieces
from lmworks.tokenizer.training.word_counts import WordCounts
from published_data import DATA, needs_data
from slow_cases import slow

TEXTS = [inspect.getsource(module) for module in (argparse, inspect, textwrap)]
LATTICES = [Lattice, PythonLattice]
WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), min_size=1, max_size=12)


def lattice_of(kind, words: dict[str, int], longest: int = 4, least: int = 1):
    counts = WordCounts.of({word.encode(): count for word, count in words.items()})
    return kind(spell_characters(counts), longest, 10_000, least)


def names_of(lattice) -> list[str]:
    return lattice.names(range(len(lattice.lengths)))


def segmentations(word: str, pieces) -> Iterator[tuple[str, ...]]:
    """All ways to write a word with pieces."""
    if not word:
        yield ()
    for end in range(1, len(word) + 1):
        if word[:end] in pieces:
            for rest in segmentations(word[end:], pieces):
                yield (word[:end], *rest)


def log_likelihood(text: str, scores: dict[str, float]) -> float:
    """Over all segmentations, with logarithms all the way."""
    longest, forward = max(map(len, scores)), [0.0]
    for end in range(1, len(text) + 1):
        ways = [
            forward[start] + scores[text[start:end]]
            for start in range(max(0, end - longest), end)
            if text[start:end] in scores
        ]
        forward.append(float(np.logaddexp.reduce(ways)))
    return forward[-1]


def random_scores(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-12, -0.1, number)


# ---------------------------------------------------------------------------------------------------------------------
# One lattice


@pytest.mark.parametrize("kind", LATTICES)
@given(words=WORDS, longest=st.integers(1, 5), least=st.integers(1, 4))
def test_candidates_are_the_frequent_stretches_that_different_letters_follow(kind, words, longest, least):
    frequency, followers = Counter(), {}
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                piece = word[start:end]
                frequency[piece] += times
                # Every end of a word is a follower of its own.
                followers.setdefault(piece, set()).add(word[end] if end < len(word) else f"end of {word}")
    letters = sorted(set("".join(words)))
    expected = {
        piece
        for piece, count in frequency.items()
        if len(piece) > 1 and count >= least
        if len(followers[piece]) > 1 or any(follower.startswith("end of") for follower in followers[piece])
    }
    lattice = lattice_of(kind, words, longest, least)
    names = names_of(lattice)
    assert names[: lattice.alphabet] == letters and set(names[lattice.alphabet :]) == expected
    assert names[lattice.alphabet :] == sorted(expected, key=lambda piece: (-frequency[piece] * len(piece), piece))
    assert lattice.frequencies.tolist() == [frequency[name] for name in names]


@pytest.mark.parametrize("kind", LATTICES)
@given(words=WORDS, seed=st.integers(0, 1000))
def test_expectations_equal_all_segmentations_written_out(kind, words, seed):
    lattice = lattice_of(kind, words)
    names, scores = names_of(lattice), random_scores(len(lattice.lengths), seed)
    probability = dict(zip(names, np.exp(scores), strict=True))
    expected, likelihood = Counter(dict.fromkeys(names, 0.0)), 0.0
    for word, times in words.items():
        ways = {way: float(np.prod([probability[piece] for piece in way])) for way in segmentations(word, probability)}
        whole = sum(ways.values())
        likelihood += times * np.log(whole)
        for way, share in ways.items():
            for piece in way:
                expected[piece] += times * share / whole
    with ThreadPoolExecutor(2) as pool:
        counts, logarithm = expectation(lattice, scores, pool)
    np.testing.assert_allclose(counts, [expected[name] for name in names], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(logarithm, likelihood, rtol=1e-9)


@pytest.mark.parametrize("kind", LATTICES)
@given(words=WORDS, seed=st.integers(0, 1000))
def test_the_best_segmentations_are_the_best_of_all(kind, words, seed):
    lattice = lattice_of(kind, words)
    names, scores = names_of(lattice), random_scores(len(lattice.lengths), seed)
    score = dict(zip(names, scores, strict=True))

    def best(text: str, pieces) -> tuple[str, ...]:
        return max(segmentations(text, pieces), key=lambda way: sum(score[piece] for piece in way))

    counts = Counter(dict.fromkeys(names, 0))  # random scores: no two sums are equal
    for word, times in words.items():
        for piece in best(word, score):
            counts[piece] += times
    found = np.sum([lattice.best(block, scores) for block in range(BLOCKS)], axis=0)
    assert found.tolist() == [counts[name] for name in names]
    ends, others = lattice.alternatives(scores)
    for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True):
        instead = tuple(names[number] for number in reversed(others[start:end].tolist()))
        assert instead == (best(name, score.keys() - {name}) if len(name) > 1 else ())


@for_each("kind", LATTICES)
def test_dropped_pieces_are_gone(kind):
    words = {"banana": 3, "bandana": 2, "ananas": 4}
    lattice = lattice_of(kind, words)
    names = names_of(lattice)
    chosen = np.array([len(name) == 1 or "an" not in name for name in names])
    lattice.keep(chosen)
    left = [name for name, is_kept in zip(names, chosen, strict=True) if is_kept]
    assert names_of(lattice) == left and len(left) < len(names)
    scores = random_scores(len(left), 0)
    likelihood = sum(lattice.expect(block, np.exp(scores))[1] for block in range(BLOCKS))
    known = dict(zip(left, scores, strict=True))
    expected = sum(times * log_likelihood(word, known) for word, times in words.items())
    np.testing.assert_allclose(likelihood, expected, rtol=1e-12)


@for_each("kind", LATTICES)
def test_a_long_word_neither_vanishes_nor_overflows(kind):
    """Its probability is some 10^-1,000, and double precision ends at 10^-308."""
    word = "".join(random.Random(2).choices("abcdef", k=4000))
    lattice = lattice_of(kind, {word: 1, "a": 2}, longest=8, least=2)
    scores = random_scores(len(lattice.lengths), 3)
    parts = [lattice.expect(block, np.exp(scores)) for block in range(BLOCKS)]
    known = dict(zip(names_of(lattice), scores, strict=True))
    expected = log_likelihood(word, known) + 2 * known["a"]
    assert expected < -2000
    np.testing.assert_allclose(sum(likelihood for _, likelihood in parts), expected, rtol=1e-9)
    # Every letter is in one piece of each segmentation.
    np.testing.assert_allclose(sum(counts @ lattice.lengths for counts, _ in parts), len(word) + 2, rtol=1e-9)


@for_each("kind", LATTICES)
def test_expectation_and_maximisation_never_lower_the_likelihood(kind):
    """With the expected shares as probabilities; digamma's are another objective's."""
    words = Counter(re.findall(r"\w+", f"{textwrap.__doc__} {inspect.__doc__} {argparse.__doc__}"))
    lattice = lattice_of(kind, words, longest=6, least=2)
    scores, before, gains = random_scores(len(lattice.lengths), 4), -np.inf, []
    scores -= np.logaddexp.reduce(scores)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            counts, likelihood = expectation(lattice, scores, pool)
            assert likelihood >= before - 1e-9 * abs(likelihood)
            gains.append(likelihood - before)
            before = likelihood
            scores = np.log(np.maximum(counts / counts.sum(), 1e-300))
    assert gains[1] > 100 * gains[-1]


# ---------------------------------------------------------------------------------------------------------------------
# Learning


@pytest.mark.parametrize("corpora", [40, *slow(100)])
def test_compiled_equals_the_reference_on_random_corpora(monkeypatch, corpora):
    generator = random.Random(1)
    dropped, reports = 0, list[int]()
    for _ in range(corpora):
        counts = Counter()
        for _ in range(generator.randrange(1, 60)):
            letters = "abcd"[: generator.randrange(1, 5)]
            counts["".join(generator.choices(letters, k=generator.randrange(1, 30))).encode()] += generator.randint(
                1, 9
            )
        spelling = spell_characters(WordCounts.of(counts), generator.choice([1.0, 0.9]))
        size = generator.choice([4, 10, 30])
        choices = {
            "longest": generator.choice([1, 2, 3, 16]),
            "seed_size": generator.choice([20, 1000]),
        }
        ours = learn_pieces(spelling, size, **choices, progress=lambda done, *_: reports.append(done))
        with monkeypatch.context() as patch:
            patch.setattr(unigram, "Lattice", PythonLattice)
            reference = learn_pieces(spelling, size, **choices)
        assert ours.names == reference.names
        np.testing.assert_allclose(ours.scores, reference.scores, rtol=1e-9)
        assert len(ours) <= max(size, len(spelling.alphabet))
        dropped += reports[-1]
    assert dropped > 20 * corpora


@pytest.mark.parametrize("characters", [10_000, *slow(20_000)])
def test_the_order_of_texts_and_the_cores_change_nothing(monkeypatch, characters):
    config = UnigramConfig(vocabulary_size=700)
    texts = [text[:characters] for text in TEXTS]
    first = train_unigram(texts, config)
    assert first.tokenizer.vocabulary_size == 700
    monkeypatch.setattr("lmworks.tokenizer.training.unigram.cores", lambda: 7)
    assert train_unigram(reversed(texts), config).tokenizer.hash == first.tokenizer.hash
    monkeypatch.setattr(library, "load", lambda: None)
    with pytest.raises(RuntimeError, match="install a C\\+\\+ compiler"):
        train_unigram(texts, config)


def test_scores_are_logarithms_of_probabilities_in_the_order_of_the_ids():
    trained = train_unigram(TEXTS, UnigramConfig(vocabulary_size=900))
    pieces = trained.pieces
    np.testing.assert_allclose(np.exp(pieces.scores).sum(), 1, rtol=1e-11)  # of twelve decimals
    assert (np.diff(pieces.scores) <= 0).all()
    assert trained.tokenizer.backend.id_to_token(trained.first) == pieces.names[0]
    assert len(pieces) == 900 - 3


# ---------------------------------------------------------------------------------------------------------------------
# Beside other trainers


def book() -> list[str]:
    with gzip.open(DATA / "sentencepiece-models" / "botchan.txt.gz", "rt", encoding="utf-8") as stream:
        return [re.sub(" +", " ", line.strip()) for line in stream if line.strip()]


def bits_per_character(lines: list[str], scores: dict[str, float]) -> float:
    """Of the words of a text, under the scores made to probabilities."""
    total = float(np.logaddexp.reduce(list(scores.values())))
    known = {piece: score - total for piece, score in scores.items()}
    words = Counter("▁" + word for line in lines for word in line.split(" "))
    characters = sum(len(word) * times for word, times in words.items())
    return -sum(times * log_likelihood(word, known) for word, times in words.items()) / np.log(2) / characters


def train_sentencepiece(lines: list[str], size: int):
    sentencepiece = pytest.importorskip("sentencepiece", reason="pip install sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="unigram", vocab_size=size,
        character_coverage=1.0, normalization_rule_name="identity", split_by_unicode_script=False,
        split_by_number=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def train_tokenizers(lines: list[str], size: int) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False)
    theirs.train_from_iterator(lines, trainer)
    return theirs


@needs_data
@pytest.mark.parametrize(("size", "step"), [(1000, 3), *slow((500, 1), (1000, 1), (2000, 1), (4000, 1), (5500, 1))])
def test_no_more_tokens_and_bits_than_other_trainers_vocabularies(size, step, record_property):
    """At most 2 % more tokens than the better of the two, and 2 % more bits, in a book of 280,000 characters."""
    lines = book()[::step]
    ours = train_unigram(lines, UnigramConfig(vocabulary_size=size, coverage=1.0))
    piece, library_ = train_sentencepiece(lines, size), train_tokenizers(lines, size)
    assert ours.tokenizer.vocabulary_size == piece.get_piece_size() == library_.get_vocab_size() == size
    tokens = {
        "lmworks": sum(map(len, ours.tokenizer.encode_batch(lines))),
        "sentencepiece": sum(len(piece.encode(line)) for line in lines),
        "tokenizers": sum(len(found.ids) for found in library_.encode_batch(lines)),
    }
    own = dict(zip(ours.pieces.names, ours.pieces.scores.tolist(), strict=True))
    bits = {
        "lmworks": bits_per_character(lines, own),
        "sentencepiece": bits_per_character(
            lines, {piece.id_to_piece(i): piece.get_score(i) for i in range(3, piece.get_piece_size())}
        ),
        "tokenizers": bits_per_character(lines, dict(json.loads(library_.to_str())["model"]["vocab"][3:])),
    }
    words = sum(len(line.split(" ")) for line in lines)
    for name in tokens:
        told = f"{tokens[name]:,} tokens, {tokens[name] / words:.4f} a word, {bits[name]:.4f} bits a character"
        record_property(name, told)
        print(f"{size:,} {name}: {told}")
    for found in (tokens, bits):
        assert found.pop("lmworks") <= 1.02 * min(found.values())


# ---------------------------------------------------------------------------------------------------------------------
# The tokenizer

CONFIGS = [
    UnigramConfig(vocabulary_size=400, coverage=1.0),
    UnigramConfig(vocabulary_size=600, coverage=0.99, byte_fallback=True),
    UnigramConfig(vocabulary_size=300, coverage=0.99, normalise="NFKC"),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=["all characters", "bytes", "NFKC"])
def tokenizer(request) -> Tokenizer:
    return train_unigram([text[:20_000] for text in TEXTS], request.param).tokenizer


LETTERS = st.text(st.one_of(st.sampled_from("etaoin ▁</s>unkpad0x41\n"), st.characters(codec="utf-8")))


@given(text=LETTERS)
def test_encoding_equals_the_reference_encoder(tokenizer, text):
    encode = reference_encoder(json.loads(tokenizer.backend.to_str()))
    if tokenizer.backend.normalizer is None or text.isascii():  # else Unicode's version counts
        assert tokenizer.encode(text) == encode(text)


def test_every_covered_character_decodes_back():
    texts = [*TEXTS, "grüße 東京 ☃ 𝛼"]
    tokenizer = train_unigram(texts, UnigramConfig(vocabulary_size=500, coverage=1.0)).tokenizer
    unknown = tokenizer.backend.token_to_id("<unk>")
    for text in texts:
        ids = tokenizer.encode(text)
        assert unknown not in ids and tokenizer.decode(ids) == text
        for letter in set(text) - {" "}:
            assert tokenizer.decode(tokenizer.encode("a" + letter)) == "a" + letter


@pytest.fixture(scope="module")
def with_bytes() -> Tokenizer:
    return train_unigram(TEXTS[:1], CONFIGS[1]).tokenizer


@given(text=st.text())
def test_with_bytes_nothing_is_lost(with_bytes, text):
    if "▁" not in text:  # which stands for a space
        assert with_bytes.decode(with_bytes.encode(text), skip_special=False) == text.removeprefix(" ")


def test_special_tokens_are_t5s_and_text_never_becomes_one(tokenizer):
    assert [tokenizer.backend.id_to_token(number) for number in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert (tokenizer.pad_id, tokenizer.eos_id) == (0, 1) and tokenizer.roles["unk_token"] == "<unk>"
    assert tokenizer.encode("an end", special=True) == [*tokenizer.encode("an end"), 1]
    text = "a</s> <pad><unk></s></s><0x41>"
    ids = tokenizer.encode(text)
    assert not {0, 1} & set(ids)
    if 2 not in ids:
        assert tokenizer.decode(ids) == text
    assert not {"<unk>", "<0x41>"} & set(tokenizer.backend.encode(text).tokens) or 2 in ids


def test_a_special_token_is_not_learnt_from_texts_full_of_it():
    trained = train_unigram(["</s> <pad> </s><unk>"] * 50, UnigramConfig(vocabulary_size=40))
    assert not {"</s>", "<pad>", "<unk>"} & set(trained.pieces.names)
    ids = trained.tokenizer.encode("</s> <pad> </s><unk>")
    assert not {0, 1, 2} & set(ids) and trained.tokenizer.decode(ids) == "</s> <pad> </s><unk>"


def test_fewer_tokens_than_asked_for_are_no_error_and_no_text_is_one():
    trained = train_unigram(["ab ab"], UnigramConfig(vocabulary_size=1000))
    # ▁, a, b and of the stretches that end the word ▁ab and ab.
    assert sorted(trained.pieces.names) == ["a", "ab", "b", "▁", "▁ab"]
    with pytest.raises(ValueError, match="every text is empty"):
        train_unigram(["", ""])


@for_each(
    ("settings", "message"),
    [
        ({"vocabulary_size": 3}, "vocabulary_size must lie between 4 and"),
        ({"vocabulary_size": 259, "byte_fallback": True}, "vocabulary_size must lie between 260 and"),
        ({"coverage": 0.0}, "coverage"),
        ({"special_tokens": ("<unk>",)}, "</s>"),
        ({"special_tokens": ("</s>", "<unk>", "#")}, "two letters"),
        ({"seed_size": 1000}, "seed_size is 1,000"),
        ({"max_piece_length": 0}, "max_piece_length"),
        ({"normalise": "NFD"}, "NFC"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        UnigramConfig(**settings)


def test_more_characters_than_tokens_are_refused():
    texts = ["".join(map(chr, range(0x4E00, 0x4F00)))]
    with pytest.raises(ValueError, match="lower coverage"):
        train_unigram(texts, UnigramConfig(vocabulary_size=200, coverage=1.0))
