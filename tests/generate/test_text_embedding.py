"""The text encoder: what a vector may depend on, and what it may not."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import UnsupportedError
from lmworks.generate.text_embedding import TextEncoder
from lmworks.kernels import library
from lmworks.kernels.program import Program
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import PoolHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer

_exact = partial(TextEncoder, weights="float32")
_TEXTS = ["a", "", "some longer text", "höher", "four words of text", "b" * 200, "same", "same"]
# float32 vectors of length 1: a padded row sums the same terms in another order
_TOLERANCE = 1e-6


@pytest.fixture(params=[4, 2], ids=["modules", "kernels"])
def tiny_bert(request, tiny_bert) -> Checkpoint:
    """With heads of 8 dimensions, which the fused kernels do not compute, and of 16."""
    config = bert(260, width=32, layers=2, heads=request.param, hidden=64, context_length=32, head=PoolHead())
    return replace(tiny_bert, config=config)


def test_batches_padding_and_order_change_no_vector(tiny_bert) -> None:
    encoder = _exact(tiny_bert)
    alone = np.concatenate([encoder.encode([text], "passage") for text in _TEXTS])
    assert alone.shape == (len(_TEXTS), 32) and alone.dtype == np.float32
    assert np.abs(encoder.encode(_TEXTS, "passage") - alone).max() < _TOLERANCE
    assert np.abs(encoder.encode(_TEXTS[::-1], "passage")[::-1] - alone).max() < _TOLERANCE
    assert np.abs(alone[0] - alone[2]).max() > 0.01, "different texts have different vectors"


@torch.inference_mode()
def test_equal_to_pooling_by_hand(tiny_bert) -> None:
    hidden = tiny_bert.model.hidden(torch.tensor([tiny_bert.tokenizer.encode("some text", special=True)]))[0]
    expected = hidden.mean(0) / hidden.mean(0).norm()
    vector = _exact(tiny_bert).encode(["some text"], "query")[0]
    assert np.abs(vector - expected.numpy()).max() < _TOLERANCE
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_truncation_keeps_the_special_tokens_and_is_counted(tiny_bert) -> None:
    encoder = _exact(tiny_bert)  # 32 tokens: [CLS], 30 bytes, [SEP]
    full, cut = encoder.encode(["x" * 29 + "y", "x" * 29 + "yz"], "passage")
    assert np.abs(full - cut).max() < _TOLERANCE, "the text that is too long is its first 30 bytes"
    assert encoder.truncated == 1
    encoder.encode(["z" * 100, "z" * 31, "z" * 30], "query")
    assert encoder.truncated == 3


def test_prefix_belongs_to_its_role(tiny_bert) -> None:
    plain, prefixed = _exact(tiny_bert), _exact(tiny_bert, {"query": "query: "})
    assert np.array_equal(prefixed.encode(["text"], "query"), plain.encode(["query: text"], "query"))
    assert np.array_equal(prefixed.encode(["text"], "passage"), plain.encode(["text"], "passage"))
    with pytest.raises(ValueError, match="unknown role 'question': expected one of query, passage"):
        plain.encode(["text"], "question")  # type: ignore[arg-type]


def test_fingerprint_covers_whatever_shapes_a_vector(tiny_bert) -> None:
    variants = [
        _exact(tiny_bert),
        _exact(tiny_bert, {"query": "query: "}),
        _exact(tiny_bert, {"passage": "query: "}),
        _exact(replace(tiny_bert, weights=initialise(Transformer(tiny_bert.config), seed=9).state_dict())),
        _exact(replace(tiny_bert, max_length=31)),
        TextEncoder(tiny_bert, weights="int8"),
        TextEncoder(tiny_bert, weights="bfloat16"),
    ]
    assert len({encoder.fingerprint for encoder in variants}) == len(variants)


def test_engine_uses_the_same_encoder_and_refuses_the_rest(tiny_bert, tiny_llama) -> None:
    engine = Engine(tiny_bert)
    assert np.array_equal(engine.embed(["text"], "query"), TextEncoder(tiny_bert).encode(["text"], "query"))
    with pytest.raises(UnsupportedError, match="language model"):
        engine.score([[1]], [[1]])
    with pytest.raises(UnsupportedError, match="embedding model"):
        Engine(tiny_llama).embed(["text"], "query")
    with pytest.raises(UnsupportedError, match="pooling head"):
        TextEncoder(tiny_llama)


def test_no_texts_give_no_rows(tiny_bert) -> None:
    assert _exact(tiny_bert).encode([], "passage").shape == (0, 32)


@pytest.mark.weights
def test_real_weights_find_the_passage_that_answers(minilm) -> None:
    from lmworks.model.checkpoint import load

    encoder = _exact(load(minilm))
    passages = ["A list is a mutable sequence of items.", "The Danube flows into the Black Sea.", "Bread is baked."]
    found = encoder.encode(["Which sea does the Danube reach?"], "query") @ encoder.encode(passages, "passage").T
    assert found.argmax() == 1 and found[0, 1] > 0.5
    together, alone = encoder.encode(["Bread.", "word " * 400], "passage"), encoder.encode(["Bread."], "passage")
    assert encoder.max_length == 256 and encoder.truncated == 1
    assert np.abs(together[0] - alone[0]).max() < _TOLERANCE


@torch.inference_mode()
def test_token_vectors_are_the_hidden_states_without_special_tokens(tiny_bert) -> None:
    encoder = _exact(tiny_bert)
    _, vectors = encoder.encode_both(_TEXTS, "passage")
    for text, rows in zip(_TEXTS, vectors, strict=True):
        ids = tiny_bert.tokenizer.encode(text, special=True)[: tiny_bert.max_length - 1]
        ids = [*ids, tiny_bert.tokenizer.encode("", special=True)[-1]] if len(text) > 30 else ids
        hidden = tiny_bert.model.hidden(torch.tensor([ids]))[0, 1:-1]  # [CLS] and [SEP] off
        expected = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        assert rows.shape == expected.shape
        assert np.abs(rows - expected).max(initial=0) < _TOLERANCE


# steps of 2^-8 through two layers
@for_each(("weights", "tolerance"), [("float32", 1e-6), ("bfloat16", 3e-3), ("int8", 3e-3)])
def test_one_forward_gives_both_as_float32_gives_them(tiny_bert, weights, tolerance) -> None:
    many = _TEXTS * 200  # more than are tokenised at once
    vectors, tokens = TextEncoder(tiny_bert, weights=weights).encode_both(many, "passage")
    exact = _exact(tiny_bert)
    assert np.abs(1 - (vectors * np.tile(exact.encode(_TEXTS, "passage"), (200, 1))).sum(1)).max() < tolerance
    for one, other in zip(tokens, exact.encode_both(_TEXTS, "passage")[1] * 200, strict=True):
        assert one.dtype == np.float32 and one.shape == other.shape
        assert np.abs(1 - (one * other).sum(1)).max(initial=0) < tolerance


@for_each("weights", ["auto", "float32", "bfloat16"])
def test_in_the_kernels_no_bit_depends_on_the_batch(tiny_bert, weights) -> None:
    encoder = TextEncoder(tiny_bert, weights=weights)
    lowered = library.load() is not None and tiny_bert.config.encoder.blocks[0].attention.heads == 2
    assert isinstance(encoder.model, Program) == lowered
    if not lowered:
        return
    many = [f"{number} {text}" for number in range(40) for text in _TEXTS]
    vectors, tokens = encoder.encode_both(many, "passage")
    for row in (0, 1, 5, 150, 319):
        (vector,), (states,) = encoder.encode_both([many[row]], "passage")
        assert np.array_equal(vector, vectors[row]) and np.array_equal(states, tokens[row])


@for_each("prefix", ["", "query: "])
def test_offsets_are_those_of_the_tokens_that_have_vectors(tiny_bert, prefix) -> None:
    encoder = _exact(tiny_bert, {"passage": prefix})
    vectors, offsets = encoder.encode_both(_TEXTS, "passage")[1], encoder.token_offsets(_TEXTS)
    assert [len(one) for one in offsets] == [len(one) for one in vectors]
    assert offsets[2].tolist() == [[i, i + 1] for i in range(len(_TEXTS[2]))]
    assert offsets[3].tolist() == [[0, 1], [1, 2], [1, 2], [2, 3], [3, 4], [4, 5]], "two bytes of one character"
    assert len(offsets[5]) == 30 - len(prefix), "cut where the vectors are"


@pytest.mark.weights
def test_a_word_that_the_vocabulary_lacks_keeps_its_vector_and_place(minilm) -> None:
    from lmworks.model.checkpoint import load

    encoder, text = TextEncoder(load(minilm)), "The ☃ ice"
    (vectors,), (offsets,) = encoder.encode_both([text], "passage")[1], encoder.token_offsets([text])
    assert [text[start:end] for start, end in offsets] == ["The", "☃", "ice"] and len(vectors) == 3
