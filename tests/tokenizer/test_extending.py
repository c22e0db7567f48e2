"""New tokens change encodings where they apply and nowhere else."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from lmworks.tokenizer.extending import extend_by_tokens, extend_for_texts
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

DOMAIN = ["the antigen binds the antibody", "antibodies and antigens in the serum", "an antigen; the antibody!"] * 3
LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TEXTS = LETTERS | st.lists(
    st.sampled_from(["anti", "antigen", " body", "gens ", "the ", "größer", "\n", "12", "serum", "<|im_end|>"]),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def sentence_piece() -> Tokenizer:
    """SentencePiece's BPE with a few letters; all others are spelled by their bytes."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", *"▁antigebodyshrum"]
    pieces = list(dict.fromkeys(pieces))
    kinds = [2, 3, *[6] * 256, *[1] * (len(pieces) - 258)]
    scores = [0.0] * 258 + [-float(place) for place in range(len(pieces) - 258)]
    return Tokenizer(sentence_piece_bpe(pieces, scores, kinds, space_prefix=True), {"unk_token": "<unk>"})


@pytest.fixture(scope="module")
def word_piece() -> Tokenizer:
    names = ["[UNK]", *"antigebodyshrum;!", *(f"##{letter}" for letter in "antigebodyshrum")]
    model = models.WordPiece({name: i for i, name in enumerate(dict.fromkeys(names))}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return Tokenizer(backend, {"unk_token": "[UNK]"})


@pytest.fixture(scope="module")
def unigram() -> Tokenizer:
    pieces = [("<unk>", 0.0), *((letter, -3.0 - place / 10) for place, letter in enumerate("▁antigebodyshrum;!"))]
    backend = tokenizers.Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return Tokenizer(backend, {"unk_token": "<unk>"})


def spelled_out(extension, ids):
    """Ids of the old vocabulary: each new token as its pieces."""
    return [old for index in ids for old in extension.pieces.get(index, (index,))]


# ---------------------------------------------------------------------------------------------------------------------
# Byte-level BPE


@pytest.fixture(scope="module")
def learnt(tiny_tokenizer):
    return extend_for_texts(tiny_tokenizer, DOMAIN, 12)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_an_encoding_is_the_old_one_with_pieces_joined(tiny_tokenizer, learnt, text):
    new, old = learnt.tokenizer.encode(text), tiny_tokenizer.encode(text)
    assert spelled_out(learnt, new) == old
    assert learnt.tokenizer.decode(new) == text


def test_the_merges_are_the_most_frequent_pairs():
    """The first new token is the most frequent pair of neighbouring pieces, counted here by hand."""
    letters = {letter: place for place, letter in enumerate("abcdx")}
    backend = tokenizers.Tokenizer(models.BPE(letters, []))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    extension = extend_for_texts(Tokenizer(backend), ["abx abc bcd bcd abc cd"], 3)
    # bc: 4 times; then abc (a bc twice) and bcd (bc d twice), of which the smaller ids come first.
    names = {index: name for name, index in extension.tokenizer.backend.get_vocab().items() if index > 4}
    assert names == {5: "bc", 6: "abc", 7: "bcd"}
    assert extension.pieces == {5: (1, 2), 6: (0, 1, 2), 7: (1, 2, 3)}


def test_words_of_the_domain_need_fewer_tokens(tiny_tokenizer, learnt):
    assert learnt.merged == len(learnt.pieces) == 12
    assert list(learnt.pieces) == list(range(267, 279))
    before, after = (sum(map(len, t.encode_batch(DOMAIN))) for t in (tiny_tokenizer, learnt.tokenizer))
    assert after < 0.7 * before


def test_roles_ends_and_specials_stay(tiny_tokenizer, learnt):
    extended = learnt.tokenizer
    assert (extended.roles, extended.eos_ids) == (tiny_tokenizer.roles, tiny_tokenizer.eos_ids)
    assert extended.special_ids == tiny_tokenizer.special_ids
    assert extended.hash != tiny_tokenizer.hash


def test_given_words_become_one_token(tiny_tokenizer):
    tokens = [" antigen", "antibody", " antibody", "größer"]
    extension = extend_by_tokens(tiny_tokenizer, tokens)
    assert extension.merged == len(extension.pieces)
    for token in tokens:
        (index,) = extension.tokenizer.encode(token)
        assert list(extension.pieces[index]) == tiny_tokenizer.encode(token)


@settings(max_examples=100, deadline=None)
@given(
    tokens=st.lists(st.text("abct", min_size=2, max_size=6), min_size=1, max_size=5, unique=True),
    text=st.text("abct ", max_size=30),
)
def test_any_given_words_become_tokens(tiny_tokenizer, tokens, text):
    extension = extend_by_tokens(tiny_tokenizer, tokens)
    for token in tokens:
        assert len(extension.tokenizer.encode(token)) == 1
    assert spelled_out(extension, extension.tokenizer.encode(text)) == tiny_tokenizer.encode(text)


def test_what_the_rule_for_words_cuts_becomes_an_added_token(tiny_tokenizer):
    extension = extend_by_tokens(tiny_tokenizer, ["<tool>", "antigen"])
    index = extension.tokenizer.backend.token_to_id("<tool>")
    assert extension.tokenizer.encode("a<tool>b")[1] == index and len(extension.tokenizer.encode("antigen")) == 1
    assert list(extension.pieces[index]) == tiny_tokenizer.encode("<tool>")
    assert index == 267 + extension.merged == 267 + len(extension.pieces) - 1
    assert extension.tokenizer.decode([index]) == "<tool>"


# ---------------------------------------------------------------------------------------------------------------------
# SentencePiece, WordPiece, Unigram


def test_characters_come_first_where_they_were_bytes(sentence_piece):
    texts = ["größer größe grün größer", "über größer"]
    extension = extend_for_texts(sentence_piece, texts, 6)
    names = extension.tokenizer.backend.get_vocab()
    new = {name for name, index in names.items() if index in extension.pieces}
    assert {"ö", "ß", "ü"} < new and len(new) == 6
    first = min(extension.pieces)
    assert extension.pieces[names["ß"]] == tuple(
        sentence_piece.backend.token_to_id(f"<0x{b:02X}>") for b in "ß".encode()
    )
    assert {names["ö"], names["ß"], names["ü"]} == {first, first + 1, first + 2}
    for text in [*texts, "antigen größer süß Ω"]:
        new_ids = extension.tokenizer.encode(text)
        assert spelled_out(extension, new_ids) == sentence_piece.encode(text)
        assert extension.tokenizer.decode(new_ids) == text


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        # By hand, occurrences times pieces to save: 6 × 7, 6 × 6, 3 × 9.
        ("word_piece", ["antibody", "antigen", "antibodies"]),
        # A word is what stands between spaces, "antibody!" none, and ▁ a piece: 12 × 3, 3 × 10, 3 × 8.
        ("unigram", ["the", "antibodies", "antibody"]),
    ],
)
def test_other_models_get_added_tokens(kind, chosen, request):
    tokenizer = request.getfixturevalue(kind)
    extension = extend_for_texts(tokenizer, DOMAIN, 3)
    names = {index: name for name, index in extension.tokenizer.backend.get_vocab().items()}
    assert [names[index] for index in extension.pieces] == chosen
    assert extension.merged == 0
    for index, old in extension.pieces.items():
        assert list(old) == tokenizer.encode(names[index])
    ids = extension.tokenizer.encode("antibody antibodys serum")
    assert [names[index] for index in ids if index in extension.pieces] == ["antibody"]  # "antibodys" is another word
    assert extension.tokenizer.encode("serum binds") == tokenizer.encode("serum binds")
    assert extension.tokenizer.decode(extension.tokenizer.encode("an antibody binds")) == "an antibody binds"


def test_upper_case_is_found_where_the_vocabulary_has_none(word_piece):
    extension = extend_by_tokens(word_piece, ["antigen"])
    assert extension.tokenizer.encode("Antigen") == list(extension.pieces)


# ---------------------------------------------------------------------------------------------------------------------


def test_mistakes_are_named(tiny_tokenizer):
    with pytest.raises(ValueError, match="' the' is one token already"):
        extend_by_tokens(tiny_tokenizer, [" the"])
    with pytest.raises(ValueError, match="needs letters"):
        extend_by_tokens(tiny_tokenizer, [" "])
    with pytest.raises(ValueError, match="give a token"):
        extend_by_tokens(tiny_tokenizer, [])
    with pytest.raises(ValueError, match="nothing that is worth a token"):
        extend_for_texts(tiny_tokenizer, ["the in on"], 5)
    with pytest.raises(ValueError, match="must be 1 or more"):
        extend_for_texts(tiny_tokenizer, DOMAIN, 0)


def test_what_the_tokenizer_leaves_out_is_no_token(minilm):
    tokenizer = Tokenizer.load(minilm)
    with pytest.raises(ValueError, match="leaves its characters out of every text"):
        extend_by_tokens(tokenizer, ["\x01\x02"])
