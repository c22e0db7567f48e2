"""Likelihoods against lm-evaluation-harness's windows and the modules' own logits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmworks.evaluate.likelihood import bits_per_byte, gptscore, perplexity
from lmworks.evaluate.metric import Item, Response, score
from lmworks.generate.engine import Engine
from lmworks.generate.perplexity import rolling_windows
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Scored, Unscored


def harness_windows(ids: list[int], start: int, length: int, context: int) -> list[tuple[list[int], list[int]]]:
    """What a window reads and what it predicts, token by token: the definition of lm_eval.utils."""
    stream, pairs, done = [start, *ids], [], 0
    while done < len(ids):
        count = min(length if done == 0 else length - context + 1, len(ids) - done)
        done += count
        read = stream[max(done - length, 0) : done]
        pairs.append((read[: len(read) - count + 1], ids[done - count : done]))
    return pairs


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_windows_are_those_of_the_harness(count, length, data):
    context = data.draw(st.integers(1, length))
    ids = list(range(1, count + 1))
    found = [(list(before), list(after)) for before, after in rolling_windows(ids, 0, length, context)]
    assert found == harness_windows(ids, 0, length, context)
    assert [token for _, after in found for token in after] == ids  # each once
    assert all(len(before) + len(after) - 1 <= length for before, after in found)


def log_probabilities(model: Checkpoint, context: list[int], ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = model.model(torch.tensor([[*context, *ids[:-1]]]))[0].double()
    return logits[len(context) - 1 :].log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].numpy()


TEXTS = ("The tower stands in the garden, and nobody knows who built it. " * 4, "été \u4e16\u754c", "x")


def test_perplexity_and_bits_are_of_the_models_logits(tiny: Checkpoint):
    engine = Engine(tiny, weights="float32")
    items, responses = [Item(str(n)) for n in range(4)], [Response(text) for text in (*TEXTS, "")]
    nats = []
    for text in TEXTS:
        pairs = rolling_windows(tiny.required_tokenizer.encode(text), 0, 32, 8)
        nats.append(-sum(log_probabilities(tiny, list(before), list(after)).sum() for before, after in pairs))
    tokens = [len(tiny.required_tokenizer.encode(text)) for text in TEXTS]
    metric = perplexity(engine, 32, 8)
    values = metric.measure(items, responses)
    assert isinstance(values.pop(), Unscored)
    np.testing.assert_allclose(values, list(zip(nats, tokens, strict=True)), rtol=1e-5)
    found = score(metric, items[:3], values)
    assert isinstance(found, Scored) and found.value == pytest.approx(math.exp(sum(nats) / sum(tokens)), rel=1e-5)
    bits = bits_per_byte(engine, 32, 8)
    found = score(bits, items[:3], bits.measure(items, responses)[:3])
    size = sum(len(text.encode()) for text in TEXTS)
    assert isinstance(found, Scored) and found.value == pytest.approx(sum(nats) / math.log(2) / size, rel=1e-5)
    assert metric.signature["stride"] == 25 and metric.signature != perplexity(engine, 32, 9).signature
    rolled = [Response(text, log_probabilities=(-value,)) for text, value in zip(TEXTS, nats, strict=True)]
    assert [one for one, _ in perplexity().measure(items[:3], rolled)] == pytest.approx(nats)


def test_gptscore_is_the_mean_over_all_tokens_of_the_response(tiny: Checkpoint):
    tiny = replace(tiny, chat_template=None)
    engine = Engine(tiny, weights="float32", context_length=128)
    items = [Item("a", contexts=("A tower.",)), Item("b", prompt="A tower."), Item("c", contexts=("long " * 200,))]
    values = gptscore(engine, "Sum it up.").measure(items, [Response("It is high.")] * 3)
    encode = tiny.required_tokenizer.encode
    context = [tiny.required_tokenizer.special_ids["<|endoftext|>"], *encode("Sum it up.\n\nA tower.\n\n")]
    expected = log_probabilities(tiny, context, encode("It is high.")).mean()
    assert values[:2] == pytest.approx([expected] * 2, rel=1e-5)
    assert isinstance(values[2], Unscored) and "128" in values[2].reason
