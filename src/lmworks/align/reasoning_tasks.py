"""Tasks of reasoning-gym by name, as rows whose answers a program checks (Stojanovski et al. 2025; extra `reasoning`).

    test = reasoning_rows("chain_sum", 500, split="test", max_terms=2, max_digits=2)

The library draws its item i from the seed s + i, so that neighbouring seeds share items: the splits begin far apart
here, though a task with few items may still have some in both. Its own score gives some credit to an answer that holds
the right one; here an answer is right or wrong.
"""

import json
from typing import Any, Literal

from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.verifier_metrics import final_answer
from lmworks.records import Provenance, Verifiable

_STARTS = {"train": 0, "test": 2**31}
_STRIDE = 2**20  # items at most, of one seed
OWN_CHECK = "lmworks.align.reasoning_tasks:solved"


def reasoning_rows(
    name: str, size: int, split: Literal["train", "test"] = "train", seed: int = 0, own_check: bool = False,
    **settings: Any,
) -> list[Verifiable]:  # fmt: skip
    """The first `size` items of a task, each once, with the verifier `final-answer`.

    own_check  for tasks with several right answers, such as `countdown`: the row's answer is the item as JSON, and its
               verifier `solved` asks the library.
    settings   of the task, such as `max_terms`.

    LookupError for a task that there is none of, ValueError for settings that it refuses.
    """
    from reasoning_gym.factory import DATASETS, create_dataset  # pyright: ignore[reportMissingImports]

    if name not in DATASETS:
        raise LookupError(f"reasoning-gym has no task {name!r}; it has {', '.join(sorted(DATASETS))}")
    first = _STARTS[split] + seed * _STRIDE
    try:
        dataset = create_dataset(name, size=size, seed=first, **settings)
    except (AssertionError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None
    rows = []
    for number, entry in enumerate(dataset):
        answer = json.dumps({"name": name, "entry": entry}, default=str) if own_check else str(entry["answer"])
        source = Provenance(f"reasoning-gym/{name}/{first + number}")
        rows.append(Verifiable(entry["question"], answer, OWN_CHECK if own_check else "final-answer", source))
    return list({row.prompt: row for row in rows}.values())


def solved(item: Item, response: Response) -> float:
    """1 where the library gives full credit to the final answer, else 0."""
    from reasoning_gym.factory import get_score_answer_fn  # pyright: ignore[reportMissingImports]

    row = json.loads(item.references[0])
    score: Any = get_score_answer_fn(row["name"])
    return float(score(answer=final_answer(response.text), entry=row["entry"]) >= 1.0)
