"""Embeddings and the list of models through the official client."""

import numpy as np
import openai
import pytest

from kit.tables import for_each
from lmworks.generate.text_embedding import TextEncoder

TEXTS = ["A cat sleeps.", "Cats are asleep.", "The report is due on Friday."]


@for_each("encoding", ["float", "base64"])
def test_vectors_are_those_of_the_encoder(language, tiny_embedder, encoding):
    answer = language.client().embeddings.create(model="embedder", input=TEXTS, encoding_format=encoding)
    raw = [item.embedding for item in answer.data]
    if encoding == "base64" and isinstance(raw[0], str):  # the client leaves what was asked for explicitly
        import base64

        raw = [np.frombuffer(base64.b64decode(item), dtype="<f4") for item in raw]
    wanted = TextEncoder(tiny_embedder).encode(TEXTS, "query")
    assert np.allclose(np.array(raw), wanted, atol=1e-6)
    assert [item.index for item in answer.data] == [0, 1, 2]
    encode = tiny_embedder.tokenizer.encode
    assert answer.usage.prompt_tokens == sum(len(encode(text, special=True)) for text in TEXTS)


def test_one_text_and_the_clients_own_default(language, tiny_embedder):
    answer = language.client().embeddings.create(model="embedder", input=TEXTS[0])
    assert np.allclose(answer.data[0].embedding, TextEncoder(tiny_embedder).encode(TEXTS[:1], "query")[0], atol=1e-6)
    assert language.client().embeddings.create(model="embedder", input="x", dimensions=64).model == "embedder"


def test_models_are_listed(language):
    models = {model.id: model for model in language.client().models.list()}
    assert set(models) == {"tiny", "embedder"}
    assert models["tiny"].kind == "language" and models["tiny"].context_length == 512
    assert language.client().models.retrieve("embedder").kind == "embedding"
    with pytest.raises(openai.NotFoundError, match="tiny"):
        language.client().models.retrieve("nobody")
    with pytest.raises(openai.NotFoundError, match="embedder"):
        language.client().embeddings.create(model="tiny", input="a")
