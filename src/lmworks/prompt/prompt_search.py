"""Search for a better prompt on training cases, and what it is worth on others: examples, then wordings, one at a time.

Sources: Khattab et al. 2024, "DSPy" (demonstrations that the program itself got right, bootstrapped); Opsahl-Ong et al.
2024, "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs" (instructions that a model
proposes, searched by coordinates).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmworks.evaluate.comparison import Comparison
from lmworks.evaluate.results import read_results
from lmworks.evaluate.task import Example, Task
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.progress import Report, no_report
from lmworks.prompt.config import SLOT, Examples, Prompt
from lmworks.prompt.few_shot import Encode
from lmworks.prompt.prompt_grid import Cell, Grid, Variant, run_grid
from lmworks.records import Message, Scored

COUNTS = (2, 4, 8)  # of examples
DRAWS = 3  # of fixed examples, for each count
REWORD = "Write this instruction in other words, so that a language model follows it better:\n\n{instruction}"


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt that was tried on the training cases; `tokens` is what that cost, 0 where it was known."""

    name: str
    score: float
    tokens: float
    kept: bool


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best prompt on `train` cases, and the comparison of it with the one that the search began with on `held_out`
    cases that the search did not see. `tokens` is the cost of the search, `per_case` that of a case before and after.
    """

    prompt: Prompt
    trials: tuple[Trial, ...]
    train: int
    held_out: int
    comparison: Comparison | None  # None where nothing better was found
    tokens: float
    per_case: tuple[float, float]


def search_prompt(
    task: Task,
    found: Sequence[Example],
    cases: str,
    prompt: Prompt,
    engine: EngineProtocol,
    folder: Path,
    *,
    train: int,
    instructions: Sequence[str] = (),
    encode: Encode | None = None,
    seed: int = 0,
    progress: Report = no_report,
) -> SearchResult:
    """Search on the first `train` cases by the task's first metric; the others are held out, and run twice at the end:
    with the prompt as it was, and with the best one.

    ValueError for fewer than 10 cases in one of the parts, and for a metric without a direction.
    """
    parts = list(found[:train]), list(found[train:])
    if min(map(len, parts)) < 10:
        raise ValueError(f"{len(parts[0])} training and {len(parts[1])} held-out cases: 10 of each are needed")
    spent, trials, known = 0.0, [], set[str]()

    def run(variant: Prompt, part: int) -> tuple[Grid, Cell]:
        nonlocal spent
        read = parts[part], f"{cases}-{'held-out' if part else 'train'}-{train}"
        grid = run_grid(task, read, [Variant("one", variant)], {"model": engine}, folder, seed=seed, encode=encode)
        cell = grid.cells[0]
        spent += 0 if cell.key in known else _cost(cell) * cell.n
        known.add(cell.key)
        return grid, cell

    def tried(name: str, candidate: Prompt, best: float) -> float:
        before = spent
        grid, cell = run(candidate, 0)
        one = grid.scores(cell)[task.metrics[0]]
        if one.higher_is_better is None or not isinstance(one.score, Scored):
            raise ValueError(f"{task.metrics[0]} has no better end, or no value: name another metric first in the task")
        value = one.score.value if one.higher_is_better else -one.score.value
        trials.append(Trial(name, one.score.value, spent - before, value > best))
        progress(len(trials), None, "prompts tried", note=f"{name}: {one.score.value:.3f}")
        return value

    best, current = tried("as it was", prompt, float("-inf")), prompt
    grid, cell = run(prompt, 0)
    right = grid.values(cell, task.metrics[0]) >= 1
    answers = [row.response.text for row in read_results(grid.place(cell))[0]]
    for name, candidate in _examples(task, prompt, parts[0], right.tolist(), answers, encode is not None, seed):
        if (value := tried(name, candidate, best)) > best:
            best, current = value, candidate
    for number, text in enumerate([*instructions, *_proposals(engine, prompt, seed)], 1):
        candidate = replace(current, instruction=text)
        if (value := tried(f"instruction {number}", candidate, best)) > best:
            best, current = value, candidate
    (_, old), comparison = run(prompt, 1), None
    new = old
    if current != prompt:
        read = parts[1], f"{cases}-held-out-{train}"
        both = [Variant("as it was", prompt), Variant("best", current)]
        held = run_grid(task, read, both, {"model": engine}, folder, seed=seed, encode=encode)
        new = held.cells[1]
        spent += _cost(new) * new.n
        comparison = held.comparisons[new.key, task.metrics[0]]
    sizes = len(parts[0]), len(parts[1])
    return SearchResult(current, tuple(trials), *sizes, comparison, spent, (_cost(old), _cost(new)))


def _cost(cell: Cell) -> float:
    return sum(cell.tokens.values()) + cell.answer


def _examples(
    task: Task,
    prompt: Prompt,
    train: Sequence[Example],
    right: Sequence[bool],
    answers: Sequence[str],
    similar: bool,
    seed: int,
) -> Iterator[tuple[str, Prompt]]:
    """Prompts with examples from the training cases: with the references, and bootstrapped, the model's own answers
    where they were right."""
    slots = [name for name in SLOT.findall(prompt.input) if name in prompt.slots]
    shown = [{name: one.row[name] for name in slots} for one in train]
    references = [one.item.references[:1] for one in train]
    labelled = [{**row, "answer": text[0]} for row, text in zip(shown, references, strict=True) if text]
    own = [{**row, "answer": text} for row, text, good in zip(shown, answers, right, strict=True) if good]
    generator = random.Random(seed)
    for kind, pool in (("labelled", labelled), ("bootstrapped", own)):
        for count in COUNTS:
            if len(pool) < count:
                continue
            for draw in range(DRAWS):
                rows = tuple(generator.sample(pool, count))
                yield f"{kind}, {count} drawn, {draw + 1}", replace(prompt, examples=Examples(rows))
            for select in ("similar", "diverse") if similar else ():
                chosen = Examples(tuple(pool), select, count)  # type: ignore[arg-type]
                yield f"{kind}, {count} {select}", replace(prompt, examples=chosen)


def _proposals(engine: EngineProtocol, prompt: Prompt, seed: int, count: int = 3) -> list[str]:
    """The instruction in other words, by the model itself; none where it writes a slot that there is not."""
    if not prompt.instruction:
        return []
    asked = (Message("user", REWORD.format(instruction=prompt.instruction)),)
    drawn = [SamplingParameters(200, temperature=0.8, top_p=0.95, seed=seed + number) for number in range(count)]
    texts = [one.text.strip() for one in engine.generate([Request(messages=asked, sampling=way) for way in drawn])]
    slots = set(SLOT.findall(prompt.instruction))
    return [text for text in dict.fromkeys(texts) if text and set(SLOT.findall(text)) == slots]
