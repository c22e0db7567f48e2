"""Rewards: sums of named parts, and verifiers that fail or hang."""

import contextlib
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.align.rewards import RewardSum, items_of
from lmworks.config import parse_assignment
from lmworks.data.training_rows import parse_preference_row, row_columns
from lmworks.evaluate import verifier_metrics
from lmworks.evaluate.code_sandbox import run_programs
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.model_rewards import ensemble, process_model, reward_model
from lmworks.records import Message, Unscored, Verifiable

HANGS = ("(a|aa)+$", "a" * 60 + "b")  # an expression and a text that Python's `re` needs years for


def test_a_sum_has_named_parts_and_a_weight_of_zero_reports():
    rows = [Verifiable("2+2", "4", "final-answer"), Verifiable("a word", "^w", "regex")]
    with RewardSum({"verifier": 1.0, "format": 0.25, "length": 0.0}) as reward:
        items = items_of(rows)
        reward.check(items)
        assert reward(items, [Response("4"), Response("no word")]) == [1.0, 0.0]
        assert reward.parts["verifier"] == [1.0, 0.0]
        found = reward(items, [Response("<think>two and two</think>\nAnswer: 4"), Response("word")])
    assert found == [1.25, 1.0]
    assert reward.parts == {"verifier": [1.0, 1.0], "format": [1.0, 0.0], "length": [7.0, 1.0]}


def test_a_verifier_that_raises_or_hangs_leaves_a_response_unscored():
    pattern, text = HANGS
    items = items_of([Verifiable("", pattern, "regex"), Verifiable("", "b$", "regex"), Verifiable("", "(", "regex")])
    with RewardSum({"verifier": 1.0, "align.own_rewards:unsteady": 2.0, "length": 0.0}, seconds=0.5) as reward:
        reward([items[1]], [Response("b")])  # the process has started
        began = time.monotonic()
        hung, good, broken = reward(items, [Response(text)] * 3)
        raised, no_number, fine = reward([items[1]] * 3, [Response(one) for one in ("raise", "nan", "b")])
    assert time.monotonic() - began < 60
    assert hung == Unscored("verifier: the verifier took longer than 0.5 s")
    assert isinstance(broken, Unscored) and "not a regular expression" in broken.reason
    assert isinstance(raised, Unscored) and "ZeroDivisionError" in raised.reason
    assert isinstance(no_number, Unscored)
    assert good == fine == 2.0


def test_programs_that_hang_score_nothing_in_about_their_own_limit(monkeypatch):
    monkeypatch.setattr(verifier_metrics, "run_programs", partial(run_programs, seconds=1.0))
    tests = tuple(f"import time; time.sleep(60 + {n})" for n in range(2))
    items = [Item("", references=(*tests, "assert f() == 1"), fields={"verifier": "unit-tests"})] * 2
    began = time.monotonic()
    with RewardSum({"verifier": 1.0}, seconds=0.25) as reward:
        assert reward(items, [Response("f = lambda: 1"), Response("while True: pass")]) == [1 / 3, 0.0]
    assert time.monotonic() - began < 60


def test_further_columns_of_a_row_reach_its_verifier():
    followed = {"prompt": "Say it without commas", "verifier": "ifeval-prompt-strict"}
    followed |= {"instructions": ["punctuation:no_comma"], "arguments": [{}]}
    own = {"prompt": "What is there?", "verifier": "align.own_rewards:in_stock", "stock": ["tea", "milk"]}
    rows: list[Any] = [parse_preference_row(each, "rows 1") for each in (followed, own)]
    assert [parse_preference_row(row_columns(row), "rows 2") for row in rows] == rows
    items = items_of(rows)
    with RewardSum({"verifier": 1.0}) as reward:
        reward.check(items)
        assert reward(items * 2, list(map(Response, ["no comma", "tea", "a, comma", "salt"]))) == [1, 1, 0, 0]
        with pytest.raises(ValueError, match=r"row 1.*fields\.instructions"):
            reward.check(items_of([Verifiable("", "", "ifeval-prompt-strict")]))
    with pytest.raises(ValueError, match="chosen"):
        parse_preference_row({"prompt": "p", "rejected": "r"}, "rows 1")
    asked, said = {"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}
    with pytest.raises(ValueError, match="cut the prompt's messages"):  # or the prompt would be learned, too
        parse_preference_row({"prompt": [asked], "completion": [asked, said], "label": True}, "rows 1")


def test_rows_and_names_are_refused_before_the_first_step():
    with pytest.raises(LookupError, match="did you mean"):
        RewardSum({"final-anser": 1.0})
    with pytest.raises(LookupError, match="no verifier"):
        RewardSum({"lmworks.align.rewards:none": 1.0})
    with pytest.raises(ValueError, match="needs a model"):
        RewardSum({"bertscore": 1.0})
    with pytest.raises(ValueError, match="one other than 0"):
        RewardSum({"format": 0.0})
    with RewardSum({"verifier": 1.0}) as reward:
        with pytest.raises(ValueError, match=r"^row 2 \(2\) has no references"):
            reward.check(items_of([Verifiable("", "a", "regex"), Verifiable("", "", "regex")]))
        with pytest.raises(ValueError, match=r"row 1.*no metric"):
            reward.check(items_of([Verifiable("", "a", "regexp")]))


class Lengths:
    """A reward model whose scores are lengths of texts."""

    fingerprint = "lengths"

    def score(self, answers):
        return np.array([float(len(text)) for _, text in answers])

    def steps(self, prompt, steps):
        return np.array([float(len(step)) for step in steps])


def test_ensembles_and_steps_of_models():
    items, responses = [Item("1"), Item("2"), Item("3")], [Response("ab\nabcd"), Response("Answer: 1"), Response(" ")]
    process, whole = process_model(Lengths()), reward_model(Lengths())
    assert process.measure(items, responses) == [2.0, Unscored("no steps"), Unscored("no steps")]
    assert process_model(Lengths(), "last").measure(items, responses)[0] == 4.0
    assert whole.measure(items, responses) == [7.0, 9.0, Unscored("the response is empty")]
    both = ensemble("both", [whole, process], "min")
    assert both.measure(items, responses)[:2] == [2.0, Unscored("process-model: no steps")]
    assert ensemble("mean", [whole, process]).measure(items, responses)[0] == 4.5
    with RewardSum({"both": 2.0}, {"both": both}) as reward:
        assert reward(items, responses)[:2] == [4.0, Unscored("both: process-model: no steps")]


OWN = """
def one(item, response):
    return float(response.text == item.references[0])

def lists(prompts, completions, answer, level, **columns):
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    roles = [p if isinstance(p, str) else p[-1]["role"] for p in prompts]
    rows = zip(texts, answer, level, roles)
    return [None if l == 0 else len(texts) * (t == a) + (r == "user") for t, a, l, r in rows]

def lonely(response): return 1.0
def short(prompts, completions, **columns): return [1.0]
def words(prompts, completions): return ["good"] * len(completions)
def word(item, response): return "good"
"""


def test_a_reward_by_path_is_of_one_item_or_of_lists_as_trl_has_them(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir("/")
    asked = (Message("user", "2+2"),)
    rows = [
        Verifiable(prompt, "4", "", fields={"level": level}) for prompt, level in (("2+2", 1), (asked, 1), ("2", 0))
    ]
    with RewardSum({"mine.py:one": 1.0, "mine.py:lists": 0.0}, base=tmp_path) as reward:
        reward.check(items_of(rows))
        assert reward(items_of(rows), [Response("4"), Response("4"), Response("5")]) == [1, 1, 0]
        three, four, none = reward.parts["mine.py:lists"]
    assert (three, four) == (3, 4) and isinstance(none, Unscored)


@for_each("name", ["lonely", "short", "words", "word", "absent"])
def test_a_reward_of_another_shape_is_refused_before_anything_is_sampled(name, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    items = items_of([Verifiable("a", "4", ""), Verifiable("b", "4", "")])
    with pytest.raises((ValueError, LookupError), match=f"mine.py:{name}"), contextlib.ExitStack() as stack:
        stack.enter_context(RewardSum({f"mine.py:{name}": 1.0}, base=tmp_path)).check(items)


def test_a_reward_by_path_on_a_command_line():
    path, weight = parse_assignment('rewards."my.rewards.py:score"=0.5')
    assert (path, weight) == (("rewards", "my.rewards.py:score"), 0.5)
