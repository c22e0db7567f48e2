"""Every chat keeps the vector of its question, so that drift can be a query over the log."""

from threading import Event

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import QUERY_ENCODER

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "A lost laptop?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Paid leave in March"},
]


def logged(running, answer):
    return running.service.log.reader.get(answer.lmworks["interaction"])


@for_each("stream", [False, True])
def test_a_chat_is_kept_with_the_vector_of_its_last_question(language, tiny_embedder, stream):
    create = language.client().chat.completions.create
    answer = create(model="tiny", messages=CHAT, max_tokens=3, n=2, stream=stream)
    first = logged(language, list(answer)[-1] if stream else answer)
    (wanted,) = TextEncoder(tiny_embedder).encode(["Paid leave in March"], "query")
    for one in (first, language.service.log.reader.get(first.id.removesuffix("-1") + "-1")):
        assert np.array_equal(np.array(one.query_embedding, dtype=np.float32), wanted)
        assert one.lineage[QUERY_ENCODER] == language.service.models.encoder("embedder").fingerprint


def test_grounded_answers_and_chats_are_kept_in_one_space(grounded):
    question = [{"role": "user", "content": "By when must I report a lost laptop?"}]
    create = grounded.client().chat.completions.create
    both = [logged(grounded, create(model=name, messages=question, max_tokens=3)) for name in ("assistant", "tiny")]
    assert both[0].lineage[QUERY_ENCODER] == both[1].lineage[QUERY_ENCODER]
    assert both[0].query_embedding == pytest.approx(both[1].query_embedding, abs=1e-6)


@for_each("options", [{}, {"embedder": True, "query_embeddings": False}])
def test_without_an_embedder_or_with_the_switch_off_there_is_none(start, options):
    with start(**options) as running:
        one = logged(running, running.client().chat.completions.create(model="tiny", messages=CHAT, max_tokens=3))
    assert one.query_embedding == () and QUERY_ENCODER not in one.lineage


def test_an_answer_does_not_wait_for_an_embedder_that_hangs(start, monkeypatch, caplog):
    monkeypatch.setattr("lmworks.serve.completion_turn._EMBEDDING_SECONDS", 0.01)
    awake = Event()
    with start(embedder=True) as running:
        encode = running.service.models.encoder("embedder").encode
        monkeypatch.setattr(
            running.service.models.encoder("embedder"), "encode", lambda *given: awake.wait(60) and encode(*given)
        )
        answer = running.client().chat.completions.create(model="tiny", messages=CHAT, max_tokens=3, n=2)
        assert logged(running, answer).query_embedding == ()
        awake.set()
    assert "was not embedded" in caplog.text


def test_an_answer_comes_also_when_its_question_cannot_be_embedded(start, monkeypatch, caplog):
    with start(embedder=True) as running:
        monkeypatch.setattr(running.service.models.encoder("embedder"), "encode", lambda *_: 1 / 0)
        answer = running.client().chat.completions.create(model="tiny", messages=CHAT, max_tokens=3)
        assert logged(running, answer).query_embedding == ()
    assert "could not be embedded" in caplog.text
