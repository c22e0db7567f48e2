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
from lmworks.prompt.prompt_grid import Grid, Variant, run_grid
from lmworks.records import Message, Scored
from lmworks.report import Section, Table

SEARCHES = "prompt-searches"  # in a workspace: apart from tests, since no gate may ask the cases of a search
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
    """The best prompt on `train` cases, and its comparison with the one that the search began with on `held_out` cases
    that the search did not see, None where nothing was better. `tokens` is the cost of all, `per_case` that of a case
    before and after."""

    prompt: Prompt
    trials: tuple[Trial, ...]
    train: int
    held_out: int
    comparison: Comparison | None
    tokens: float
    per_case: tuple[float, float]


def search_prompt(
    task: Task,
    read: tuple[Sequence[Example], str],
    prompt: Prompt,
    engine: EngineProtocol,
    folder: Path,
    train: int,
    instructions: Sequence[str] = (),
    *,
    encode: Encode | None = None,
    seed: int = 0,
    progress: Report = no_report,
) -> SearchResult:
    """Search on the first `train` of the cases that `read_cases` gave, by the task's first metric; the others are held
    out, and run at the end with the prompt as it was and with the best one.

    ValueError for fewer than 10 cases in one of the parts, and for a metric without a direction.
    """
    parts = {"train": list(read[0][:train]), "held out": list(read[0][train:])}
    if min(map(len, parts.values())) < 10:
        raise ValueError(f"{train} of {len(read[0])} cases to search on: 10 are needed, and 10 that are held out")
    trials, known = list[Trial](), dict[str, float]()  # key of a run -> tokens

    def run(part: str, *variants: Prompt) -> Grid:
        cases = parts[part], f"{read[1]}, {part} {train}"
        named = [Variant(str(number), one) for number, one in enumerate(variants)]
        grid = run_grid(task, cases, named, {"model": engine}, folder, seed=seed, encode=encode)
        known.update({cell.key: cell.size * cell.n for cell in grid.cells})
        return grid

    def tried(name: str, candidate: Prompt, best: float) -> float:
        before = sum(known.values())
        grid = run("train", candidate)
        one = grid.scores(grid.cells[0])[task.metrics[0]]
        if one.higher_is_better is None or not isinstance(one.score, Scored):
            raise ValueError(f"{task.metrics[0]} has no better end, or no value: name another metric first in the task")
        value = one.score.value if one.higher_is_better else -one.score.value
        trials.append(Trial(name, one.score.value, sum(known.values()) - before, value > best))
        progress(len(trials), None, "prompts tried", note=f"{name}: {one.score.value:.3f}")
        return value

    best, current = tried("as it was", prompt, float("-inf")), prompt
    grid = run("train", prompt)
    right = grid.values(grid.cells[0], task.metrics[0]) >= 1
    answers = [row.response.text for row in read_results(grid.place(grid.cells[0]))[0]]
    for name, candidate in _examples(prompt, parts["train"], right.tolist(), answers, encode is not None, seed):
        if (value := tried(name, candidate, best)) > best:
            best, current = value, candidate
    for number, text in enumerate([*instructions, *_proposals(engine, prompt, seed)], 1):
        candidate = replace(current, instruction=text)
        if (value := tried(f"instruction {number}", candidate, best)) > best:
            best, current = value, candidate
    held = run("held out", prompt, *([current] if current != prompt else []))
    old, new = held.cells[0], held.cells[-1]
    comparison = held.comparisons.get((new.key, task.metrics[0]))
    sizes = len(parts["train"]), len(parts["held out"])
    return SearchResult(current, tuple(trials), *sizes, comparison, sum(known.values()), (old.size, new.size))


def search_section(found: SearchResult) -> Section:
    rows = tuple((one.name, one.score, one.tokens, "better" if one.kept else "") for one in found.trials)
    before, after = found.per_case
    text = (
        f"On {found.held_out} held-out cases: {found.comparison or 'nothing better was found'}. A case takes "
        f"{after:.0f} tokens, before {before:.0f}. The search took {found.tokens:,.0f} tokens on {found.train} cases."
    )
    return Section(f"Search for {found.prompt.name}", text, (Table(("tried", "score", "tokens", ""), rows),))


def _examples(
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
