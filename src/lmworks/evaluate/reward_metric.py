"""The score of a reward model as a metric, and so as a reward.

metric("reward-model", reward="judged")      # a folder that `lmworks align --method reward` made
"""

from collections.abc import Sequence

from lmworks.evaluate.metric import Item, Metric, Response, Value
from lmworks.generate.reward_scores import RewardModel
from lmworks.records import TextOrMessages, Unscored


def reward_model(reward: RewardModel) -> Metric:
    """The score of each response to the prompt of its item, on the scale of what the reward model learned from: of
    pairs, σ of a difference is the probability that the one is preferred."""

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        answers: list[tuple[TextOrMessages, TextOrMessages]] = [
            (item.prompt, response.text)
            for item, response in zip(items, responses, strict=True)
            if response.text.strip()
        ]
        scores = iter(reward.score(answers).tolist() if answers else [])
        return [next(scores) if each.text.strip() else Unscored("the response is empty") for each in responses]

    return Metric("reward-model", measure, signature={"reward": reward.fingerprint})
