"""Metrics of responses, judges, suites of tasks, and paired comparisons of their runs.

from lmworks.evaluate import Item, Response, compare_runs, compute, score
from lmworks.evaluate.registry import metric
compute("rouge-l", ["a cat sat"], ["the cat sat"])
values = metric("rouge-l").measure([Item("1", references=("the cat sat",))], [Response("a cat sat")])
"""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.evaluate.comparison import Comparison, assert_not_worse, compare_runs, compare_values
    from lmworks.evaluate.metric import Item, Metric, Response, score
    from lmworks.evaluate.registry import compute

__getattr__, __all__ = lazy_exports(__name__, __file__, called=True)
