"""The table of metrics: one for reports, suites, prompt tests, experiments and drift.

`metric("rouge-l")`, `metric("recall@5")`, `metric("bertscore", encoder=encoder)`.
"""

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lmworks.evaluate.metric import Metric, Role


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric of the table: `make` ("module:function", imported on use) takes the `roles` by keyword, and `k` where
    the name ends with `@k`."""

    make: str
    purpose: str
    roles: tuple[Role, ...] = ()


METRICS: dict[str, Entry] = {
    "judge": Entry("lmworks.evaluate.judge:judge_metric", "the verdict of a judge by its rubric", ("judge",)),
    "g-eval": Entry("lmworks.evaluate.judge:g_eval", "the expected verdict of a judge, sum of p(s) s", ("judge",)),
}


def metric(name: str, **roles: Any) -> Metric:
    """The metric of this name, with the models that it needs: `metric("bertscore", encoder=...)`.

    Raises LookupError for an unknown name, with the nearest ones, and ValueError where a role is missing.
    """
    base, _, k = name.partition("@")
    key = f"{base}@k" if k else base
    if key not in METRICS:
        near = difflib.get_close_matches(key, METRICS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(METRICS)}"
        raise LookupError(f"no metric is called {name!r}; {hint}")
    if k and not (k.isdecimal() and int(k)):
        raise LookupError(f"{name!r}: behind the @ stands a whole number from 1, such as {base}@5")
    entry = METRICS[key]
    if missing := [role for role in entry.roles if roles.get(role) is None]:
        raise ValueError(f"{name} needs a model in the role {missing[0]}: metric({name!r}, {missing[0]}=...)")
    module, _, function = entry.make.partition(":")
    options: dict[str, Any] = {role: roles[role] for role in entry.roles} | ({"k": int(k)} if k else {})
    return getattr(import_module(module), function)(**options)
