"""Counts against brute force."""

import itertools
import unicodedata

import numpy as np
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from kit.tables import for_each
from lmworks.records import Scored, Unscored
from lmworks.tokenizer.fertility import MEASURES, UNSPACED, Text, count, parity, scores, word_spans
from lmworks.tokenizer.tokenizer import Tokenizer

PASSAGES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    | st.lists(st.sampled_from(["the ", "größer ", "日本", "नमस्ते", "don't", "\n", "🙂", "in ing"]), max_size=8).map(
        "".join
    ),
    min_size=1,
    max_size=5,
)


@for_each(
    ("text", "words"),
    [
        ("l'homme n’est 'rien'", ["l'homme", "n’est", "rien"]),
        ("snake_case 3.14 a-b", ["snake", "case", "3", "14", "a", "b"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("日本語、テキスト", list("日本語テキスト")),
        ("ที่นี่", ["ที่", "นี่"]),
        ("мир 한국어 שלום", ["мир", "한국어", "שלום"]),
        ("🙂 … --- ", []),
    ],
)
def test_words(text, words):
    assert [text[start:end] for start, end in word_spans(text)] == words


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_every_letter_is_in_one_word_and_no_space_is(text):
    spans = word_spans(text)
    assert spans == sorted(spans) and all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    inside = {place for start, end in spans for place in range(start, end)}
    for place, letter in enumerate(text):
        if letter.isalnum():
            assert place in inside
        if letter.isspace() or unicodedata.category(letter) in ("So", "Sm", "Cc"):
            assert place not in inside


def test_scripts_without_spaces_hold_letters():
    for first, last in UNSPACED:
        assert not {"Mn", "Mc", "Zs", "Po"} & {unicodedata.category(chr(point)) for point in range(first, last + 1)}


@given(passages=PASSAGES)
def test_counts_are_those_of_brute_force(tiny_tokenizer, passages):
    counts = count(tiny_tokenizer, Text(tuple(passages)))
    every = []
    for row, passage in enumerate(passages):
        ids, offsets = tiny_tokenizer.encode_with_offsets(passage)
        every += ids
        overlaps = [
            [place for place, (low, high) in enumerate(offsets) if low < end and high > start]
            for start, end in word_spans(passage)
        ]
        covered = {place for low, high in offsets for place in range(low, high)}
        alone = [tiny_tokenizer.decode([token]) for token in ids]
        assert counts.size[row] == len(passage.encode())
        assert counts.characters[row] == len(passage)
        assert counts.tokens[row] == len(ids)
        assert counts.word_tokens[row] == sum(map(len, overlaps))
        assert counts.whole_words[row] == sum(len(found) == 1 for found in overlaps)
        assert counts.partial[row] == sum("\ufffd" in text for text in alone)
        assert counts.lost[row] == sum(place not in covered for place in range(len(passage)))
    assert counts.uses.tolist() == np.bincount(np.array(every, int), minlength=len(counts.uses)).tolist()
    assert counts.uses.sum() == counts.tokens.sum()


def test_unknown_words_are_not_kept_whole_and_dropped_marks_are_lost():
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "c": 3}, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    counts = count(Tokenizer(backend, {"unk_token": "[UNK]"}), Text(("a ab xyz c", "c\u0301")))
    assert counts.tokens.tolist() == [5, 1] and counts.unknown.tolist() == [1, 0]
    assert counts.word_tokens.tolist() == [5, 1] and counts.whole_words.tolist() == [2, 1]
    assert counts.lost.tolist() == [0, 1]  # the accent, which the normaliser strips; spaces are not counted
    assert counts.partial.tolist() == [0, 0]


def test_byte_fallback_is_counted():
    vocabulary = {"<unk>": 0, "▁": 1, "a": 2, "▁a": 3} | {f"<0x{byte:02X}>": 4 + byte for byte in range(256)}
    model = models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    counts = count(Tokenizer(backend, {"unk_token": "<unk>"}), Text(("a a\n", "é")))
    assert counts.tokens.tolist() == [3, 2] and counts.partial.tolist() == [1, 2]
    assert counts.unknown.sum() == 0


def test_the_scores_are_the_ratios_of_the_sums(tiny_tokenizer):
    text = Text(("the thing in the inn", "größer als the rest", "on and on"))
    counts = count(tiny_tokenizer, text)
    for name, score in scores(counts, tiny_tokenizer, text).items():
        top, bottom, _ = MEASURES[name]
        assert isinstance(score, Scored) and score.n == 3
        assert score.value == getattr(counts, top).sum() / getattr(counts, bottom).sum()
        assert score.interval[0] <= score.value <= score.interval[1]
    assert len({score.signature for score in scores(counts, tiny_tokenizer, text).values()}) == len(MEASURES)


def test_batches_change_nothing(tiny_tokenizer, monkeypatch):
    text = Text(tuple(f"the thing number {n}\n" for n in range(50)))
    whole = count(tiny_tokenizer, text)
    monkeypatch.setattr("lmworks.tokenizer.fertility._BATCH", 64)
    cut = count(tiny_tokenizer, text)
    assert all(np.array_equal(getattr(whole, name), getattr(cut, name)) for name in whole.__dataclass_fields__)


def test_parity_needs_parallel_passages(tiny_tokenizer):
    original, other = Text(("the inn", "on")), Text(("größer", "日本"))
    counts, reference = count(tiny_tokenizer, other), count(tiny_tokenizer, original)
    score = parity(counts, reference, tiny_tokenizer, other, original)
    assert isinstance(score, Scored)
    assert score.value == sum(map(len, tiny_tokenizer.encode_batch(other.passages))) / sum(
        map(len, tiny_tokenizer.encode_batch(original.passages))
    )
    longer = Text((*other.passages, "x"))
    assert isinstance(parity(count(tiny_tokenizer, longer), reference, tiny_tokenizer, longer, original), Unscored)
