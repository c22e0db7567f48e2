"""Rewards that models give, as metrics: of a completion, of each step of it, and ensembles of several.

    metric("reward-model", reward="judged")      # a folder that `lmworks align --method reward` made
    RewardSum({"both": 1.0}, {"both": ensemble("both", [reward_model(first), reward_model(second)], "min")})

A policy finds the errors of one reward model; the minimum over several, trained from other seeds, is what none of them
overrates (Coste et al. 2023, "Reward model ensembles help mitigate overoptimization").
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from lmworks.evaluate.metric import Item, Metric, Response, Value, each, item_value
from lmworks.evaluate.step_metrics import steps_of
from lmworks.generate.reward_scores import RewardModel
from lmworks.records import Unscored

Reduce = Literal["min", "mean", "last"]
_REDUCE: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "mean": lambda scores: float(np.mean(scores)),
    "last": lambda scores: scores[-1],
}


def reward_model(reward: RewardModel) -> Metric:
    """The score of a reward model, as `lmworks align --method reward` makes one, on the scale of what it learned from:
    of pairs, σ of a difference is the probability that the one is preferred. Empty completions are unscored."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        asked = [(item.prompt, given.text) for item, given in zip(items, responses, strict=True) if given.text.strip()]
        scores = iter(reward.score(asked).tolist() if asked else [])
        return [next(scores) if given.text.strip() else Unscored("the response is empty") for given in responses]

    return Metric("reward-model", measure, signature={"reward": reward.fingerprint})


def process_model(reward: RewardModel, reduce: Reduce = "min") -> Metric:
    """The scores of a reward model that learned from steps (`steps_of`) as one number: the least, as a solution is as
    good as its worst step (Wang et al. 2024, "Math-Shepherd", section 3.4), their mean, or the last. A completion
    without steps is unscored, and one that is longer than the model was made for."""

    def value(item: Item, response: Response) -> Value:
        if not (steps := steps_of(response.text)):
            return Unscored("no steps")
        scores = reward.steps(item.prompt, steps)
        if not np.isfinite(scores).all():
            return Unscored("it is longer than the reward model reads")
        return float(_REDUCE[reduce](scores.tolist()))

    return Metric("process-model", each(value), signature={"reward": reward.fingerprint, "reduce": reduce})


def ensemble(name: str, members: Sequence[Metric], reduce: Literal["mean", "min"] = "mean") -> Metric:
    """The mean or the minimum of metrics of one scale; unscored where a member is. ValueError without members."""
    if not members:
        raise ValueError(f"the ensemble {name} has no members")

    def reduced(*values: Value) -> Value:
        for member, value in zip(members, values, strict=True):
            if isinstance(value, Unscored):
                return Unscored(f"{member.name}: {value.reason}")
        return float(_REDUCE[reduce]([item_value(*pair) for pair in zip(members, values, strict=True)]))

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        return [*map(reduced, *(member.measure(items, responses) for member in members))]

    return Metric(name, measure, signature={"members": [member.name for member in members], "reduce": reduce})
