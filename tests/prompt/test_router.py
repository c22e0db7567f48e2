"""Routing: rules with reasons, a learned router against the best possible one, a cascade, and what is refused."""

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.config import ConfigError
from lmworks.prompt.prompt_file import parse_prompt
from lmworks.prompt.router import LearnedRouter, Router, Rule, Target, confidence_features, read_router, routed_prompt
from lmworks.prompt.router_fit import RoutedCases, dry_run, fit_router, logged_cases
from lmworks.records import QUERY_ENCODER, Feedback, Interaction, Message
from lmworks.statistics.logistic_regression import Logistic

ROUTER = """
name = "auto"
fallback = "large"
[targets.small]
model = "s"
[targets.large]
model = "l"
[[rules]]
target = "large"
why = "tracebacks are hard"
contains = ["traceback"]
[[rules]]
target = "small"
why = "greetings"
pattern = "^(hi|hello)\\\\b"
shorter_than = 20
"""


def asked(*texts):
    return [Message("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(texts)]


@pytest.fixture
def router(tmp_path):
    (tmp_path / "auto.toml").write_text(ROUTER, "utf-8")
    return read_router(tmp_path / "auto.toml")


def test_rules_come_first_and_every_decision_has_its_reason(router):
    for texts, target, reason in (
        (["A Traceback of mine"], "large", "rule 1: tracebacks are hard"),
        (["hello there"], "small", "rule 2: greetings"),
        (["hello there, a long question follows"], "large", "fallback: no rule holds"),
        (["traceback", "I see", "hi"], "small", "rule 2: greetings"),  # the last question counts
    ):
        decision = router.decide(asked(*texts))
        assert (decision.target, decision.reason) == (target, reason)


@for_each(("old", "new", "names"), [
    ('fallback = "large"\n', "", "no fallback: add fallback"), ('target = "large"', 'target = "huge"', "huge"),
    ('contains = ["traceback"]', "", "nothing that must hold"), ("^(hi", "^((hi", "regular expression"),
    ('model = "l"', 'model = "l"\nspeed = 3', "speed"),
])  # fmt: skip
def test_a_router_that_cannot_decide_is_refused(old, new, names, tmp_path):
    path = tmp_path / "auto.toml"
    path.write_text(ROUTER.replace(old, new), "utf-8")
    with pytest.raises(ConfigError, match=names):
        read_router(path)


def cases(informative, n=4000, seed=0):
    """The small one is right with 0.95 where the first feature is positive, else with 0.05; the large one with 0.95."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, 8))
    easy = (features[:, 0] if informative else generator.normal(size=n)) > 0
    small = generator.random(n) < np.where(easy, 0.95, 0.05)
    large = generator.random(n) < 0.95
    outcomes = {"small": small.astype(float), "large": large.astype(float)}
    return RoutedCases(tuple(map(str, range(n))), features, outcomes, {"small": 1.0, "large": 10.0})


def test_a_learned_router_is_as_good_as_the_best_one_that_there_can_be():
    """Half of the questions need the large one: the cost is 5.5 and nothing is lost; chance would lose 0.225."""
    found = fit_router(cases(informative=True))
    assert found.cost == pytest.approx(5.5, abs=0.6) and found.imputed == 0
    low, high = found.against["large"].interval
    assert low < 0.01 and high > -0.01 and low > -0.04
    assert found.mixture.value == pytest.approx(0.225, abs=0.04)
    costs = [cost for _, _, cost in found.curve]
    assert costs == sorted(costs, reverse=True) and costs[-1] == 1.0
    cheap = fit_router(cases(informative=True), goal="cost", budget=3.0)
    assert cheap.cost < 3.3 and cheap.quality.value == pytest.approx(0.5 + 0.45 * 2 / 4.5, abs=0.06)
    with pytest.raises(ValueError, match="cheapest costs 1"):
        fit_router(cases(informative=True), goal="cost", budget=0.5)


def test_features_that_say_nothing_give_no_gain_over_chance():
    found = fit_router(cases(informative=False), goal="cost", budget=5.5)
    assert found.mixture.interval[0] < 0.03 and abs(found.mixture.value) < 0.05


def test_a_cascade_pays_for_its_first_answer_and_stops_where_it_is_sure():
    generator = np.random.default_rng(1)
    n = 3000
    sure = generator.random(n) < 0.6
    answers = [list(np.log(generator.uniform(0.8, 1.0, 5) if one else generator.uniform(0.2, 0.5, 5))) for one in sure]
    right = (generator.random(n) < np.where(sure, 0.98, 0.1)).astype(float)
    outcomes = {"small": right, "large": (generator.random(n) < 0.97).astype(float)}
    rows = RoutedCases(tuple(map(str, range(n))), confidence_features(answers), outcomes, {"small": 1.0, "large": 8.0})
    found = fit_router(rows, "cascade", margin=0.02)
    assert found.cost == pytest.approx(1 + 0.4 * 8, abs=0.4) and found.against["large"].value > -0.04
    made = Router("c", {"small": Target("s"), "large": Target("l")}, "large", learned=found.router)
    assert made.decide(asked("anything")).target == "small"
    assert made.confident(answers[int(np.argmax(sure))]).target == "small"
    assert made.confident(answers[int(np.argmin(sure))]).target == "large"


def test_too_few_outcomes_are_refused():
    with pytest.raises(ValueError, match="20 of each"):
        fit_router(cases(informative=True, n=60))


def test_a_router_of_another_encoder_is_refused_and_a_question_without_a_vector_falls_back(router, tmp_path):
    from lmworks.artefact import write_json

    model = Logistic(("0",), (0.0,), (1.0,), (3.0,), 0.0)
    other = Logistic(("0",), (0.0,), (1.0,), (0.0,), 1.0)
    learned = LearnedRouter("query", {"small": model, "large": other}, {"small": 1.0, "large": 2.0}, 0.1, "e1")
    write_json(tmp_path / "auto.json", learned)
    with pytest.raises(ValueError, match="another embedding model"):
        read_router(tmp_path / "auto.toml", "e2")
    again = read_router(tmp_path / "auto.toml", "e1")
    assert again.learned == learned and again.decide(asked("what")).reason == "fallback: the question has no vector"
    decision = again.decide(asked("what"), [2.0])
    assert decision.target == "small" and decision.probability == pytest.approx(1 / (1 + np.exp(-6)))
    assert again.decide(asked("what"), [-2.0]).target == "large"


def test_the_log_gives_outcomes_and_a_dry_run(router):
    def logged(number, target, thumb, encoder="e"):
        feedback = (Feedback(str(number), 1.0, "thumbs", thumb),) if thumb else ()
        return Interaction(
            str(number), 0.0, tuple(asked("hello" if number % 2 else "what")), "yes", query_embedding=(float(number),),
            lineage={QUERY_ENCODER: encoder}, decision={"target": target} if target else {}, route="s",
            feedback=feedback, input_tokens=10, output_tokens=number,
        )  # fmt: skip

    rows = [logged(0, "large", "up"), logged(1, "large", "down"), logged(2, "", "up"), logged(3, "small", None),
            logged(4, "small", "up", "other")]  # fmt: skip
    found = logged_cases(rows, router, "e")
    assert found.ids == ("0", "1", "2") and found.costs == {"small": 12.0, "large": 10.5}
    np.testing.assert_array_equal(found.outcomes["large"], [1, 0, np.nan])
    assert [(target, reason.split(":")[0]) for _, target, reason in dry_run(rows, router)] == [
        ("large", "fallback"), ("small", "rule 2"), ("large", "fallback"), ("small", "rule 2"), ("large", "fallback"),
    ]  # fmt: skip


def test_a_routed_prompt_takes_the_last_message_and_keeps_the_turns_before_it():
    prompt = parse_prompt('name = "p"\ninstruction = "Be {tone}."\ninput = "Q: {q}"\n[slots.q]\n[slots.tone]\n'
                          'default = "kind"\n', "p")  # fmt: skip
    messages = [Message("system", "Obey."), *asked("one", "two", "three")]
    filled = routed_prompt(prompt, messages)
    assert [one.content for one in filled.messages] == ["Be kind.", "one", "two", "Q: three"]
    with pytest.raises(ValueError, match="one without a default"):
        routed_prompt(parse_prompt('name = "p"\ninput = "{a} {b}"\n[slots.a]\n[slots.b]\n', "p"), messages)


def test_a_rule_needs_all_that_it_names():
    rule = Rule("t", "w", contains=("a",), longer_than=3, turns=2)
    assert rule.holds(asked("x", "y", "a long one")) and not rule.holds(asked("a long one"))
    assert not rule.holds(asked("x", "y", "a"))
