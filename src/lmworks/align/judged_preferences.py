"""Preferences by a calibrated judge, asked about each two answers to a prompt in both orders (Zheng et al. 2023).

What both orders decide alike is a row; a tie, and what the order decides, is kept apart: it says nothing of quality.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from lmworks.data.conversations import as_messages
from lmworks.evaluate.judge import Judge
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.release.votes import Vote
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.generate.rollouts import seed_of
from lmworks.records import Preference, Provenance, TextOrMessages, Unscored


@dataclass(frozen=True, slots=True)
class Undecided:
    """Two answers between which the judge did not decide, and why."""

    prompt: TextOrMessages
    first: str
    second: str
    reason: str
    provenance: Provenance


def judged_preferences(judge: Judge, rows: Sequence[Vote], name: str) -> tuple[list[Preference], list[Undecided]]:
    """All pairs of each row's completions. Rows name the judge (`name` and its fingerprint) and its rubric; `order` is
    the place of the chosen one when it was first asked. ValueError for a rubric that does not compare two."""
    by = judge.rubric
    if not by.pairwise:
        raise ValueError(f"{by.name} judges single responses: take a rubric that compares {{first}} with {{second}}, "
                         "such as helpfulness")  # fmt: skip
    pairs = [(row, first, second) for row in rows for first, second in combinations(row.completions, 2)]
    asked = [{"prompt": prompt_text(row.prompt), "first": first, "second": second} for row, first, second in pairs]
    middle = float(by.values.max() + by.values.min()) / 2
    made = {"judge": f"{name} {judge.fingerprint[:12]}", "rubric": f"{by.name} {by.hash}"}
    decided, undecided = [], []
    for (row, first, second), judgement in zip(pairs, judge.judgements(asked), strict=True):
        provenance = replace(row.provenance, **made)
        if isinstance(judgement, Unscored):
            undecided.append(Undecided(row.prompt, first, second, f"cannot be judged: {judgement.reason}", provenance))
        elif not judgement.consistent or by.verdicts[judgement.verdict] == middle:
            reason = "a tie" if judgement.consistent else "the order decides"
            undecided.append(Undecided(row.prompt, first, second, reason, provenance))
        else:
            order = int(by.verdicts[judgement.verdict] < middle)
            chosen, rejected = (second, first) if order else (first, second)
            decided.append(Preference(row.prompt, chosen, rejected, replace(provenance, order=order)))
    return decided, undecided


def sampled_candidates(
    engine: EngineProtocol,
    rows: Sequence[Vote],
    samples: int,
    sampling: SamplingParameters,
    left_out: Counter[str],
) -> list[Vote]:
    """Rows with fewer than two completions with `samples` drawn ones more, equal ones once. What the limit of tokens
    cut, and prompts with fewer than two completions then, are counted in `left_out`."""
    asked = [(row, number) for number, row in enumerate(rows) if len(row.completions) < 2]
    requests = [
        Request(messages=as_messages(row.prompt, "user"),
                sampling=replace(sampling, seed=seed_of(str(sampling.seed), number, sample)))
        for row, number in asked for sample in range(samples)
    ]  # fmt: skip
    outputs = iter(engine.generate(requests))
    result = []
    for row in rows:
        if len(row.completions) > 1:
            result.append(row)
            continue
        drawn = [next(outputs) for _ in range(samples)]
        texts = [
            text for completion in drawn if completion.finish_reason == "stop" and (text := completion.text.strip())
        ]
        left_out.update(["samples that were cut off or empty"] * (samples - len(texts)))
        different = tuple(dict.fromkeys((*row.completions, *texts)))
        if len(different) > 1:
            result.append(replace(row, completions=different, systems=()))
        else:
            left_out["prompts with fewer than two different completions"] += 1
    return result
