"""Outcomes that a router learns from: a grid in which every target answered the same cases, or thumbs of the log."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.results import read_results
from lmworks.prompt.few_shot import Encode
from lmworks.prompt.prompt_grid import Cell, Grid, all_cells
from lmworks.prompt.router import Router, confidence_features
from lmworks.prompt.router_fit import RoutedCases
from lmworks.records import QUERY_ENCODER, Interaction


def target_cells(router: Router, hashes: Mapping[str, str], folder: Path, task: str) -> dict[str, Cell]:
    """target -> the newest run of its model and prompt, all on the same cases; `hashes` are those of the prompts by
    name. LookupError names a target that has none."""
    cells = [one for one in all_cells(folder, task) if one.enforced]
    for cases in dict.fromkeys(cell.cases for cell in cells):
        found = {}
        for name, target in router.targets.items():
            wanted = (target.model, hashes.get(target.prompt, ""))
            mine = [one for one in cells if one.cases == cases and (one.model, one.prompt) == wanted]
            found |= {name: mine[0]} if mine else {}
        if len(found) == len(router.targets):
            return found
    raise LookupError(
        f"the targets were not all run on the same cases of {task}: `lmworks prompt test {task}` with the models and "
        "prompts of all of them"
    )


def grid_cases(
    cells: Mapping[str, Cell],
    folder: Path,
    metric: str,
    encode: Encode | None,
    size: Mapping[str, float],
) -> RoutedCases:
    """The cases of the runs of targets. A cost is the tokens of prompt and answer times the `size` of the model, such
    as its parameters; with `encode` the features are those of questions, else of the first target's answers."""
    grid = Grid(folder, tuple(cells.values()))
    rows = read_results(grid.place(next(iter(cells.values()))))[0]
    questions = [prompt_text(row.item.prompt) for row in rows]
    features = encode(questions) if encode else confidence_features([row.response.log_probabilities for row in rows])
    costs = {name: (sum(cell.tokens.values()) + cell.answer) * size[name] for name, cell in cells.items()}
    outcomes = {name: grid.values(cell, metric) for name, cell in cells.items()}
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
