"""Variants of a prompt that mean the same: its score should not depend on which of them is asked.

Sources: Sclar et al. 2024, "Quantifying Language Models' Sensitivity to Spurious Features in Prompt Design" (the spread
between the best and the worst form); Lu et al. 2022, "Fantastically Ordered Prompts" (the order of examples).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lmworks.prompt.config import Prompt
from lmworks.prompt.prompt_grid import Grid, Variant
from lmworks.records import Scored

KINDS = ("form", "wording", "order")
# Changes of the form alone, of the instruction and of what is said of the format.
FORMS: Mapping[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "no last stop": lambda text: text.rstrip().rstrip("."),
    "one line": lambda text: " ".join(text.split()),
    "please": lambda text: f"Please: {text}",
    "heading": lambda text: f"### Task\n\n{text}",
}


@dataclass(frozen=True, slots=True)
class Spread:
    """The scores of one metric on one model over variants of a kind; `worst` and `best` name two of them."""

    kind: str
    model: str
    metric: str
    variants: int
    low: float
    high: float
    worst: str
    best: str

    def __str__(self) -> str:
        where = f"{self.low:.3f} ({self.worst}) to {self.high:.3f} ({self.best})"
        return f"{self.model}, {self.metric}: {self.kind} moves it by {self.high - self.low:.3f}, from {where}"


def sensitivity_variants(
    prompt: Prompt, paraphrases: Sequence[str] = (), orders: int = 4, seed: int = 0
) -> list[Variant]:
    """Its instruction in other forms and in the `paraphrases`, which may be in another language; and its examples in so
    many other orders. Those that change nothing are left out."""
    made: dict[str, Prompt] = {}
    for name, change in FORMS.items():
        made[f"form: {name}"] = replace(prompt, instruction=change(prompt.instruction))
    for number, text in enumerate(paraphrases, 1):
        made[f"wording: {number}"] = replace(prompt, instruction=text)
    generator, rows = random.Random(seed), prompt.examples.rows
    for number in range(1, orders + 1):
        shuffled = replace(prompt.examples, rows=tuple(generator.sample(rows, len(rows))))
        made[f"order: {number}"] = replace(prompt, examples=shuffled)
    kept = [Variant("", prompt)]
    for name, one in made.items():
        if all(one != other.prompt for other in kept):
            kept.append(Variant(name, one))
    return kept[1:]


def spreads(grid: Grid) -> list[Spread]:
    """The spread of every metric on every model over the variants of each kind and the first of the grid."""
    found = []
    for base in {cell.model: grid.baseline(cell) for cell in grid.cells}.values():
        for kind in KINDS:
            mine = [cell for cell in grid.cells if cell.model == base.model and cell.variant.startswith(f"{kind}: ")]
            cells = [base, *mine]
            for metric in grid.scores(base):
                scores = {cell.variant: grid.scores(cell)[metric].score for cell in cells}
                values = {name: one.value for name, one in scores.items() if isinstance(one, Scored)}
                if len(values) > 1:
                    worst, best = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
                    ends = values[worst], values[best]
                    found.append(Spread(kind, base.model, metric, len(values), *ends, worst, best))
    return found
