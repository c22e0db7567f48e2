"""pass@k: the probability that one of k programs passes the tests of its problem (Chen et al. 2021)."""

from collections.abc import Sequence
from math import comb

from lmworks.evaluate.code_sandbox import Limits, run_programs
from lmworks.evaluate.metric import Item, Metric, Response, Value
from lmworks.records import Unscored

LIMITS = Limits()


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
            if len(texts) >= k
            for text in texts
        ]
        problems = iter(run_programs(programs, LIMITS))
        values: list[Value] = []
        for texts in drawn:
            if len(texts) < k:
                values.append(Unscored(f"pass@{k} needs {k} samples of each item, got {len(texts)}"))
            else:
                values.append(unbiased_pass_at_k(len(texts), sum(not next(problems) for _ in texts), k))
        return values

    limits = {"seconds": LIMITS.seconds, "memory": LIMITS.memory}
    return Metric(f"pass@{k}", measure, proportion=k == 1, signature=limits)
