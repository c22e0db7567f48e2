"""Which tokens text can become: against all texts there are over a small alphabet, and on published vocabularies."""

import itertools

import foreign_vocabularies as foreign
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from kit.tables import for_each
from lmworks.tokenizer.byte_level import byte_level_bpe
from lmworks.tokenizer.reachable_tokens import reachability, undertrained, unused_rows
from lmworks.tokenizer.token_bytes import partial_tokens, token_names, token_texts, unknown_ids
from lmworks.tokenizer.tokenizer import Tokenizer
from published_data import needs_data

REACHED = ("text", "in context", "part of a character")


@st.composite
def merge_lists(draw):
    """Merges in an order in which no training would list them, so that some tokens are never made."""
    tokens, merges = ["a", "b", "c"], []
    for _ in range(draw(st.integers(1, 7))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if left + right not in tokens and len(left + right) <= 6:
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    return tokens, draw(st.permutations(merges))


@given(parts=merge_lists())
def test_bpe_agrees_with_every_text_there_is(parts):
    tokens, merges = parts
    tokenizer = Tokenizer(byte_level_bpe(tokens, merges, [1] * len(tokens), "gpt-2"))
    texts = ["".join(letters) for size in range(1, 7) for letters in itertools.product("abc", repeat=size)]
    found = {index for ids in tokenizer.encode_batch(texts) for index in ids}
    assert set(reachability(tokenizer).ids(*REACHED).tolist()) == found


@given(
    pieces=st.sets(st.text("ab", min_size=2, max_size=3), max_size=4),
    continuing=st.sets(st.text("ab", min_size=1, max_size=3)),
)
def test_wordpiece_agrees_with_every_text_there_is(pieces, continuing):
    names = ["[UNK]", "a", "b", *sorted(pieces), *(f"##{piece}" for piece in sorted(continuing | {"a", "b"}))]
    model = models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer = Tokenizer(backend, {"unk_token": "[UNK]"})
    texts = ["".join(letters) for size in range(1, 8) for letters in itertools.product("ab", repeat=size)]
    found = {index for ids in tokenizer.encode_batch(texts) for index in ids}
    claimed = set(reachability(tokenizer).ids("text", "in context").tolist())
    assert claimed <= found  # a witness was seen for each
    # The contexts that are tried hold one or two letters: longer ones reach a few more.
    alone = {names.index(name) for name in names[1:] if not name.startswith("##")}
    assert alone <= claimed


def test_the_reasons():
    # "bc" is made first, so that "ab" needs a text without c, and "abc" is never made of "ab" and "c".
    tokens = ["a", "b", "c", "bc", "ab", "abc", "Ċ", "1", "2", "12", "À", "Ã", "©"]
    backend = byte_level_bpe(tokens, ["b c", "a b", "ab c", "1 2"], [1] * len(tokens), "qwen2")
    found = reachability(Tokenizer(backend))
    why = {tokens[index]: reason for index, reason in found.reasons.items()}
    assert why == {
        "abc": "its merges lead elsewhere",
        "12": "no context reached it",  # every digit is a word of its own
        "À": "no UTF-8 text holds its bytes",  # 0xC0
    }
    assert {tokens[index]: [tokens[i] for i in ids] for index, ids in found.becomes.items()} == {
        "abc": ["a", "bc"],
        "12": ["1", "2"],
    }
    assert [tokens[index] for index in found.ids("part of a character")] == ["Ã", "©"]


def test_special_tokens_and_gaps(tiny_tokenizer):
    found = reachability(tiny_tokenizer)
    assert [found.kinds[index] for index in range(3)] == ["special"] * 3
    backend = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 3}, []))
    assert reachability(Tokenizer(backend)).kinds[1:3] == ("no token", "no token")
    assert token_names(Tokenizer(backend)) == ["a", None, None, "b"]


def test_what_tokens_stand_for(tiny_tokenizer):
    texts, names = token_texts(tiny_tokenizer), token_names(tiny_tokenizer)
    assert texts[names.index("Ġthe")] == " the" and texts[0] == ""
    assert texts[names.index("Ã")] == b"\xc3"
    # The 128 bytes above ASCII are no characters by themselves.
    assert partial_tokens(tiny_tokenizer).sum() == 128
    assert unknown_ids(tiny_tokenizer) == set()


NEVER_IN_UTF8 = [0xC0, 0xC1, *range(0xF5, 0x100)]  # RFC 3629, section 1


def test_of_all_bytes_thirteen_are_never_reached(tiny_tokenizer):
    texts = token_texts(tiny_tokenizer)
    assert sorted(texts[index][0] for index in reachability(tiny_tokenizer).ids("unreachable")) == NEVER_IN_UTF8


@needs_data
@pytest.mark.slow
def test_gpt2_has_thirteen_bytes_that_no_text_holds():
    texts, found = token_texts(foreign.gpt2()), reachability(foreign.gpt2())
    assert sorted(texts[index][0] for index in found.ids("unreachable")) == NEVER_IN_UTF8
    assert found.kinds[50256] == "special"


@pytest.mark.slow
def test_minilm_has_tokens_that_bert_left_unused(minilm):
    tokenizer = Tokenizer.load(minilm)
    names, found = token_names(tokenizer), reachability(tokenizer)
    unreachable = {names[index] for index in found.ids("unreachable")}
    assert {f"[unused{n}]" for n in range(994)} <= unreachable
    assert found.kinds[names.index("##ing")] == "in context" and found.kinds[names.index("the")] == "text"


# ---------------------------------------------------------------------------------------------------------------------
# Rows that were not trained


def embedding(generator, kinds, planted, tied):
    """Random rows; those of unused tokens and the planted one are moved alike, as weight decay and softmax do."""
    rows = generator.normal(size=(len(kinds), 32))
    alike = generator.normal(size=32)
    for index, kind in enumerate(kinds):
        if kind in ("unreachable", "no token") or index == planted:
            rows[index] = (alike if tied else 0) + 0.1 * generator.normal(size=32)
    return rows.astype(np.float32)


@for_each("tied", [True, False])
def test_a_planted_row_is_the_first_candidate(tiny_tokenizer, tied):
    tokens = [chr(0x4E00 + index) for index in range(200)]
    backend = tokenizers.Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    found = reachability(Tokenizer(backend))
    assert set(found.kinds) == {"text"}
    # Rows 200 to 220 are padding: no id has them.
    kinds = [*found.kinds, *["no token"] * 20]
    judged = undertrained(embedding(np.random.default_rng(0), kinds, 77, tied), found, tied)
    assert judged.candidates[0] == 77 and len(judged.candidates) == 4  # 2 % of 200
    assert judged.indicator[77] < 0.5 * np.delete(judged.indicator, 77).min()
    assert unused_rows(found, 220).tolist() == list(range(200, 220))


def test_tied_rows_need_one_that_is_known_to_be_unused():
    backend = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    with pytest.raises(ValueError, match="no token is known to be unused"):
        undertrained(np.ones((2, 4)), reachability(Tokenizer(backend)), tied=True)
