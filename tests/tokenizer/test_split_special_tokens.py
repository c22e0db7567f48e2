"""No text becomes a special token, whatever the model, its normalisation and its rule for words."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from reference_tokenizer import reference_encoder
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.pre_tokenizer import WordRule
from lmworks.tokenizer.special_tokens import SpecialTokens
from lmworks.tokenizer.tokenizer import WORTH_COMPILING, Tokenizer

NAMES = ["[CLS]", "<|end|>", "end", "<<>>", "<s>"]
LETTERS = "▁Ġabcdefghijklmnopqrstuvwxyz<>|[]CLSE 0123.é"


def byte_level(rule: str, names=NAMES, merges=(), digits="three") -> tokenizers.Tokenizer:
    """BPE on bytes that takes a word for a token as it is, as LLaMA 3 does."""
    joined = ["".join(pair) for pair in merges]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys([*names, *sorted(byte_letters()), *joined]))}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), ignore_merges=True))
    backend.pre_tokenizer = WordRule(rule, digits).pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return marked(backend, names)


def word_piece(words, names=NAMES, more=()) -> tokenizers.Tokenizer:
    single = [letter for letter in LETTERS if letter != " "]
    tokens = ["[UNK]", *names, *more, *single, *(f"##{letter}" for letter in single)]
    backend = tokenizers.Tokenizer(
        models.WordPiece({t: n for n, t in enumerate(dict.fromkeys(tokens))}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = words
    return marked(backend, ["[UNK]", *names])


def word_level(names=NAMES) -> tokenizers.Tokenizer:
    words = ["[UNK]", *names, "ending", "[CLS", "a"]
    backend = tokenizers.Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return marked(backend, ["[UNK]", *names])


def unigram(names=NAMES) -> tokenizers.Tokenizer:
    pieces = {"<unk>": 0.0, **dict.fromkeys(names, -1.0), **dict.fromkeys(LETTERS.replace(" ", ""), -3.0)}
    backend = tokenizers.Tokenizer(models.Unigram(list(pieces.items()), 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return marked(backend, ["<unk>", *names])


def merged() -> tokenizers.Tokenizer:
    """Merges that lead to a special token, inside any word."""
    pairs = [("e", "n"), ("en", "d"), ("<", "s"), ("<s", ">")]
    tokens = ["<s>", "end", *sorted(byte_letters()), "en", "<s"]
    backend = tokenizers.Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=pairs))
    backend.pre_tokenizer = WordRule("none").pre_tokenizer()
    return marked(backend, ["<s>", "end"])


def dropping(words=None, missing="\0\x04", merges=(("e", "n"), ("en", "d"), ("<", "s"), ("<s", ">"))):
    """Merges that lead to special tokens, and no token for some letters: the model leaves them out, then merges."""
    letters = sorted(set(byte_letters())) if words else sorted(set("abcdens<>|_"))
    absent = {letter for letter, byte in byte_letters().items() if words and byte in missing.encode()}
    tokens = ["<s>", "end", *(letter for letter in letters if letter not in absent), "en", "<s"]
    backend = tokenizers.Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=list(merges)))
    backend.pre_tokenizer = words or pre_tokenizers.WhitespaceSplit()
    return marked(backend, ["<s>", "end"])


def marked(backend, names) -> tokenizers.Tokenizer:
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return backend


def lowered(backend) -> tokenizers.Tokenizer:
    backend.normalizer = normalizers.Lowercase()
    return backend


def composed(backend) -> tokenizers.Tokenizer:
    backend.normalizer = normalizers.NFKC()
    return backend


BACKENDS = {
    **{f"bytes, {rule}": (lambda rule=rule: byte_level(rule)) for rule in ("none", "gpt2", "gpt4")},
    "bytes, a prefix": lambda: byte_level("none", ["Ġend", "Ġ<s>", "123"]),
    "bytes, lowered": lambda: lowered(byte_level("none")),
    "bytes, merged, too": lambda: byte_level("none", merges=[("<", "s"), ("<s", ">")]),
    "WordPiece, spaces": lambda: word_piece(pre_tokenizers.WhitespaceSplit()),
    "WordPiece, nothing": lambda: word_piece(None),
    "WordPiece, BERT": lambda: word_piece(pre_tokenizers.BertPreTokenizer()),
    "WordPiece, lowered": lambda: lowered(word_piece(pre_tokenizers.WhitespaceSplit())),
    "WordPiece, inside": lambda: word_piece(pre_tokenizers.WhitespaceSplit(), ["##end", "[CLS]"]),
    "words": word_level,
    "Unigram": unigram,
    "Unigram, NFKC": lambda: composed(unigram()),
    "merges": merged,
    "merges, few letters": dropping,
    "merges, a byte missing": lambda: dropping(WordRule("none").pre_tokenizer()),
    "merges, GPT-4's words": lambda: dropping(WordRule("gpt4").pre_tokenizer()),
}
WRITTEN_DOWN = ["bytes, none", "bytes, gpt2", "bytes, gpt4", "bytes, lowered", "WordPiece, BERT", "merges"]
WRITTEN_DOWN += ["merges, a byte missing"]
PARTS = [*NAMES, *(name.upper() for name in NAMES), *"\0 \x04 > \n a é 123 ＜ｓ＞ bend <s ending".split(" "), " "]
PARTS += ["e\0nd", "<\u0301s>"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=6).map("".join) | st.text(
    st.sampled_from([*LETTERS, "E", "N", "D", "\n", "中"]), max_size=12
)


def forbidden(backend) -> set[int]:
    """Of all special tokens but the unknown one, which text without another token becomes."""
    added = backend.get_added_tokens_decoder()
    return {index for index, token in added.items() if token.special and token.content not in ("[UNK]", "<unk>")}


@pytest.fixture(scope="module", params=BACKENDS)
def tokenizer(request) -> Tokenizer:
    return Tokenizer(BACKENDS[request.param]())


@given(text=TEXTS)
def test_no_text_becomes_a_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not forbidden(tokenizer.backend) & set(ids)
    assert tokenizer.encode_batch([text, "a", text])[2] == ids
    assert tokenizer.encode_with_offsets(text)[0] == ids


@for_each("kind", BACKENDS)
def test_it_would_be_one_without_the_cut(kind):
    """The cases above are no stubs; BERT's rule and GPT's cut most names by themselves, but not a word."""
    backend = BACKENDS[kind]()
    backend.encode_special_tokens = True
    names = ["[CLS]", "<|end|>", "end", " end", "<<>>", "<s>", "a end", "bend", "123"]
    found = {index for name in names for index in backend.encode(name, add_special_tokens=False).ids}
    assert found & forbidden(backend)


@for_each("kind", ["merges, few letters", "merges, a byte missing"])
def test_letters_without_a_token_join_nothing(kind, tmp_path):
    """In every place of a name: for one text and many, much text, a tokenizer read again, and what a message says."""
    untouched = BACKENDS[kind]()
    untouched.encode_special_tokens = True
    assert untouched.encode("e\0nd").ids == [untouched.token_to_id("end")]  # what is to be prevented
    tokenizer = Tokenizer(BACKENDS[kind]())
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.hash == tokenizer.hash
    never = forbidden(tokenizer.backend)
    texts = [name[:at] + "\0" * n + name[at:] for name in ("end", "<s>") for at in range(4) for n in (1, 2)]
    for text in texts:
        found = tokenizer.encode(text)
        assert found and not never & set(found)
        assert again.encode(text) == found
        framed = SpecialTokens(tokenizer).encode(f"end{text}end", [(3, 3 + len(text))])
        assert [token for token in framed.ids if token in never] == [tokenizer.special_ids["end"]] * 2
    assert not never & set(tokenizer.encode("".join(texts) * (WORTH_COMPILING // 40)))
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@for_each("kind", BACKENDS)
def test_much_text_and_a_saved_tokenizer_are_the_same(kind, tmp_path):
    tokenizer = Tokenizer(BACKENDS[kind]())
    text = "end [CLS] <|end|> <<>> <s> bend\n"
    long = text * (WORTH_COMPILING // len(text) + 1)
    assert not forbidden(tokenizer.backend) & set(tokenizer.encode(long))
    assert tokenizer.encode_batch([text])[0] == tokenizer.encode_with_offsets(text)[0]
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.hash == tokenizer.hash  # it is cut once
    assert again.encode(text) == tokenizer.encode(text)


@given(kind=st.sampled_from(WRITTEN_DOWN), text=TEXTS)
def test_the_reference_encoder_cuts_alike(kind, text):
    tokenizer = Tokenizer(BACKENDS[kind]())
    encode = reference_encoder(json.loads(tokenizer.backend.to_str()))
    assert encode(text) == tokenizer.encode(text)


def test_the_offsets_lie_where_the_name_is_cut():
    tokenizer = Tokenizer(word_level())
    assert tokenizer.encode_with_offsets("a [CLS]")[1] == [(0, 1), (2, 6), (6, 7)]


@given(data=st.data())
def test_whatever_the_names_are(data):
    """Names that nobody would choose, in vocabularies under all rules: the contexts that are tried suffice."""
    letters = st.sampled_from("abC<|>[]_ .1Ġ▁é'\n")
    names = data.draw(st.lists(st.text(letters, min_size=2, max_size=5), min_size=1, max_size=4, unique=True))
    kinds = {
        "gpt2": lambda: byte_level("gpt2", names, digits=data.draw(st.sampled_from(["run", "one", "three"]))),
        "gpt4": lambda: byte_level("gpt4", names, digits=data.draw(st.sampled_from(["run", "one", "three"]))),
        "none": lambda: byte_level("none", names),
        "digits": lambda: digits_apart(names),
        "spaces": lambda: word_piece(pre_tokenizers.WhitespaceSplit(), names),
        "bert": lambda: word_piece(pre_tokenizers.BertPreTokenizer(), names),
        "words and marks": lambda: word_piece(pre_tokenizers.Whitespace(), names),
        "Unigram": lambda: unigram(names),
    }
    tokenizer = Tokenizer(kinds[data.draw(st.sampled_from(sorted(kinds)))]())
    pieces = st.sampled_from([*names, *(name.replace("Ġ", " ").replace("▁", " ") for name in names)]) | letters
    text = "".join(data.draw(st.lists(pieces, max_size=6)))
    assert not forbidden(tokenizer.backend) & set(tokenizer.encode(text))


def digits_apart(names) -> tokenizers.Tokenizer:
    backend = byte_level("none", names)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    return backend


def test_other_words_keep_their_tokens():
    """Only the word that is the name is cut, not one that holds it."""
    backend = byte_level("gpt4", [*NAMES, "ending", "Ġend"])
    ordinary = tokenizers.Tokenizer.from_str(backend.to_str())
    kept = {"ending", "Ġend"}
    state = json.loads(ordinary.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in kept]
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))
    vocabulary = state["model"]["vocab"]
    assert tokenizer.encode("ending") == [vocabulary["ending"]]
    assert tokenizer.encode("ending end")[1] == vocabulary["Ġend"]
    assert len(tokenizer.encode("end")) == 3


@for_each("rule", ["gpt2", "gpt4"])
def test_where_the_rule_for_words_cuts_every_name_nothing_is_changed(rule):
    backend = byte_level(rule, ["<|end|>", "<|begin_of_text|>", "<|reserved_special_token_0|>"])
    before = backend.to_str()
    Tokenizer(backend)
    assert backend.to_str() == before


def test_a_name_that_is_left_by_another_cut_is_cut_as_well():
    names = ["<<a>>", "<a>>", "<<a>", "a>>"]
    tokenizer = Tokenizer(byte_level("none", names))
    for name in names:
        assert not forbidden(tokenizer.backend) & set(tokenizer.encode(name))


def test_a_role_makes_a_token_special():
    tokens = ["</s>", "a", "[UNK]"]
    backend = tokenizers.Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_tokens(["<pad>"])
    tokenizer = Tokenizer(backend, {"eos_token": "</s>", "pad_token": "<pad>", "bos_token": "a"})
    assert tokenizer.encode("a </s> <pad>") == [1, 2, 2, 2]
    assert tokenizer.special_ids == {"</s>": 0, "<pad>": 3}
    assert tokenizer.decode([1, 0, 3]) == "a"


def test_a_special_token_of_a_single_letter_is_refused():
    with pytest.raises(ValueError, match=r"special token 'a' is a single letter.*give it a longer name"):
        Tokenizer(byte_level("gpt4", [*NAMES, "a"]))


def test_an_unknown_token_is_what_unknown_letters_become():
    tokenizer = Tokenizer(word_piece(pre_tokenizers.WhitespaceSplit()))
    unknown = tokenizer.special_ids["[UNK]"]
    assert tokenizer.encode("中") == [unknown]
    assert unknown in Tokenizer(word_piece(pre_tokenizers.BertPreTokenizer())).encode("中 a")


@given(text=TEXTS)
def test_nor_does_what_a_message_says(tokenizer, text):
    """What a conversation's renderer encodes: tokens where the template has written names, text where a message has."""
    never = forbidden(tokenizer.backend)
    name, index = next((name, index) for name, index in tokenizer.special_ids.items() if index in never)
    encoded = SpecialTokens(tokenizer).encode(f"{name}{text}{name}", [(len(name), len(name) + len(text))])
    assert [token for token in encoded.ids if token in never] == [index] * 2


def test_a_rule_that_cuts_at_the_name_only_in_company():
    """GPT-2's contractions: 's is a word of its own behind any other."""
    backend = byte_level("gpt2", ["'s", "'ll"])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"(?<=[a-z])'(?:s|ll)"), "isolated"), WordRule("none").pre_tokenizer()]
    )
    tokenizer = Tokenizer(backend)
    assert not forbidden(backend) & set(tokenizer.encode("a's b'll"))
