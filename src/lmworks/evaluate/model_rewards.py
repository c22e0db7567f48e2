"""Rewards that models give, as metrics: of a completion, of each step of it, and ensembles of several.

    metric("reward-model", reward="judged")      # a folder that `lmworks align --method reward` made
    RewardSum({"both": 1.0}, {"both": ensemble("both", [model_reward("first", f), model_reward("second", g)], "min")})

A policy finds the errors of one reward model; the minimum over several, trained from other seeds, is what none of them
overrates (Coste et al. 2023, "Reward model ensembles help mitigate overoptimization").
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, item_value
from lmworks.evaluate.step_metrics import steps_of
from lmworks.generate.reward_scores import RewardModel
from lmworks.records import TextOrMessages, Unscored

Scores = Callable[[Sequence[TextOrMessages], Sequence[str]], Sequence[float]]  # prompts, completions -> a number each
# Prompts, the steps of each completion -> a number for each step
StepScores = Callable[[Sequence[TextOrMessages], Sequence[Sequence[str]]], Sequence[Sequence[float]]]
_REDUCE: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "mean": lambda scores: float(np.mean(scores)),
    "last": lambda scores: scores[-1],
}


def model_reward(name: str, function: Scores, signature: Mapping[str, Any] | None = None) -> Metric:
    """The scores of a function of prompts and completions; empty completions are unscored. ValueError for another
    number of scores than completions."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        asked = [(item.prompt, one.text) for item, one in zip(items, responses, strict=True) if one.text.strip()]
        found = function([prompt for prompt, _ in asked], [text for _, text in asked]) if asked else []
        if len(found) != len(asked):
            raise ValueError(f"{name} gave {len(found)} scores for {len(asked)} completions")
        scores = iter(found)
        return [float(next(scores)) if each.text.strip() else Unscored("the response is empty") for each in responses]

    return Metric(name, measure, signature=signature or {})


def reward_model(reward: RewardModel) -> Metric:
    """The score of a reward model, as `lmworks align --method reward` makes one, on the scale of what it learned from:
    of pairs, σ of a difference is the probability that the one is preferred."""

    def scores(prompts: Sequence[TextOrMessages], completions: Sequence[str]) -> Sequence[float]:
        return reward.score([*zip(prompts, completions, strict=True)]).tolist()

    return model_reward("reward-model", scores, {"reward": reward.fingerprint})


def process_reward(name: str, function: StepScores, reduce: Literal["min", "mean", "last"] = "min") -> Metric:
    """The scores of the steps of a completion (`steps_of`) as one number: the least, as a solution is as good as its
    worst step (Wang et al. 2024, "Math-Shepherd", section 3.4), their mean, or the last. A completion without steps is
    unscored. ValueError where not every step has a score."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        steps = [steps_of(one.text) for one in responses]
        asked = [place for place, each in enumerate(steps) if each]
        scores = function([items[place].prompt for place in asked], [steps[place] for place in asked]) if asked else []
        if [len(each) for each in scores] != [len(steps[place]) for place in asked]:
            raise ValueError(f"{name} gave not one score for each step")
        values: list[Value] = [Unscored("no steps")] * len(items)
        for place, each in zip(asked, scores, strict=True):
            values[place] = float(_REDUCE[reduce](each))
        return values

    return Metric(name, measure, signature={"reduce": reduce})


def process_model(reward: RewardModel, reduce: Literal["min", "mean", "last"] = "min") -> Metric:
    """The score of a reward model that learned from steps, of all steps as one number. Unscored where its length ends
    before the last step."""

    def scores(prompts: Sequence[TextOrMessages], solutions: Sequence[Sequence[str]]) -> list[list[float]]:
        found = [reward.steps(*each) for each in zip(prompts, solutions, strict=True)]
        return [(each + 0 * each.sum()).tolist() for each in found]  # all NaN where one is

    return process_reward("process-model", scores, reduce)


def ensemble(name: str, members: Sequence[Metric], reduce: Literal["mean", "min"] = "mean") -> Metric:
    """The mean or the minimum of metrics of one scale; unscored where a member is. ValueError without members."""
    if not members:
        raise ValueError(f"the ensemble {name} has no members")

    def reduced(*values: Value) -> Value:
        pairs = list(zip(members, values, strict=True))
        for member, value in pairs:
            if isinstance(value, Unscored):
                return Unscored(f"{member.name}: {value.reason}")
        return float(_REDUCE[reduce]([item_value(member, value) for member, value in pairs]))

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        return [*map(reduced, *(member.measure(items, responses) for member in members))]

    return Metric(name, measure, signature={"members": [member.name for member in members], "reduce": reduce})
