"""pass@k: the probability that one of k programs passes the tests of its problem (Chen et al. 2021)."""

from collections.abc import Sequence
from math import comb

from lmworks.evaluate.code_sandbox import MOST_MEMORY, SECONDS, run_programs
from lmworks.evaluate.metric import Item, Metric, Response, Value
from lmworks.records import Unscored


def unbiased_pass_at_k(n: int, passed: int, k: int) -> float:
    """1 - C(n - passed, k) / C(n, k): the share of all choices of k among n programs in which one passes."""
    return 1.0 - comb(n - passed, k) / comb(n, k)


def pass_at_k(k: int) -> Metric:
    """pass@k of items with `test` and `entry_point` in their fields, as HumanEval has them: a program is the prompt,
    the response, the test, and its call, run in `code_sandbox`. Samples are counted where there are any, else the text.
    """

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        drawn = [response.samples or (response.text,) for response in responses]
        programs = [
            f"{item.prompt}{text}\n{item.fields['test']}\ncheck({item.fields['entry_point']})\n"
            for item, texts in zip(items, drawn, strict=True)
            for text in texts
        ]
        problems = iter(run_programs(programs))
        few = Unscored(f"pass@{k} needs {k} samples of each item")
        counts = [(len(texts), sum(not next(problems) for _ in texts)) for texts in drawn]
        return [unbiased_pass_at_k(n, passed, k) if n >= k else few for n, passed in counts]

    limits = {"seconds": SECONDS, "memory": MOST_MEMORY}
    return Metric(f"pass@{k}", measure, proportion=True, signature=limits)
