"""New tokens change encodings where they apply and nowhere else."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer.fertility import Text
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.vocabulary_extension import (
    LEAST_HELD_OUT,
    extend_by_tokens,
    extend_for_texts,
    hold_out,
)

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


@given(text=TEXTS)
def test_an_encoding_is_the_old_one_with_pieces_joined(tiny_tokenizer, learnt, text):
    new, old = learnt.tokenizer.encode(text), tiny_tokenizer.encode(text)
    assert spelled_out(learnt, new) == old
    assert learnt.tokenizer.decode(new) == text


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


@pytest.mark.parametrize("kind", ["word_piece", "unigram"])
def test_other_models_get_added_tokens(kind, request):
    tokenizer = request.getfixturevalue(kind)
    extension = extend_by_tokens(tokenizer, ["antibody", "antigen", "the"])
    names = {index: name for name, index in extension.tokenizer.backend.get_vocab().items()}
    assert extension.merged == 0
    for index, old in extension.pieces.items():
        assert list(old) == tokenizer.encode(names[index])
    ids = extension.tokenizer.encode("antibody antibodys serum")
    assert [names[index] for index in ids if index in extension.pieces] == ["antibody"]  # "antibodys" is another word
    assert extension.tokenizer.encode("serum binds") == tokenizer.encode("serum binds")
    assert extension.tokenizer.decode(extension.tokenizer.encode("an antibody binds")) == "an antibody binds"


@pytest.mark.parametrize("kind", ["word_piece", "unigram"])
def test_texts_extend_no_other_model(kind, request):
    with pytest.raises(ValueError, match=r"a new piece.*Whole words can be added"):
        extend_for_texts(request.getfixturevalue(kind), DOMAIN, 3)


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


# ---------------------------------------------------------------------------------------------------------------------
# Vocabularies of odd make


def of_bytes(merges=(), special=("<|end|>",), rule=None, ignore_merges=False):
    """Byte-level BPE whose special tokens come behind its vocabulary and are not in it, as LLaMA 3's and Qwen's."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, list(merges), ignore_merges=ignore_merges))
    backend.pre_tokenizer = rule or pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return Tokenizer(backend, {"eos_token": special[0]} if special else {})


def again(tokenizer, folder):
    """What a folder gives that the tokenizer was saved into."""
    folder.mkdir()
    tokenizer.save(folder)
    return Tokenizer.load(folder)


@for_each("ignore_merges", [False, True])
def test_special_tokens_behind_the_vocabulary_keep_their_ids(ignore_merges, tmp_path):
    old = of_bytes([("a", "n"), ("t", "i")], ("<|end|>", "<|im_start|>"), ignore_merges=ignore_merges)
    extension = extend_for_texts(old, DOMAIN, 8)
    assert list(extension.pieces) == list(range(260, 268))
    for tokenizer in (extension.tokenizer, again(extension.tokenizer, tmp_path / "saved")):
        assert tokenizer.special_ids == old.special_ids == {"<|end|>": 258, "<|im_start|>": 259}
        assert tokenizer.eos_ids == (258,)
        for text in [*DOMAIN, "<|end|> of <|im_start|>"]:  # text stays text
            assert spelled_out(extension, tokenizer.encode(text)) == old.encode(text)


def test_upper_case_is_found_where_the_vocabulary_has_none(word_piece):
    extension = extend_by_tokens(word_piece, ["antigen"])
    assert extension.tokenizer.encode("Antigen") == list(extension.pieces)


@pytest.mark.parametrize("kind", ["bytes", "sentence_piece", "word_piece", "unigram"])
def test_a_vocabulary_can_be_extended_twice(kind, request, tmp_path):
    first = of_bytes() if kind == "bytes" else request.getfixturevalue(kind)
    one = extend_by_tokens(first, ["antigen", "<tool>"])
    bpe = kind in ("bytes", "sentence_piece")
    domain = [*DOMAIN, "the antigen <tool> the antigen"]
    two = extend_for_texts(one.tokenizer, domain, 3) if bpe else extend_by_tokens(one.tokenizer, ["the", "antibody"])
    three = extend_by_tokens(two.tokenizer, ["<call>"])
    saved = again(three.tokenizer, tmp_path / "saved")
    names = saved.backend.get_vocab()
    assert names["<call>"] == len(names) - 1 == max(three.pieces)
    texts = ["an antigen <tool>the antibody", *DOMAIN]
    if kind == "sentence_piece":  # puts a space before what stands behind an added token
        assert saved.decode(saved.encode(texts.pop(0))) == "an antigen <tool> the antibody"
    if kind == "unigram":  # the same, and all of its new tokens are added ones
        texts = ["the serum binds"]
    for text in texts:
        ids = saved.encode(text)
        for step in (three, two, one):
            ids = spelled_out(step, ids)
        assert ids == first.encode(text)


def test_nothing_is_learnt_inside_an_added_token():
    """No text becomes what stands in one, however often it occurs."""
    old = extend_by_tokens(of_bytes(), ["<function=call>"]).tokenizer
    extension = extend_for_texts(old, ["<function=call> x", "<function=call> y", "z zz zz"] * 3, 9)
    spelled = [old.decode(pieces) for pieces in extension.pieces.values()]
    assert " zz" in spelled and not [text for text in spelled if text.strip(" zxy")]


@for_each("rule", ["gpt2", "gpt4"])
def test_every_new_token_occurs_in_the_texts_it_was_learnt_from(rule):
    """None is such that the rule for words, the normaliser or another token would always come before it."""
    old = of_bytes(rule=WordRule(rule).pre_tokenizer())
    old.backend.normalizer = normalizers.NFC()
    texts = ["e\u0301tude 1234 12345\n\n  x = f(x)\n  y = f(y)\n", "e\u0301tudes don't\tdo <|end|> that\n\n"] * 3
    extension = extend_for_texts(old, texts, 40)
    # A token that is a part of another may be hidden by it: those of the texts are met on the way.
    reached = {index for step in range(1, 41) for index in shorter(old, texts, step)}
    assert reached == set(extension.pieces)


def shorter(old, texts, count):
    extension = extend_for_texts(old, texts, count)
    return {i for text in texts for i in extension.tokenizer.encode(text) if i in extension.pieces}


def test_letters_that_would_be_decoded_as_bytes_are_refused():
    with pytest.raises(ValueError, match="would be decoded as '<gr\N{REPLACEMENT CHARACTER}"):
        extend_by_tokens(of_bytes(), ["<größe>"])
    extension = extend_by_tokens(of_bytes(), ["größe"])  # a word is merged from its bytes
    assert extension.tokenizer.decode(list(extension.pieces)[-1:]) == "größe"


def test_an_added_token_with_spaces_takes_no_name_from_a_word():
    """A space is no letter of the vocabulary, which spells "a b" as a and b, and no text "a b" is the word "ab"."""
    old = extend_by_tokens(of_bytes(), ["a b"]).tokenizer
    extension = extend_for_texts(old, ["ab ab ab"], 1)
    assert extension.tokenizer.encode("ab") == list(extension.pieces)


def test_bytes_are_joined_to_characters_and_line_breaks_stay(sentence_piece):
    texts = ["größer\ngröße\nגדול\0größer\n"] * 3
    extension = extend_for_texts(sentence_piece, texts, 30)
    assert sentence_piece.encode("\n")[-1] == extension.tokenizer.encode("\n")[-1]
    assert all(len(old) > 1 for old in extension.pieces.values())
    for text in [*texts, "größe\n\0א <0x41> <0xC3><0xB6>"]:
        ids = extension.tokenizer.encode(text)
        assert spelled_out(extension, ids) == sentence_piece.encode(text)
        assert extension.tokenizer.decode(ids) == text


@given(texts=st.lists(LETTERS, min_size=1, max_size=4), other=LETTERS)
def test_any_text_is_the_old_one_with_pieces_joined_in_sentence_piece(sentence_piece, texts, other):
    try:
        extension = extend_for_texts(sentence_piece, texts, 12, least=1)
    except ValueError:
        return
    for text in (*texts, other):
        assert spelled_out(extension, extension.tokenizer.encode(text)) == sentence_piece.encode(text)


def test_a_given_word_gets_its_characters_first(sentence_piece):
    extension = extend_by_tokens(sentence_piece, ["größer"])
    names = {index: name for name, index in extension.tokenizer.backend.get_vocab().items()}
    assert [names[index] for index in extension.pieces][:2] == ["ö", "ß"]
    assert names[extension.tokenizer.encode("größer")[0]] == "▁größer"
    # The space before a text is the tokenizer's own: with it or without, the word is the same.
    with_space = extend_by_tokens(sentence_piece, [" größer"])
    assert with_space.pieces == extension.pieces


def test_unknown_letters_are_no_part_of_a_merge():
    backend = tokenizers.Tokenizer(models.BPE({"<unk>": 0, "a": 1, "b": 2}, [], unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    old = Tokenizer(backend)  # no role says that <unk> is unknown
    extension = extend_for_texts(old, ["axb axb ab ab"], 5)
    assert [extension.tokenizer.backend.id_to_token(index) for index in extension.pieces] == ["ab"]
    assert extension.tokenizer.encode("axb") == [1, 0, 2]
    one = extend_by_tokens(Tokenizer(backend, {"unk_token": "<unk>"}), ["x"])
    assert one.merged == 0 and one.tokenizer.encode("axb") == [1, 3, 2]


def test_odd_requests_are_named():
    with pytest.raises(ValueError, match="list of different texts"):
        extend_by_tokens(of_bytes(), ["antigen", "antigen"])
    with pytest.raises(ValueError, match="list of different texts"):
        extend_by_tokens(of_bytes(), "antigen")
    with pytest.raises(ValueError, match="give a list of strings"):
        extend_for_texts(of_bytes(), "antigen", 3)
    random = of_bytes()
    random.backend.model.dropout = 0.1
    with pytest.raises(ValueError, match=r"dropout = 0\.1"):
        extend_for_texts(random, DOMAIN, 3)


def test_a_special_name_that_the_rule_leaves_whole_is_no_text():
    """The name is in the model's vocabulary now, and a word that has a name is not merged there."""
    old = of_bytes(special=("stop",), ignore_merges=True)
    extended = extend_for_texts(old, DOMAIN, 3).tokenizer
    assert extended.special_ids == old.special_ids
    assert extended.encode("stop") == old.encode("stop")


# ---------------------------------------------------------------------------------------------------------------------
# An extended vocabulary: documents held out, never one that tokens were chosen from, and the same ones in any order

DOCUMENTS = st.lists(st.text("ab \n", max_size=4), max_size=40)


@given(documents=DOCUMENTS, share=st.floats(0.01, 0.9))
def test_a_document_is_on_one_side(documents, share):
    different = {document for document in documents if document.strip()}
    try:
        kept, held = hold_out(Text(tuple(documents), "line"), share)
    except ValueError as error:
        assert "too few" in str(error) and len(different) - max(share * len(different), LEAST_HELD_OUT) < LEAST_HELD_OUT
        return
    assert set(kept.passages).isdisjoint(held.passages) and kept.unit == held.unit == "line"
    assert sorted((*kept.passages, *held.passages)) == sorted(documents)
    assert (
        max(share * len(different), LEAST_HELD_OUT)
        <= len(set(held.passages))
        < max(share * len(different), LEAST_HELD_OUT) + 1
    )
    assert len({each for each in kept.passages if each.strip()}) >= LEAST_HELD_OUT


@given(documents=st.permutations([f"document {number}" for number in range(20)]))
def test_which_ones_does_not_depend_on_their_order(documents):
    found = hold_out(Text(tuple(documents)), 0.3)[1].passages
    expected = hold_out(Text(tuple(sorted(documents))), 0.3)[1].passages
    assert sorted(found) == sorted(expected)


def test_a_share_is_one():
    for share in (0, 1, -0.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            hold_out(Text(("a", "b", "c", "d")), share)
