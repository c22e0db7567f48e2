"""Attribution against the logits of the model's own modules."""

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.evaluate.attribution import attribute
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.generate.engine import Engine
from lmworks.generate.scoring import document_start
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Unscored

PASSAGES = ("The tower stands in the garden.", "Nobody knows who built it.", "It is old.")
ANSWER = "It stands in the garden. Nobody built it."


def log_probabilities(checkpoint: Checkpoint, before: str) -> np.ndarray:
    tokenizer = checkpoint.required_tokenizer
    context = [document_start(tokenizer), *(tokenizer.encode(f"{before}\n\n") if before else [])]
    ids = tokenizer.encode(ANSWER)
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([[*context, *ids[:-1]]]))[0].double()
    return logits[len(context) - 1 :].log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].numpy()


@for_each("prompt", ["", "Where does the tower stand?"])
def test_the_gain_of_each_token_and_of_each_passage(tiny: Checkpoint, prompt: str):
    engine, items, responses = (
        Engine(tiny, weights="float32"),
        [Item("1", prompt, contexts=PASSAGES)],
        [Response(ANSWER)],
    )
    [found] = attribute(engine, items, responses, by_passage=True)
    assert not isinstance(found, Unscored)

    def given(*passages: str) -> np.ndarray:
        return log_probabilities(tiny, "\n\n".join([*passages, *filter(None, [prompt])]))

    gains = given(*PASSAGES) - given()
    assert [gain for _, _, gain in found.tokens] == pytest.approx(gains.tolist(), abs=2e-4)
    assert "".join(ANSWER[start:end] for start, end, _ in found.tokens) == ANSWER
    without = [given(*PASSAGES[:one], *PASSAGES[one + 1 :]).sum() for one in range(3)]
    assert found.passages == pytest.approx([given(*PASSAGES).sum() - each for each in without], abs=2e-3)
    assert metric("attribution", model=engine).measure(items, responses) == [pytest.approx(gains.sum(), abs=2e-3)]
    ends = np.array([end for _, end, _ in found.tokens])  # "It stands in the garden." has 24 characters
    expected = (gains[ends <= 24].mean() + gains[ends > 25].mean()) / 2
    [by_statement] = metric("statement-attribution", model=engine).measure(items, responses)
    assert by_statement == pytest.approx(expected, abs=2e-4)


def test_what_does_not_fit_or_says_nothing_is_unscored(tiny: Checkpoint):
    items = [Item("1", contexts=("tower " * 600,)), Item("2", contexts=PASSAGES), Item("3")]
    values = metric("attribution", model=Engine(tiny)).measure(
        items, [Response(ANSWER), Response(""), Response(ANSWER)]
    )
    assert all(isinstance(value, Unscored) for value in values) and "the model takes" in str(values[0])
