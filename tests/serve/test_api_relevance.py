"""Scores and rankings by an embedding model, a language model, a reranker and a verifier."""

import threading

import numpy as np
import pytest

from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine import Engine
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import assemble
from lmworks.model.config import ClassificationHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service
from lmworks.tokenizer.tokenizer import Tokenizer

QUERY = "How much paid leave is there?"
TEXTS = ["Trains are booked by the office.", "Every employee has days of paid leave.", "A cat sleeps."]


def post(running, path, **body):
    answer = running.http().post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def vectors(tiny_embedder):
    encoder = TextEncoder(tiny_embedder)
    return encoder.encode([QUERY], "query")[0], encoder.encode(TEXTS, "passage")


def test_an_embedding_model_tells_the_cosine(language, vectors, tiny_embedder):
    query, passages = vectors
    answer = post(language, "/v1/score", model="embedder", text_1=QUERY, text_2=TEXTS)
    assert [row["score"] for row in answer["data"]] == pytest.approx(passages @ query, abs=1e-5)
    assert [row["index"] for row in answer["data"]] == [0, 1, 2] and answer["lmworks"] == {"method": "cosine"}
    encode = tiny_embedder.tokenizer.encode
    assert answer["usage"]["prompt_tokens"] == sum(len(encode(text, special=True)) for text in (QUERY, *TEXTS))


def test_equally_many_texts_are_pairs(language, vectors):
    query, passages = vectors
    answer = post(language, "/v1/score", model="embedder", text_1=[QUERY, TEXTS[0]], text_2=[TEXTS[1], TEXTS[0]])
    assert [row["score"] for row in answer["data"]] == pytest.approx([passages[1] @ query, 1.0], abs=1e-5)


def test_documents_are_ranked_by_the_cosine(language, vectors):
    query, passages = vectors
    order = np.argsort(-(passages @ query)).tolist()
    documents = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    answer = post(language, "/v1/rerank", model="embedder", query=QUERY, documents=documents)
    assert [row["index"] for row in answer["results"]] == order and order[0] == 1
    assert [row["document"]["text"] for row in answer["results"]] == [TEXTS[index] for index in order]
    values = [row["relevance_score"] for row in answer["results"]]
    assert values == pytest.approx(sorted(passages @ query, reverse=True), abs=1e-5)
    best = post(
        language, "/v1/rerank", model="embedder", query=QUERY, documents=documents, top_n=1, return_documents=False
    )
    assert best["results"] == [{"index": 1, "relevance_score": values[0]}]


def test_a_text_beside_many_is_read_once_and_not_on_the_event_loop(language, monkeypatch):
    """A query as long as a body may be, for each of a thousand documents, would hold up the server for minutes."""
    read: list[tuple[str, str]] = []
    encode = Tokenizer.encode_batch

    def watched(tokenizer, texts, special=False):
        read.extend((text, threading.current_thread().name) for text in texts)
        return encode(tokenizer, texts, special)

    monkeypatch.setattr(Tokenizer, "encode_batch", watched)
    query, documents = "long " * 2000, [str(number) for number in range(20)]
    answer = language.http().post("/v1/rerank", json={"model": "tiny", "query": query, "documents": documents})
    assert answer.status_code == 400 and "context" in answer.text
    assert sorted(text for text, _ in read) == sorted([query, *(f"{text}\n" for text in documents)])
    assert not any("(run)" in thread for _, thread in read)  # as the threads of servers are called


def test_a_language_model_tells_log_probabilities(language, tiny):
    encode = tiny.tokenizer.encode
    scores = Engine(tiny).score([encode("ab"), encode("ab")], [encode("cd"), encode("e")])
    answer = post(language, "/v1/score", model="tiny", text_1="ab", text_2=["cd", "e"])
    # In bfloat16, what is computed together moves a score by about 0.03 a token.
    assert [row["score"] for row in answer["data"]] == pytest.approx([one.mean for one in scores], abs=0.05)
    assert answer["lmworks"] == {"method": "log_probability"} and answer["usage"]["total_tokens"] == 7


def test_documents_are_ranked_by_how_probable_they_make_the_query(language, tiny):
    encode = tiny.tokenizer.encode
    scores = Engine(tiny).score([encode(f"{text}\n") for text in TEXTS], [encode(QUERY)] * 3)
    answer = post(language, "/v1/rerank", model="tiny", query=QUERY, documents=TEXTS)
    for row in answer["results"]:
        assert row["relevance_score"] == pytest.approx(scores[row["index"]].mean, abs=0.05)
    values = [row["relevance_score"] for row in answer["results"]]
    assert values == sorted(values, reverse=True) and answer["lmworks"]["method"] == "log_probability"


@pytest.fixture(scope="module")
def heads(tiny_embedder):
    """A reranker and a verifier, of random weights, so large that their scores differ."""
    made, tokenizer = {}, tiny_embedder.tokenizer
    for name, labels in (("judge-of-passages", 1), ("judge-of-claims", 3)):
        head, size = ClassificationHead(labels), tiny_embedder.config.embedding.vocabulary
        config = bert(size, width=32, layers=1, heads=2, hidden=32, context_length=64, head=head)
        made[name] = assemble(config, initialise(Transformer(config), labels, std=0.5).state_dict(), tokenizer)
    return made


@pytest.fixture(scope="module")
def judging(heads, tiny_embedder_folder, serve, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    paths = {name: str(checkpoint.save(folder / name)) for name, checkpoint in heads.items()}
    service = Service(folder / "served", ServeConfig(), {"embedder": str(tiny_embedder_folder), **paths})
    service.load()
    with serve(service) as running:
        yield running


def test_a_trained_reranker_ranks_also_where_no_model_is_named(judging, heads):
    logits = CrossEncoder(heads["judge-of-passages"]).relevance(QUERY, TEXTS)
    chances = 1 / (1 + np.exp(-logits))
    for named in ({"model": "judge-of-passages"}, {}):
        answer = post(judging, "/v1/rerank", **named, query=QUERY, documents=TEXTS)
        assert [row["index"] for row in answer["results"]] == np.argsort(-chances).tolist()
        assert {row["index"]: row["relevance_score"] for row in answer["results"]} == pytest.approx(
            dict(enumerate(chances)), abs=1e-5
        )
        assert answer["model"] == "judge-of-passages" and answer["lmworks"] == {"method": "relevance"}
    scored = post(judging, "/v1/score", model="judge-of-passages", text_1=QUERY, text_2=TEXTS)
    assert [row["score"] for row in scored["data"]] == pytest.approx(chances, abs=1e-5)


def test_a_verifier_tells_how_likely_a_text_follows_from_the_other(judging, heads):
    pairs = [(text, QUERY) for text in TEXTS]
    entailed = CrossEncoder(heads["judge-of-claims"]).entailment(pairs)[:, 0]
    answer = post(judging, "/v1/score", model="judge-of-claims", text_1=TEXTS, text_2=QUERY)
    assert [row["score"] for row in answer["data"]] == pytest.approx(entailed, abs=1e-5)
    assert answer["lmworks"] == {"method": "entailment"} and np.ptp(entailed) > 0.01
    ranked = post(judging, "/v1/rerank", model="judge-of-claims", query=QUERY, documents=TEXTS)["results"]
    assert [row["index"] for row in ranked] == np.argsort(-entailed).tolist()  # documents by how they prove the query


def test_models_that_read_pairs_are_listed_and_read_nothing_else(judging, language):
    kinds = {row["id"]: row["kind"] for row in judging.http().get("/v1/models").json()["data"]}
    assert kinds == {"embedder": "embedding", "judge-of-passages": "reranker", "judge-of-claims": "verifier"}
    with judging.http() as client:
        body = {"model": "judge-of-passages", "messages": [{"role": "user", "content": "Hello"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 404
        long = client.post("/v1/rerank", json={"query": QUERY, "documents": ["leave " * 300]})
        assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
        encoded = client.post("/tokenize", json={"model": "judge-of-claims", "prompt": QUERY})
        assert encoded.status_code == 200
    unnamed = language.http().post("/v1/rerank", json={"query": QUERY, "documents": TEXTS})
    assert unnamed.status_code == 400 and unnamed.json()["error"]["param"] == "model"
