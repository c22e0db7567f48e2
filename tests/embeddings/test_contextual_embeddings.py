"""A language model's vectors of words, against `transformers` and by hand."""

import numpy as np
import pytest
import torch
import transformers

from kit.tables import for_each
from lmworks.embeddings.contextual_embeddings import contextual_vectors, token_vectors
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama
from lmworks.model.transformer import Transformer


@pytest.fixture(scope="module", params=["llama", "bert"])
def checkpoint(request, tiny_tokenizer) -> Checkpoint:
    if request.param == "llama":
        config = llama(267, 32, 3, 4, 2, 64, 64)
    else:
        config = bert(267, 32, 3, 4, 64, 64)
    return assemble(config, initialise(Transformer(config), seed=0, std=0.15).state_dict(), tiny_tokenizer)


def test_rows_are_those_of_the_embedding(checkpoint):
    found = token_vectors(checkpoint)
    tokenizer = checkpoint.tokenizer
    rows = checkpoint.model.tokens.detach().numpy()
    for text in ("a", " the", " a", "ing", "<"):
        (token,) = tokenizer.encode(text)
        assert found.vector(text).tobytes() == rows[token].tobytes()
    assert "<|im_end|>" not in found and not any("\ufffd" in word for word in found.words)
    assert len(found) == len(set(found.words)) < 267 - 3 - 100  # neither special tokens nor halves of characters


def test_a_word_is_the_mean_of_its_tokens(checkpoint):
    found = token_vectors(checkpoint, ["the", "then"])
    rows = checkpoint.model.tokens.detach().numpy()
    tokenizer = checkpoint.tokenizer
    for word in ("the", "then"):
        expected = rows[tokenizer.encode(f" {word}")].mean(axis=0)
        np.testing.assert_allclose(found.vector(word), expected, atol=1e-7)


@for_each("layer", [0, 1, 2, None])
def test_layers_are_those_of_transformers(checkpoint, layer, tmp_path):
    folder = checkpoint.save(tmp_path / "model")
    kwargs = {} if checkpoint.config.decoder is not None else {"add_pooling_layer": False}
    theirs = transformers.AutoModel.from_pretrained(folder, **kwargs).eval()
    sentences = ["I sat by the bank of the river.", "the bank on the hill"]
    found = contextual_vectors(checkpoint, sentences, "bank", layer)
    assert found.words == ("I sat by the [bank] of the river.", "the [bank] on the hill")
    for sentence, vector in zip(sentences, found.vectors, strict=True):
        ids, offsets = checkpoint.tokenizer.encode_with_offsets(sentence, special=True)
        with torch.no_grad():
            states = theirs(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        start = sentence.index("bank")
        places = [place for place, (low, high) in enumerate(offsets) if low < start + 4 and high > start]
        assert places
        expected = states[-1 if layer is None else layer][0, places].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, expected, atol=2e-5)  # float32, sums in another order


def test_context_changes_a_word_and_position_zero_does_not(checkpoint):
    near = contextual_vectors(checkpoint, ["a bank here", "a bank there"], "bank", 1)
    if checkpoint.config.decoder is not None:  # what comes later is not seen
        np.testing.assert_allclose(near.vectors[0], near.vectors[1], atol=1e-6)
    else:
        assert np.abs(near.vectors[0] - near.vectors[1]).max() > 1e-3
    far = contextual_vectors(checkpoint, ["a bank", "the bank"], "bank")
    assert np.abs(far.vectors[0] - far.vectors[1]).max() > 1e-3


def test_what_cannot_be_found_is_refused(checkpoint):
    with pytest.raises(ValueError, match="'ban' is not in"):  # a part of a word is another word
        contextual_vectors(checkpoint, ["the bank"], "ban")
    with pytest.raises(ValueError, match="layer must be 0 to 3"):
        contextual_vectors(checkpoint, ["the bank"], "bank", 4)
    with pytest.raises(ValueError, match="longer than the 64"):
        contextual_vectors(checkpoint, ["x " * 90 + "bank"], "bank")
