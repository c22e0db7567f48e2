"""Expanded queries against searches one by one, and a language model's yes against its own logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hashing_encoder import make_document
from lmworks.config import ConfigError
from lmworks.generate.engine import Engine
from lmworks.generate.paged_cache import PAGE
from lmworks.recipe import check_stage
from lmworks.records import Message
from lmworks.retrieve.config import ChunkConfig, SearchConfig
from lmworks.retrieve.index import Index
from lmworks.retrieve.pointwise_reranker import PROMPT, PointwiseReranker
from lmworks.retrieve.query_expansion import read_queries, rewrites
from lmworks.retrieve.search import fused, search

TEXTS = ("The cat sleeps all day.", "A feline rests at noon.", "Dogs bark at night.", "Cats and dogs rest.", "Rain.")
QUESTION = "when does the cat sleep"
CONFIG = SearchConfig(k=5, near_duplicate=1)


@pytest.fixture
def index(tmp_path, encoder):
    index = Index.create(tmp_path / "index", encoder, ChunkConfig(60, 120))
    index.sync([make_document(text, f"{place}") for place, text in enumerate(TEXTS)], encoder)
    return index


def test_several_queries_rank_by_the_mean_of_the_scores_by_each(index, encoder):
    written = ["feline rest", "noon at night"]
    single = []
    for text in (QUESTION, *written):
        hits = fused(index, read_queries(index, [text], encoder), CONFIG)
        single.append({key: own["fused"] for key, own in zip(hits.keys, hits.scores, strict=True)})
    mean = {key: np.mean([scores[key] for scores in single]) for key in single[0]}
    found = search(index, QUESTION, encoder, replace(CONFIG, rewrites=2), complete=lambda _: "\n".join(written))
    alone = search(index, QUESTION, encoder, CONFIG)
    assert [one.scores["fused"] for one in found] == pytest.approx(sorted(mean.values(), reverse=True))
    assert [one.text for one in found] != [one.text for one in alone]
    assert {one.text: one.scores["dense"] for one in found} == {one.text: one.scores["dense"] for one in alone}


def test_a_hypothetical_passage_moves_the_cosine_half_the_way(index, encoder):
    passage = "A feline rests at noon."
    found = search(index, QUESTION, encoder, replace(CONFIG, hypothetical=True), complete=lambda _: passage)
    mean = encoder.encode([QUESTION], "query")[0] + encoder.encode([passage], "passage")[0]
    expected = encoder.encode([one.text for one in found], "passage") @ (mean / np.linalg.norm(mean))
    assert [one.scores["dense"] for one in found] == pytest.approx(expected, abs=1e-6)


def test_rewrites_are_read_from_lists_and_answers_are_none():
    text = 'Here they are:\n1. "Who wrote it?"\n- Whose work is it?\nWHO WROTE IT?\nAda wrote it.\n* Who made it?'
    assert rewrites("Who wrote it?", 2, lambda _: text) == ["Whose work is it?", "Who made it?"]
    with pytest.warns(UserWarning, match="in 2 other ways, not in 3"):
        rewrites("Who wrote it?", 3, lambda _: text)


def test_no_expansion_without_a_model(index, encoder):
    expanding = replace(CONFIG, rewrites=1)
    with pytest.raises(ValueError, match="expander"):
        search(index, QUESTION, encoder, expanding)
    with pytest.raises(ValueError, match="rewrites"):
        SearchConfig(rewrites=-1)
    settings = {"answer": {"search": {"hypothetical": True}}}
    with pytest.raises(ConfigError, match=r"models\.expander"):
        check_stage("c", "ground.calibrate", settings, inputs=["a", "b"], roles={"embedder": "e"})


def test_relevance_is_the_logit_of_yes_and_shares_the_question(smollm2_checkpoint, monkeypatch):
    engine = Engine(smollm2_checkpoint, weights="float32")
    lines = ("It was written by Ada Lovelace in 1843, as notes.", 10), ("Rain fell.", 40), ("It ran in the end.", 22)
    passages = [" ".join([line] * count) for line, count in lines]
    question = "Who wrote the first program for a machine, and in which year was that published?"
    encode, render = smollm2_checkpoint.required_tokenizer.encode, smollm2_checkpoint.chat.render
    yes, no = (
        sorted({ids[0] for one in words for text in (one, f" {one}") if len(ids := encode(text)) == 1})
        for words in (("yes", "Yes", "YES"), ("no", "No", "NO"))
    )
    expected, prompts = [], []
    for passage in passages:
        message = Message("user", PROMPT.format(question=question, passage=passage))
        prompts.append(render([message], add_generation_prompt=True).ids)
        with torch.inference_mode():
            logits = smollm2_checkpoint.model(torch.tensor([prompts[-1]]))[0, -1].double()
        expected.append(float(logits[yes].logsumexp(0) - logits[no].logsumexp(0)))
    forwarded, forward = [], engine.batcher.forward

    def counted(works, **named):
        forwarded.append(sum(len(one.ids) for one in works))
        return forward(works, **named)

    monkeypatch.setattr(engine.batcher, "forward", counted)
    assert PointwiseReranker(lambda: engine, engine.checkpoint).relevance(question, passages) == pytest.approx(
        expected, abs=1e-3
    )
    same = [len(set(column)) == 1 for column in zip(*prompts, strict=False)]
    common = same.index(False) // PAGE * PAGE
    assert common >= 48
    assert sum(forwarded) <= sum(map(len, prompts)) - common  # the first two may be read in one batch
