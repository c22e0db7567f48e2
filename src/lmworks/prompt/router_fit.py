"""A router learned from outcomes: fitted on a half of the cases, priced on a quarter, measured on the rest.

The outcomes are those of a grid in which every target answered the same cases, or thumbs of the log.

Each target has a logistic regression of "its answer is right". The price of cost runs over the values at which choices
change, which gives the curve of quality over cost; it is set to what meets a goal: no worse than the best single target
at the least cost, or the best quality within a budget.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.artefact import hash_fraction
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.results import read_results
from lmworks.model.model_costs import count_parameters
from lmworks.prompt.few_shot import Encode
from lmworks.prompt.prompt_file import prompt_hash
from lmworks.prompt.prompt_grid import Cell, Grid, all_cells
from lmworks.prompt.prompt_store import PromptStore
from lmworks.prompt.router import LearnedRouter, Router, confidence_features
from lmworks.records import QUERY_ENCODER, Interaction, Score
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.statistics.logistic_regression import Logistic, fit
from lmworks.statistics.scores import mean_score, ratio
from lmworks.statistics.significance import paired_score

LEAST = 20  # outcomes of a target, of both kinds
STRENGTH = 0.01  # inverse of the L2 penalty: hundreds of cases, as many features
_POINTS = 60  # of a curve

Point = tuple[float, float, float]  # a price, and the mean quality and cost that it gives


@dataclass(frozen=True, slots=True)
class RoutedCases:
    """Outcomes of questions.

    ids       of the questions, which are split by them
    features  (n, d): vectors of the questions, or `confidence_features` of the first target's answers
    outcomes  target -> (n,) 1 right, 0 wrong, NaN where it was not asked
    costs     target -> of a question that it alone is asked, on average, in any unit
    """

    ids: tuple[str, ...]
    features: np.ndarray
    outcomes: Mapping[str, np.ndarray]
    costs: Mapping[str, float]

    def part(self, low: float, high: float) -> "RoutedCases":
        """The cases whose hash, in [0, 1), lies in [low, high)."""
        hashes = [hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest() for name in self.ids]
        kept = np.array([low <= hash_fraction(digest) < high for digest in hashes])
        outcomes = {name: values[kept] for name, values in self.outcomes.items()}
        return replace(self, ids=tuple(np.array(self.ids)[kept]), features=self.features[kept], outcomes=outcomes)


def task_cases(
    router: Router, store: PromptStore, folder: Path, task: str, metric: str, encode: Encode | None
) -> RoutedCases:
    """The newest runs of all targets on the same cases of a task. A cost is tokens times billions of parameters; with
    `encode` the features are those of questions, else of the first target's answers. LookupError where the targets
    were not all run on the same cases."""
    hashes = {one.prompt: prompt_hash(store.live(one.prompt)) for one in router.targets.values() if one.prompt}
    cells = [one for one in all_cells(folder, task) if one.enforced]
    for cases in dict.fromkeys(cell.cases for cell in cells):
        found: dict[str, Cell] = {}
        for cell in (cell for cell in reversed(cells) if cell.cases == cases):
            for name, target in router.targets.items():
                if (cell.model, cell.prompt) == (target.model, hashes.get(target.prompt, "")):
                    found[name] = cell
        if len(found) == len(router.targets):
            break
    else:
        raise LookupError(
            f"the targets were not all run on the same cases of {task}: `lmworks prompt test {task}` with the models "
            "and prompts of all of them"
        )
    found = {name: found[name] for name in router.targets}
    grid = Grid(folder, tuple(found.values()))
    rows = read_results(grid.place(grid.cells[0]))[0]
    if encode is not None:
        features = encode([prompt_text(row.item.prompt) for row in rows])
    else:
        features = confidence_features([row.response.log_probabilities for row in rows])
    sizes = {name: count_parameters(load(target.model).config) / 1e9 for name, target in router.targets.items()}
    costs = {name: cell.size * sizes[name] for name, cell in found.items()}
    outcomes = {name: grid.values(cell, metric) for name, cell in found.items()}
    return RoutedCases(tuple(row.item.id for row in rows), np.asarray(features, np.float64), outcomes, costs)


def logged_cases(interactions: Iterable[Interaction], router: Router, encoder: str) -> RoutedCases:
    """Thumbs on what the router's targets answered: of each question the one that was asked. Its target is the one that
    was decided on, or whose model was asked for by name. ValueError where there is none."""
    ids, vectors, targets, thumbs, tokens = [], [], [], [], []
    by_model = {target.model: name for name, target in router.targets.items()}
    for one in interactions:
        target = str(one.decision.get("target", "")) or by_model.get(one.route, "")
        said = next((each.value for each in reversed(one.feedback) if each.kind == "thumbs"), None)
        if target in router.targets and said and one.query_embedding and one.lineage.get(QUERY_ENCODER) == encoder:
            ids.append(one.id)
            vectors.append(one.query_embedding)
            targets.append(target)
            thumbs.append(float(said == "up"))
            tokens.append(one.input_tokens + one.output_tokens)
    if not ids:
        raise ValueError(
            f"the log has no thumbs on answers of {', '.join(router.targets)} with vectors of {encoder[:12]}"
        )
    asked, values = np.array(targets), np.array(thumbs)
    names = [name for name in router.targets if name in targets]
    outcomes = {name: np.where(asked == name, values, np.nan) for name in names}
    costs = {name: float(np.array(tokens)[asked == name].mean()) for name in names}
    return RoutedCases(tuple(ids), np.array(vectors, np.float64), outcomes, costs)


def dry_run(interactions: Iterable[Interaction], router: Router) -> list[tuple[Interaction, str, str]]:
    """(interaction, target, reason) as the router would have decided on what is in the log."""
    encoder = router.learned.encoder if router.learned else ""
    found = []
    for one in interactions:
        if one.messages and one.operation == "chat":
            known = one.query_embedding if one.lineage.get(QUERY_ENCODER) == encoder or not encoder else ()
            decision = router.decide(one.messages, known)
            found.append((one, decision.target, decision.reason))
    return found


@dataclass(frozen=True, slots=True)
class RouterFit:
    """A learned router, its curve where the price was set, and what it does on cases that nothing was set on.

    `costs` are those of each target alone. `against` leads from each of them to the difference in quality, paired by
    case; `mixture` is the difference from choosing by chance at the same cost. `imputed` is the share of cases whose
    quality is predicted, since what the router chooses was not asked.
    """

    router: LearnedRouter
    costs: Mapping[str, float]
    curve: tuple[Point, ...]
    n: int
    quality: Score
    cost: float
    shares: Mapping[str, float]
    against: Mapping[str, Score]
    mixture: Score
    imputed: float


def fit_router(
    cases: RoutedCases,
    kind: Literal["query", "cascade"] = "query",
    *,
    goal: Literal["quality", "cost"] = "quality",
    margin: float = 0.0,
    budget: float = 0.0,
    encoder: str = "",
) -> RouterFit:
    """Learn a router. With the goal "quality": the least cost at which the quality is that of the best single target
    less `margin`; with "cost": the best quality at a mean cost of at most `budget`.

    ValueError for fewer than two targets, too few outcomes of one, and a budget that no choice keeps to.
    """
    if len(cases.outcomes) < 2:
        raise ValueError("a router chooses between two targets at least")
    train, pricing, test = cases.part(0, 0.5), cases.part(0.5, 0.75), cases.part(0.75, 1)
    first, costs = next(iter(cases.costs)), dict(cases.costs)
    if kind == "cascade":
        costs = {name: cost if name == first else costs[first] + cost for name, cost in costs.items()}
    models = {name: _model(name, train, kind, name == first) for name in cases.outcomes}
    router = LearnedRouter(kind, models, costs, 0.0, encoder)
    curve = quality_curve(router, pricing)
    if goal == "cost":
        able = [point for point in curve if point[2] <= budget]
        if not able:
            raise ValueError(f"no choice costs {budget:g} or less; the cheapest costs {min(p[2] for p in curve):g}")
        price = max(able, key=lambda point: (point[1], -point[2]))[0]
    else:
        best = max(float(np.nanmean(values)) for values in pricing.outcomes.values())
        able = [point for point in curve if point[1] >= best - margin - 1e-12]
        price = min(able or [max(curve, key=lambda point: point[1])], key=lambda point: point[2])[0]
    return _measured(replace(router, price=price), curve, test)


def _model(name: str, train: RoutedCases, kind: str, is_first: bool) -> Logistic:
    known = np.isfinite(train.outcomes[name])
    right = train.outcomes[name][known] >= 0.5
    if min(right.sum(), (~right).sum()) < LEAST:
        raise ValueError(
            f"{name}: {right.sum()} right and {(~right).sum()} wrong answers to learn from, and {LEAST} of each are "
            "needed: run more cases, or leave the target out"
        )
    features = train.features[known]
    if kind == "cascade" and not is_first:  # of the later ones nothing is known before they are asked
        features = np.zeros((len(features), 1))
    names = [str(number) for number in range(features.shape[1])]
    return fit(features, right.tolist(), names, STRENGTH if kind == "query" else 1.0)


def _qualities(router: LearnedRouter, cases: RoutedCases) -> tuple[np.ndarray, np.ndarray]:
    """(n, targets) outcomes, predicted where a target was not asked, and where that is."""
    known = np.stack([cases.outcomes[name] for name in router.models], axis=1)
    return np.where(np.isnan(known), router.probabilities(cases.features), known), np.isnan(known)


def quality_curve(router: LearnedRouter, cases: RoutedCases) -> tuple[Point, ...]:
    """Quality and cost at the prices at which choices change, from 0, where cost is nothing, on."""
    probabilities, costs = router.probabilities(cases.features), np.array(list(router.costs.values()))
    gaps = probabilities[:, :, None] - probabilities[:, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        prices = gaps / (costs[:, None] - costs[None, :])
    prices = np.unique(prices[np.isfinite(prices) & (prices > 0)])
    if len(prices) > _POINTS:
        prices = np.quantile(prices, np.linspace(0, 1, _POINTS))
    qualities, rows, points = _qualities(router, cases)[0], np.arange(len(probabilities)), []
    for price in (0.0, *prices.tolist(), *(2 * prices[-1:]).tolist()):
        chosen = replace(router, price=price).choose(probabilities)
        points.append((price, float(qualities[rows, chosen].mean()), float(costs[chosen].mean())))
    return tuple(points)


def _measured(router: LearnedRouter, curve: tuple[Point, ...], test: RoutedCases) -> RouterFit:
    names, alone = list(router.models), np.array(list(test.costs.values()))
    chosen, (qualities, predicted) = router.choose(router.probabilities(test.features)), _qualities(router, test)
    rows, ones = np.arange(len(chosen)), np.ones(len(chosen))
    values, cost = qualities[rows, chosen], float(np.array(list(router.costs.values()))[chosen].mean())
    own, signature = np.stack([values, ones], axis=1), ["router", len(values), router.price]
    against = {
        name: paired_score(own, np.stack([qualities[:, place], ones], axis=1), ratio, signature)
        for place, name in enumerate(names)
    }
    low, high = alone.argmin(), alone.argmax()
    share = min(1.0, (cost - alone[low]) / (alone[high] - alone[low])) if alone[high] > alone[low] else 0.0
    mixed = (1 - share) * qualities[:, low] + share * qualities[:, high]
    return RouterFit(
        router, dict(test.costs), curve, len(values), mean_score(values.tolist(), signature), cost,
        {name: float((chosen == place).mean()) for place, name in enumerate(names)}, against,
        mean_score((values - mixed).tolist(), signature), float(predicted[rows, chosen].mean()),
    )  # fmt: skip


def fit_section(found: RouterFit) -> Section:
    """The curve, and on held-out cases quality and cost against every single target and against chance."""
    rows: Sequence[tuple[str | float | Score, ...]] = [
        (name, found.shares[name], found.costs[name], found.cost / found.costs[name], score)
        for name, score in found.against.items()
    ]
    columns = ("target", "share", "its cost", "router's cost over it", "router's quality less its")
    _, qualities, costs = zip(*found.curve, strict=True)
    plot = line_plot({"router": (costs, qualities)}, x="cost of a question", y="right answers")
    text = (
        f"On {found.n} held-out questions: quality {found.quality}, cost {found.cost:.4g} a question. Against choosing "
        f"by chance at the same cost: {found.mixture}."
    )
    if found.imputed:
        text += f" The quality of {found.imputed:.0%} of them is predicted: what is chosen was not asked."
    figure = Figure(plot, "Where the price was set, by price.")
    return Section(f"Router, {found.router.kind}", text, (Table(columns, tuple(rows)),), (figure,))
