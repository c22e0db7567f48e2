"""A judge's probabilities against closed forms, its refusals, and the ways in which an endpoint is read."""

from dataclasses import replace

import numpy as np
import pytest

from judge_cases import PlantedEngine, yes_no
from kit.tables import for_each
from lmworks.evaluate.judge import Judge, Rubric, rubric
from lmworks.evaluate.metric import Item, Response, check_items
from lmworks.evaluate.registry import metric
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Capabilities, Completion, Timings, Token, UnsupportedError
from lmworks.generate.remote_engine import NoLogProbabilitiesError
from lmworks.model.checkpoint import assemble
from lmworks.records import Message, Unscored

SCALE = Rubric("scale", "Rate: {response}", {str(i): i for i in range(1, 6)})
PAIR = Rubric("pair", "Which? {prompt} A: {first} B: {second}", {"A": 1, "tie": 0.5, "B": 0})


def planted(rows: dict[str, dict[str, float]]) -> PlantedEngine:
    """By the last word of the prompt."""
    return PlantedEngine(lambda prompt: rows[prompt.split()[-1]])


def test_g_eval_is_the_probability_weighted_sum():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 5)) * 4 - 6
    engine = planted({f"r{i}": dict(zip("12345", row, strict=True)) for i, row in enumerate(logits.tolist())})
    judge = Judge(engine, SCALE)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = [{"response": f"r{i}"} for i in range(50)]
    items, responses = [Item(str(i)) for i in range(50)], [Response(row["response"]) for row in rows]
    values = metric("g-eval", judge=judge).measure(items, responses)
    assert np.abs(np.array(values) - expected @ np.arange(1, 6)).max() < 1e-12
    most = metric("judge", judge=judge).measure(items, responses)
    assert most == (expected.argmax(axis=1) + 1).tolist()
    found = judge.judgements(rows)
    assert np.abs(np.array([each.probabilities for each in found]) - expected).max() < 1e-12
    assert np.allclose([each.mass for each in found], np.exp(logits).sum(axis=1), rtol=1e-12, atol=0)


def test_no_order_of_verdicts_or_rows_and_no_batch_changes_a_value():
    generator = np.random.default_rng(1)
    minds = {f"r{i}": dict(zip("12345", row, strict=True)) for i, row in enumerate(generator.normal(size=(70, 5)))}
    rows = [{"response": f"r{i}"} for i in range(70)]
    whole = Judge(planted(minds), SCALE).judgements(rows)
    backwards = replace(SCALE, verdicts=dict(reversed(SCALE.verdicts.items())))
    assert backwards.hash == SCALE.hash
    other = Judge(planted(minds), backwards).judgements(rows[::-1])[::-1]
    alone = [Judge(planted(minds), SCALE).judgements([row])[0] for row in rows]
    assert alone == whole
    assert [each.verdict for each in other] == [each.verdict for each in whole]
    assert np.allclose([each.value for each in other], [each.value for each in whole], rtol=0, atol=1e-12)


def test_a_pair_is_judged_in_both_orders_and_averaged():
    """A judge that only ever prefers the first place knows nothing: the value is a tie, and the swap shows it."""
    first = Judge(PlantedEngine(lambda _: {"A": np.log(0.7), "tie": np.log(0.1), "B": np.log(0.2)}), PAIR)
    (found,) = first.judgements([{"prompt": "p", "first": "x", "second": "y"}])
    assert found.value == pytest.approx(0.5, abs=1e-12)
    assert found.probabilities == pytest.approx((0.45, 0.1, 0.45), abs=1e-12)
    assert found.preference == pytest.approx(0.75 - 0.5, abs=1e-12)
    assert found.consistent is False

    def good(prompt: str) -> dict[str, float]:
        a_is_good = prompt.index("good") < prompt.index("bad")
        return {"A": np.log(0.8 if a_is_good else 0.05), "tie": np.log(0.1), "B": np.log(0.1 if a_is_good else 0.85)}

    there, back = Judge(PlantedEngine(good), PAIR).judgements(
        [{"prompt": "p", "first": "good", "second": "bad"}, {"prompt": "p", "first": "bad", "second": "good"}]
    )
    assert there.consistent is back.consistent is True
    assert there.value == pytest.approx((0.85 + 0.9) / 2, abs=1e-12)
    assert there.value + back.value == pytest.approx(1, abs=1e-12)
    assert (there.verdict, back.verdict) == ("A", "B")
    ties = Judge(PlantedEngine(lambda _: {"A": -2.0, "tie": -0.1, "B": -2.5}), PAIR)
    assert ties.judgements([{"prompt": "p", "first": "x", "second": "y"}])[0].verdict == "tie"


@for_each(
    ("change", "named"),
    [
        ({"verdicts": {"1": 1, "10": 10}}, "'10'"),
        ({"verdicts": {"yes": 1}}, "two different"),
        ({"verdicts": {"yes": float("nan"), "no": 0}}, "finite"),
        ({"verdicts": {" yes": 1, "no": 0}}, "white space"),
        ({"prompt": "no field"}, "{response}"),
        ({"prompt": "{first} {second}", "verdicts": {"A": 2, "B": 1, "C": 0.5}}, "mirror"),
        ({"prompt": "{first} {second}", "verdicts": {"A": 1, "T": 0.5, "U": 0.5, "B": 0}}, "mirror"),
        ({"paraphrases": ("{response} {context}",)}, "a paraphrase has other fields"),
    ],
)
def test_a_rubric_that_cannot_judge_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        replace(SCALE, **change)


def test_verdicts_with_one_first_token_are_refused_and_shared_white_space_is_not():
    same = Rubric("same", "{response}", {"supported": 1, "sound": 0.5, "unclear": 0})
    with pytest.raises(ValueError, match=r"'supported' and 'sound'.*'s'"):
        Judge(PlantedEngine(lambda _: {}), same)
    Judge(PlantedEngine(lambda _: {}), SCALE)  # " 1" to " 5" all begin with the space's token


def test_rows_without_a_field_or_a_reference_are_refused_before_a_score():
    engine = PlantedEngine(lambda _: yes_no(1))
    judge = Judge(engine, Rubric("r", "{reference} {response}", {"yes": 1, "no": 0}))
    with pytest.raises(ValueError, match="row 2 has no text reference"):
        judge.judgements([{"reference": "x", "response": ""}, {"response": "y"}])
    with pytest.raises(ValueError, match="row 1 has an empty reference"):
        judge.judgements([{"reference": " ", "response": "y"}])
    with pytest.raises(ValueError, match=r"row 1 \(i\) has no references"):
        check_items(metric("judge", judge=judge), [Item("i", "p")])
    assert engine.scored == 0


def test_a_field_in_a_text_stays_a_text():
    judge = Judge(PlantedEngine(lambda prompt: yes_no(5 if prompt == "a {prompt} b" else -5)),
                  Rubric("r", "{prompt} {response}", {"yes": 1, "no": 0}))  # fmt: skip
    assert judge.judgements([{"prompt": "a", "response": "{prompt} b"}])[0].verdict == "yes"


@for_each("name", ["truthfulness", "quality"])
def test_real_engine_agrees_with_scores_of_whole_answers(tiny, name):
    """ln p of "VERDICT<|im_end|>" after the chat prompt, as the engine scores the template's own rendering."""
    config = replace(tiny.config, context_length=4096)
    checkpoint = assemble(config, tiny.model.state_dict(), tiny.tokenizer, tiny.chat_template)
    engine, by = Engine(checkpoint, weights="float32"), rubric(name)
    judge = Judge(engine, by)
    row = dict.fromkeys(by.fields, "Rain falls from clouds.") | {"prompt": "What is rain?"}
    prompt = checkpoint.chat.render([Message("user", by.render(row))], add_generation_prompt=True)
    text = checkpoint.required_tokenizer
    tails = [[*text.encode(verdict), text.special_ids["<|im_end|>"]] for verdict in by.verdicts]
    totals = np.array([score.total for score in engine.score([prompt.ids] * len(tails), tails)])
    expected = np.exp(totals) / np.exp(totals).sum()
    rows = [row, {name: f"{text} Indeed." for name, text in row.items()}]
    found = judge.judgements(rows)
    assert np.allclose(found[0].probabilities, expected, rtol=0, atol=1e-12)
    assert found == judge.judgements(rows[::-1])[::-1]


def test_a_row_that_is_too_long_is_unscored_and_said_so(tiny):
    engine = Engine(tiny, context_length=64)
    judge = Judge(engine, Rubric("r", "{response}", {"yes": 1, "no": 0}))
    short, long = judge.judgements([{"response": "a"}, {"response": "a" * 100}])
    assert not isinstance(short, Unscored)
    assert isinstance(long, Unscored) and "at most" in long.reason


class Endpoint:
    """An endpoint that names the most probable first tokens, or nothing."""

    url, model = "http://localhost:1/v1", "m"
    capabilities = Capabilities(True, False, True, False, False, False, context_length=None)

    def __init__(self, alternatives: list[tuple[str, float]] | None) -> None:
        self.alternatives = alternatives

    def generate(self, requests):
        if self.alternatives is None:
            raise NoLogProbabilitiesError("none")
        tokens = (Token(None, "x", -1.0, tuple((None, text, np.log(p)) for text, p in self.alternatives)),)
        return [Completion("", "x", None, None, None, "length", None, 1, 1, 0, Timings(None, None, 0), tokens)
                for _ in requests]  # fmt: skip


def test_an_endpoint_is_read_at_the_first_place_and_says_so():
    by = Rubric("r", "{response}", {"yes": 1, "no": 0})
    judge = Judge(Endpoint([("yes", 0.5), (" yes", 0.1), ("no", 0.2), ("Well", 0.1), ("", 0.05)]), by)
    (found,) = judge.judgements([{"response": "a"}])
    assert found.value == pytest.approx(0.75, abs=1e-12) and found.mass == pytest.approx(0.8, abs=1e-12)
    assert "first place" in judge.signature["reading"]
    assert Judge(Endpoint([("yes", 0.5)]), by).judgements([{"response": "a"}])[0].value == 1.0
    lost = Judge(Endpoint([("Well", 0.5)]), by)
    assert isinstance(lost.judgements([{"response": "a"}])[0], Unscored)
    with pytest.raises(UnsupportedError, match="top_logprobs"):
        Judge(Endpoint(None), by).judgements([{"response": "a"}])
