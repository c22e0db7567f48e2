"""Lint of the rows that alignment learns from: what training refuses, and what it would learn besides quality.

refused      lines that are no row, rows of several kinds, equal answers, labels or ratings that are all one
length       how often the longer answer is the preferred one, and how far a rule gets that sees nothing but lengths
duplicates   the same row again by the same annotator; conflicts: a pair both ways, a completion with two labels
leaks        prompts that held-out rows or a suite ask, too
provenance   rows that do not say who made them
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.artefact import hash_file, hash_json
from lmworks.data.conversations import rows_of
from lmworks.data.duplicates.contamination import find_overlaps, index_items
from lmworks.data.duplicates.evaluation_items import EvaluationItem, read_items
from lmworks.data.preference_rows import PreferenceRow, parse_preference_row
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.set_lint import Finding, plain_text
from lmworks.records import (
    LabelledCompletion,
    Preference,
    Rated,
    Score,
    Scored,
    Stepwise,
    TextOrMessages,
    question_of,
)
from lmworks.report import Section, Table
from lmworks.statistics.scores import mean_score

FAIR = 0.05  # by so much a rule of length may be better than chance before that is a finding
ADVICE: Mapping[str, str] = {
    "no row": "mend it, or remove it: training refuses the file",
    "several kinds": "give each kind of row a file of its own: training refuses the file",
    "equal answers": "remove the row: nothing is preferred, and training refuses the file",
    "one class": "collect rows of the other kind, too: training refuses the file, which needs both",
    "nearly equal answers": "but for case and white space they are equal: remove the row",
    "empty answer": "remove the row, unless silence is meant",
    "duplicate": "keep one: the others count as further evidence, and are none",
    "conflict": "decide it, or leave it in as noise; several annotators with their agreement say which",
    "length bias": "add pairs whose shorter answer is better, or expect longer (or shorter) answers and measure them",
    "leaked": "remove the row, or what is measured on the held-out one is memory",
    "no provenance": "say source, annotator or judge: else nobody can take a bad annotator's rows out",
}
REFUSED = ("no row", "several kinds", "equal answers", "one class")


@dataclass(frozen=True, slots=True)
class LintedRows:
    """The rows of a file, each with where it stands, and what is wrong with them."""

    path: Path
    rows: Sequence[tuple[str, PreferenceRow]]
    findings: Sequence[Finding]

    @property
    def refused(self) -> bool:
        """Whether training would refuse the file."""
        return any(finding.kind in REFUSED for finding in self.findings)


def lint_rows(path: Path, held_out: Sequence[EvaluationItem] = ()) -> LintedRows:
    """All findings about the rows of a file; errors of reading the file as a whole as of `rows_of`."""
    rows, findings = [], list[Finding]()
    for where, found in rows_of(path):
        place = where.removeprefix(f"{path}, ")
        try:
            rows.append((place, parse_preference_row(found, where)))
        except ValueError as error:  # RowError, or no JSON
            findings.append(Finding("no row", (place,), str(error).removeprefix(f"{where}: ")))
    for find in (_find_unteachable, _find_wrong_answers, _find_repetitions, _find_length_bias):
        findings += find(rows)
    findings += _find_leaks(rows, held_out)
    unknown = tuple(where for where, row in rows if not _maker(row)[0] and _source_is_place(row, path))
    findings += [Finding("no provenance", unknown, f"{len(unknown):,} of {len(rows):,} rows")] if unknown else []
    return LintedRows(path, rows, findings)


def completions_of(row: PreferenceRow) -> tuple[str, ...]:
    """Texts; the chosen one first."""
    names = ("chosen", "rejected") if isinstance(row, Preference) else ("completion",)
    steps = ["\n".join(row.completions)] if isinstance(row, Stepwise) else []
    return (*(prompt_text(getattr(row, name)) for name in names if hasattr(row, name)), *steps)


def value_of(row: PreferenceRow) -> Any:
    """The verdict of a row on its completion or pair: its label, its rating, the chosen text; None where nothing."""
    if isinstance(row, Preference):
        return plain_text(prompt_text(row.chosen))
    return row.label if isinstance(row, LabelledCompletion) else row.rating if isinstance(row, Rated) else None


def held_out_items(path: Path) -> list[EvaluationItem]:
    """The prompts of held-out rows, or the items of an evaluation set."""
    try:
        rows = [parse_preference_row(found, where) for where, found in rows_of(path)]
    except ValueError:
        return read_items(path)
    return [EvaluationItem(f"{path.stem}/{n}", prompt_text(row.prompt)) for n, row in enumerate(rows, 1)]


def suite_items(suites: Sequence[str], data: Path) -> list[EvaluationItem]:
    """The items of the tasks of suites; errors as of `read_tasks` and `examples`."""
    from lmworks.evaluate.task import examples, read_tasks

    items = [(task.name, one.item) for task in read_tasks(suites) for one in examples(task, data)[0]]
    return [EvaluationItem(f"{n}/{i.id}", prompt_text(i.prompt), i.references, i.choices) for n, i in items]


# ---------------------------------------------------------------------------------------------------------------------
# Findings

_Rows = Sequence[tuple[str, PreferenceRow]]


def _find_unteachable(rows: _Rows) -> Iterator[Finding]:
    kinds = Counter(type(row).__name__ for _, row in rows)
    if len(kinds) > 1:
        yield Finding("several kinds", (), ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()))
    elif (
        len(values := {value_of(row) for _, row in rows}) == 1
        and None not in values
        and not isinstance(rows[0][1], Preference)
    ):
        yield Finding("one class", (), f"all {len(rows):,} rows have {values.pop()}")


def _find_wrong_answers(rows: _Rows) -> Iterator[Finding]:
    for where, row in rows:
        texts = completions_of(row)
        if isinstance(row, Preference) and row.chosen == row.rejected:
            yield Finding("equal answers", (where,), texts[0])
        elif isinstance(row, Preference) and plain_text(texts[0]) == plain_text(texts[1]):
            yield Finding("nearly equal answers", (where,), texts[0])
        called = any(not isinstance(each, str) and any(m.tool_calls for m in each) for each in _completions(row))
        if not all(map(str.strip, texts)) and not called:
            yield Finding("empty answer", (where,), _asked(row))


def _completions(row: PreferenceRow) -> Iterator[TextOrMessages]:
    yield from (getattr(row, name) for name in ("chosen", "rejected", "completion") if hasattr(row, name))


def _find_repetitions(rows: _Rows) -> Iterator[Finding]:
    """Rows on the same prompt and completions, but for case and white space: said again, or contradicted."""
    same: dict[Any, list[tuple[str, PreferenceRow]]] = defaultdict(list)
    for where, row in rows:
        same[plain_text(prompt_text(row.prompt)), frozenset(map(plain_text, completions_of(row)))].append((where, row))
    for group in (group for group in same.values() if len(group) > 1):
        said: dict[Any, list[str]] = defaultdict(list)
        for where, row in group:
            said[value_of(row), _maker(row)].append(where)
        for places in (places for places in said.values() if len(places) > 1):
            yield Finding("duplicate", tuple(places), _asked(group[0][1]))
        if len({value for value, _ in said}) > 1:
            makers = sorted({" ".join(filter(None, maker)) or "nobody's name" for _, maker in said})
            where = tuple(where for where, _ in group)
            yield Finding("conflict", where, f"by {', '.join(makers)}: {_asked(group[0][1])}")


def _asked(row: PreferenceRow) -> str:
    return row.prompt if isinstance(row.prompt, str) else question_of(row.prompt) or prompt_text(row.prompt)


def _maker(row: PreferenceRow) -> tuple[str, str]:
    return row.provenance.annotator or "", row.provenance.judge or ""


def _source_is_place(row: PreferenceRow, path: Path) -> bool:
    """Whether a row names no judge, and no source but the place that its reader put there."""
    return not row.provenance.judge and (row.provenance.source or str(path)).startswith(str(path))


def _find_leaks(rows: _Rows, items: Sequence[EvaluationItem]) -> Iterator[Finding]:
    """Items whose prompt is that of a row, or stands by half or more of its words in runs of thirteen in one."""
    if not items:
        return
    prompts = {plain_text(prompt_text(row.prompt)): where for where, row in rows}
    leaked: dict[str, tuple[str, str]] = {}
    for item in items:
        if where := prompts.get(plain_text(item.question)):
            leaked[item.id] = where, f"its prompt is that of {item.id}: {item.question}"
    texts = ("\n".join((prompt_text(row.prompt), *completions_of(row))) for _, row in rows)
    for found in sorted(find_overlaps(index_items(items), texts), key=lambda overlap: -overlap.share):
        if found.share >= 0.5:
            detail = f"it holds {found.share:.0%} of the words of {found.item}: {found.matched}"
            leaked.setdefault(found.item, (rows[found.document][0], detail))
    yield from (Finding("leaked", (where,), detail) for where, detail in leaked.values())


# ---------------------------------------------------------------------------------------------------------------------
# Length


def length_scores(rows: Iterable[PreferenceRow]) -> dict[str, Score]:
    """Shares of pairs whose chosen answer has more words (ties half), or the accuracy of length as a threshold for
    labels beside that of the majority; 95 %, over prompts. Empty where rows neither compare nor label."""
    rows = list(rows)
    pairs = [row for row in rows if isinstance(row, Preference)]
    labelled = [row for row in rows if isinstance(row, LabelledCompletion)]
    if pairs:
        counts = [[len(text.split()) for text in completions_of(row)] for row in pairs]
        wins = [0.5 + 0.5 * np.sign(chosen - rejected) for chosen, rejected in counts]
        clusters = [hash_json(row.prompt) for row in pairs]
        share = mean_score(wins, "longer", clusters)
        longer = isinstance(share, Scored) and share.value >= 0.5
        rule = share if longer else mean_score([1 - win for win in wins], "shorter", clusters)
        return {"longer is chosen": share, f"a rule that takes the {'longer' if longer else 'shorter'}": rule}
    return _threshold_scores(labelled) if len({row.label for row in labelled}) == 2 else {}


def _threshold_scores(rows: Sequence[LabelledCompletion]) -> dict[str, Score]:
    """The threshold and its side are chosen on half of the prompts, by their hashes, and measured on the others."""
    words = np.array([len(completions_of(row)[0].split()) for row in rows])
    labels, clusters = np.array([row.label for row in rows]), [hash_json(row.prompt) for row in rows]
    to_choose = np.array([int(one[:8], 16) % 2 == 0 for one in clusters])
    if not to_choose.any() or to_choose.all():
        return {}
    tried = np.unique(words[to_choose])
    hits = [((words > level) == labels) == (side == 1) for level in (-1, *tried) for side in (1, 0)]
    best = hits[int(np.argmax([hit[to_choose].mean() for hit in hits]))]
    most = labels == (labels[to_choose].mean() >= 0.5)
    others = [one for one, chosen in zip(clusters, to_choose, strict=True) if not chosen]
    return {
        "a threshold of words": mean_score(best[~to_choose].astype(float).tolist(), "length", others),
        "the most frequent label": mean_score(most[~to_choose].astype(float).tolist(), "majority", others),
        "gain of the threshold": mean_score((best[~to_choose] * 1.0 - most[~to_choose]).tolist(), "gain", others),
    }


def _find_length_bias(rows: _Rows) -> Iterator[Finding]:
    """A rule of length is better than chance, or than the most frequent label, by more than `FAIR`, beyond doubt."""
    for name, found in length_scores(row for _, row in rows).items():
        chance = 0.5 if name.startswith("a rule") else 0.0 if name.startswith("gain") else None
        if chance is not None and isinstance(found, Scored) and found.interval[0] > chance + FAIR:
            yield Finding("length bias", (), f"{name}: {found}")


# ---------------------------------------------------------------------------------------------------------------------
# Report


def card(found: LintedRows) -> Section:
    """Size, kinds, who made the rows, lengths, and what length alone says."""
    rows = [row for _, row in found.rows]
    if not rows:
        return Section(f"Card of {found.path.name}", "No line of the file is a row.")
    words = [[len(text.split()) for text in completions_of(row)] for row in rows]
    table = [
        ("rows", _counted(type(row).__name__ for row in rows)),
        ("content", hash_file(found.path)[:12]),
        ("prompts", f"{len({hash_json(row.prompt) for row in rows}):,}"),
        ("made by", _counted(" ".join(filter(None, _maker(row))) or "no annotator or judge" for row in rows)),
    ]
    if isinstance(rows[0], Preference):
        chosen, rejected = (np.median([each[place] for each in words if len(each) == 2]) for place in (0, 1))
        table.append(("words, median", f"chosen {chosen:.0f}, rejected {rejected:.0f}"))
    if labels := [row.label for row in rows if isinstance(row, LabelledCompletion)]:
        good, bad = sum(labels), len(labels) - sum(labels)
        table.append(("labels", f"{good:,} desirable, {bad:,} undesirable"))
        if good and bad:  # Ethayarajh et al. 2024, section 4.2: w_D n_D / (w_U n_U) in [1, 4/3]
            low, high = bad / good, 4 / 3 * bad / good
            table.append(("weight of desirable ones for KTO, beside 1", f"{low:.2f} to {high:.2f}"))
    table += [(name, str(score)) for name, score in length_scores(rows).items()]
    return Section(f"Card of {found.path.name}", "", (Table(("", "value"), tuple(table)),))


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in Counter(names).most_common(8))
