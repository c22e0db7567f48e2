"""Outcomes that a router learns from: a grid in which every target answered the same cases, or thumbs of the log."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.results import read_results
from lmworks.model.model_costs import count_parameters
from lmworks.prompt.few_shot import Encode
from lmworks.prompt.prompt_file import prompt_hash
from lmworks.prompt.prompt_grid import Cell, Grid, all_cells
from lmworks.prompt.prompt_store import PromptStore
from lmworks.prompt.router import Router, confidence_features
from lmworks.prompt.router_fit import RoutedCases
from lmworks.records import QUERY_ENCODER, Interaction


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
