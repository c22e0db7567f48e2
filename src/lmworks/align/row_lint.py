"""Lint of the rows that alignment learns from: what training refuses, and what it would learn besides quality.

refused      lines that are no row, rows of several kinds, equal answers, labels or ratings that are all one
length       how often the longer answer is the preferred one, or how far a threshold of words gets
duplicates   the same row again by the same annotator; conflicts: a pair both ways, a completion with two labels
leaks        prompts that held-out rows or a suite ask, too
provenance   rows that do not say who made them
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.data.conversations import rows_of
from lmworks.data.duplicates.contamination import find_overlaps, index_items
from lmworks.data.duplicates.evaluation_items import EvaluationItem, read_items
from lmworks.data.preference_rows import PreferenceRow, parse_preference_row
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.set_lint import Finding, plain_text
from lmworks.records import LabelledCompletion, Preference, Rated, Score, Scored, Stepwise, question_of
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


Right = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]  # lengths, labels → whether a rule is right
_Rows = Sequence[tuple[str, PreferenceRow]]


@dataclass(frozen=True, slots=True)
class LintedRows:
    """The rows of a file, each with where it stands, and what is wrong with them."""

    path: Path
    rows: _Rows
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
    findings += _find_leaks(rows, held_out) if held_out else ()
    unknown = []
    for where, row in rows:
        made = row.provenance  # its reader puts the place of a row there as the source
        if not (made.annotator or made.judge) and (made.source or str(path)).startswith(str(path)):
            unknown.append(where)
    findings += [Finding("no provenance", tuple(unknown), f"{len(unknown):,} of {len(rows):,} rows")] if unknown else []
    return LintedRows(path, rows, findings)


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


def _completions(row: PreferenceRow) -> list[str]:
    """Texts; the chosen one first."""
    names = ("chosen", "rejected") if isinstance(row, Preference) else ("completion",)
    steps = ["\n".join(row.completions)] if isinstance(row, Stepwise) else []
    return [*(prompt_text(getattr(row, name)) for name in names if hasattr(row, name)), *steps]


def _verdict(row: PreferenceRow) -> Any:
    """The label, the rating or the chosen text of a row; None where it has none."""
    if isinstance(row, Preference):
        return plain_text(prompt_text(row.chosen))
    return row.label if isinstance(row, LabelledCompletion) else row.rating if isinstance(row, Rated) else None


def _asked(row: PreferenceRow) -> str:
    return row.prompt if isinstance(row.prompt, str) else question_of(row.prompt) or prompt_text(row.prompt)


def _maker(row: PreferenceRow) -> str:
    return " ".join(filter(None, (row.provenance.annotator, row.provenance.judge)))


def _find_unteachable(rows: _Rows) -> Iterator[Finding]:
    kinds, verdicts = Counter(type(row).__name__ for _, row in rows), {_verdict(row) for _, row in rows}
    if len(kinds) > 1:
        yield Finding("several kinds", (), ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()))
    elif len(verdicts) == 1 and isinstance(rows[0][1], LabelledCompletion | Rated):
        yield Finding("one class", (), f"all {len(rows):,} rows have {verdicts.pop()}")


def _find_wrong_answers(rows: _Rows) -> Iterator[Finding]:
    for where, row in rows:
        texts = _completions(row)
        if isinstance(row, Preference) and row.chosen == row.rejected:
            yield Finding("equal answers", (where,), texts[0])
        elif isinstance(row, Preference) and plain_text(texts[0]) == plain_text(texts[1]):
            yield Finding("nearly equal answers", (where,), texts[0])
        given = [getattr(row, name) for name in ("chosen", "rejected", "completion") if hasattr(row, name)]
        called = any(not isinstance(each, str) and any(m.tool_calls for m in each) for each in given)
        if not all(map(str.strip, texts)) and not called:
            yield Finding("empty answer", (where,), _asked(row))


def _find_repetitions(rows: _Rows) -> Iterator[Finding]:
    """Rows on the same prompt and completions, but for case and white space: said again, or contradicted."""
    same: dict[Any, list[tuple[str, PreferenceRow]]] = defaultdict(list)
    for where, row in rows:
        same[plain_text(prompt_text(row.prompt)), frozenset(map(plain_text, _completions(row)))].append((where, row))
    for group in (group for group in same.values() if len(group) > 1):
        said: dict[Any, list[str]] = defaultdict(list)
        for where, row in group:
            said[_verdict(row), _maker(row)].append(where)
        for places in (places for places in said.values() if len(places) > 1):
            yield Finding("duplicate", tuple(places), _asked(group[0][1]))
        if len({verdict for verdict, _ in said}) > 1:
            makers = ", ".join(sorted({maker or "nobody's name" for _, maker in said}))
            yield Finding("conflict", tuple(where for where, _ in group), f"by {makers}: {_asked(group[0][1])}")


def _find_leaks(rows: _Rows, items: Sequence[EvaluationItem]) -> Iterator[Finding]:
    """Items whose prompt is that of a row, or stands by half or more of its words in runs of thirteen in one."""
    prompts = {plain_text(prompt_text(row.prompt)): where for where, row in rows}
    leaked: dict[str, tuple[str, str]] = {}
    for item in items:
        if where := prompts.get(plain_text(item.question)):
            leaked[item.id] = where, f"its prompt is that of {item.id}: {item.question}"
    texts = ("\n".join((prompt_text(row.prompt), *_completions(row))) for _, row in rows)
    for found in sorted(find_overlaps(index_items(items), texts), key=lambda overlap: -overlap.share):
        if found.share >= 0.5:
            detail = f"it holds {found.share:.0%} of the words of {found.item}: {found.matched}"
            leaked.setdefault(found.item, (rows[found.document][0], detail))
    yield from (Finding("leaked", (where,), detail) for where, detail in leaked.values())


def length_scores(rows: Iterable[PreferenceRow]) -> dict[str, Score]:
    """The share of pairs whose chosen answer has more words (ties half); or of labels, the accuracy of a threshold that
    is chosen on half of the prompts and measured on the others, and its gain over the most frequent label. 95 %, over
    prompts; empty where rows neither compare nor label."""
    rows = list(rows)
    pairs = [row for row in rows if isinstance(row, Preference)]
    if pairs:
        counts = [[len(text.split()) for text in _completions(row)] for row in pairs]
        wins = [0.5 + 0.5 * np.sign(chosen - rejected) for chosen, rejected in counts]
        return {"longer is chosen": mean_score(wins, "longer", [hash_json(row.prompt) for row in pairs])}
    labelled = [row for row in rows if isinstance(row, LabelledCompletion)]
    clusters, labels = [hash_json(row.prompt) for row in labelled], np.array([row.label for row in labelled])
    words = np.array([len(_completions(row)[0].split()) for row in labelled])
    known = np.array([int(one[:8], 16) % 2 == 0 for one in clusters], dtype=bool)
    if len(set(labels.tolist())) < 2 or known.all() or not known.any():
        return {}
    right = length_rule(words[known], labels[known], [-1, *np.unique(words[known])])(words[~known], labels[~known])
    gain = right - (labels[~known] == (labels[known].mean() >= 0.5))
    others = [one for one, chosen in zip(clusters, known, strict=True) if not chosen]
    names = {"a threshold of words": right, "gain over the most frequent label": gain}
    return {name: mean_score(values.tolist(), name, others) for name, values in names.items()}


def length_rule(lengths: NDArray[Any], labels: NDArray[Any], thresholds: Sequence[float] = (0.0,)) -> Right:
    """The best rule on these rows that sees their lengths alone: of pairs, (pairs, 2), that the longer is better, or
    the shorter; else, (rows,), that what is longer than one of the thresholds is right, or wrong. A tie of a pair is
    half right."""

    def right(lengths: NDArray[Any], labels: NDArray[Any], threshold: float, longer_wins: bool) -> NDArray[np.float64]:
        longer = lengths[:, 0] - lengths[:, 1] if lengths.ndim == 2 else lengths - threshold
        agrees = ((longer > 0) == longer_wins) == (labels > 0)
        return np.where((longer == 0) & (lengths.ndim == 2), 0.5, agrees)

    rules = [(threshold, longer_wins) for threshold in thresholds for longer_wins in (True, False)]
    best = max(rules, key=lambda rule: right(lengths, labels, *rule).mean())
    return lambda lengths, labels: right(lengths, labels, *best)


def _find_length_bias(rows: _Rows) -> Iterator[Finding]:
    """A rule of length is better than chance, or than the most frequent label, by more than `FAIR`, beyond doubt."""
    for name, found in length_scores(row for _, row in rows).items():
        chance = {"longer is chosen": 0.5, "a threshold of words": None}.get(name, 0.0)
        if chance is not None and isinstance(found, Scored):
            low, high = found.interval
            if low > chance + FAIR or (chance and high < chance - FAIR):
                yield Finding("length bias", (), f"{name}: {found}")


def card(found: LintedRows) -> Section:
    """Size, kinds, who made the rows, lengths, and what length alone says."""
    rows = [row for _, row in found.rows]
    table = [
        ("rows", _counted(type(row).__name__ for row in rows)),
        ("prompts", f"{len({hash_json(row.prompt) for row in rows}):,}"),
        ("made by", _counted(_maker(row) or "no annotator or judge" for row in rows)),
    ]
    if words := [[len(text.split()) for text in _completions(row)] for row in rows if isinstance(row, Preference)]:
        chosen, rejected = np.median(words, axis=0)
        table.append(("words, median", f"chosen {chosen:.0f}, rejected {rejected:.0f}"))
    if labels := [row.label for row in rows if isinstance(row, LabelledCompletion)]:
        good, bad = sum(labels), len(labels) - sum(labels)
        table.append(("labels", f"{good:,} desirable, {bad:,} undesirable"))
        if good and bad:  # Ethayarajh et al. 2024, section 4.2: w_D n_D / (w_U n_U) in [1, 4/3]
            weight = f"{bad / good:.2f} to {4 / 3 * bad / good:.2f}"
            table.append(("weight of desirable ones for KTO, beside 1", weight))
    table += [(name, str(score)) for name, score in length_scores(rows).items()]
    return Section(f"Card of {found.path.name}", "", (Table(("", "value"), tuple(table)),))


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in Counter(names).most_common(8))
