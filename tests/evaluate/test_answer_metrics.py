"""Answers to questions: relevance by words in common, and a planted sensitivity to noise."""

import pytest

from lmworks.evaluate.answer_metrics import noise_sensitivity
from lmworks.evaluate.metric import Item, Metric, Response, each
from lmworks.evaluate.registry import metric
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Scored, Unscored


def test_an_answer_is_relevant_that_says_what_was_asked(tiny_embedder: Checkpoint):
    items = [Item(str(n), "How many days of leave does an employee have?") for n in range(3)]
    said = [Response("An employee has twenty-eight days of leave."), Response("Hotels are paid."), Response("")]
    near, far, none = metric("answer-relevance", encoder=TextEncoder(tiny_embedder)).measure(items, said)
    assert 0 < far < near <= 1 and isinstance(none, Unscored)  # type: ignore[operator]


def test_the_effect_of_noise_is_paired_and_has_its_own_passages_left_out():
    items = [Item(str(n), f"question {n}", contexts=(f"passage {n}", f"other {n}")) for n in range(40)]
    noise = [text for item in items for text in item.contexts]
    seen: list[tuple[str, ...]] = []

    def answer(question: str, passages) -> Response:
        """Right but where there are more than two passages and the question is odd; silent on every tenth."""
        number = int(question.split()[1])
        seen.append(tuple(passages))
        wrong = len(passages) > 2 and number % 2
        return Response("" if number % 10 == 0 else "wrong" if wrong else next(p for p in passages if p in own(number)))

    def own(number: int) -> tuple[str, ...]:
        return (f"passage {number}",)

    right = Metric("right", each(lambda item, one: float(one.text in own(int(item.id))) if one.text else Unscored("-")))
    found = noise_sensitivity(answer, items, noise, right, k=3)
    clean, noisy, difference = found.clean, found.noisy, found.difference
    assert isinstance(clean, Scored) and isinstance(noisy, Scored) and isinstance(difference, Scored)
    assert (clean.value, noisy.value) == (1.0, pytest.approx(16 / 36)) and difference.value == pytest.approx(-20 / 36)
    assert difference.n == 36 and difference.interval[1] < 0
    for item, passages in zip(items, seen[40:], strict=True):
        assert len(set(passages)) == 5 and set(item.contexts) <= set(passages) and set(passages) <= set(noise)
    assert len({passages.index(item.contexts[0]) for item, passages in zip(items, seen[40:], strict=True)}) > 2
    with pytest.raises(ValueError, match=r"row 1 \(0\): 78 irrelevant passages, 100 are needed"):
        noise_sensitivity(answer, items, noise, right, k=100)
