"""Lint of the rows that alignment learns from: what training refuses, and what it would learn besides quality.

refused      lines that are no row, rows of several kinds, equal answers, labels or ratings that are all one
length       how often the longer answer is the preferred one, or how verdicts go by length
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

from lmworks.artefact import hash_json
from lmworks.corpus.dedup.decontamination import EvaluationItem, find_overlaps, index_items, read_items
from lmworks.data.conversations import rows_of
from lmworks.data.training_rows import KINDS_OF_ROWS, PreferenceRow, parse_preference_row
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.set_lint import Finding, plain_text
from lmworks.records import LabelledCompletion, Preference, Rated, Score, Scored, Stepwise, TextOrMessages, question_of
from lmworks.report import Cell, Section, Table
from lmworks.statistics import spearman
from lmworks.statistics.scores import mean_score

FAIR = 0.05  # by so much verdicts may go by length before that is a finding
LONGER, CORRELATION = "longer in characters is chosen", "rank correlation of characters and verdict"
ADVICE: Mapping[str, str] = {
    "no row": "mend it, or remove it: training refuses the file",
    "several kinds": "give each kind of row a file of its own: training refuses the file",
    "equal answers": "remove the row: nothing is preferred, and training refuses the file",
    "one class": "collect rows with other labels or ratings, too: training refuses the file",
    "nearly equal answers": "but for case and white space they are equal: remove the row",
    "empty answer": "remove the row, unless silence is meant",
    "duplicate": "keep one: the others count as further evidence, and are none",
    "conflict": "decide it, or leave it in as noise; several annotators with their agreement say which",
    "length bias": "add rows where length goes the other way, or expect longer (or shorter) answers and measure them",
    "leaked": "remove the row, or what is measured on the held-out one is memory",
    "no provenance": "say source, annotator or judge: else nobody can take a bad annotator's rows out",
}
REFUSED = ("no row", "several kinds", "equal answers", "one class")
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
    rows, wrong = [], defaultdict[str, list[str]](list)
    for where, fields in rows_of(path):
        line = where.removeprefix(f"{path}, ")
        try:
            rows.append((line, parse_preference_row(fields, where)))
        except ValueError as error:
            wrong[str(error).removeprefix(f"{where}: ")].append(line)
    findings = [
        Finding("no row", tuple(lines), f"{len(lines):,} rows: {why}" if len(lines) > 1 else why)
        for why, lines in wrong.items()
    ]
    for find in (_find_unteachable, _find_wrong_answers, _find_repetitions, _find_length_bias, _find_nobodys):
        findings += find(rows)
    findings += _find_leaks(rows, held_out) if held_out else ()
    return LintedRows(path, rows, findings)


def held_out_items(path: Path) -> list[EvaluationItem]:
    """The prompts of held-out rows, or the items of an evaluation set."""
    try:
        rows = [parse_preference_row(fields, where) for where, fields in rows_of(path)]
    except ValueError:
        return read_items(path)
    return [EvaluationItem(f"{path.stem}/{n}", prompt_text(row.prompt)) for n, row in enumerate(rows, 1)]


def suite_items(suites: Sequence[str], data: Path) -> list[EvaluationItem]:
    """The items of the tasks of suites; errors as of `read_tasks` and `examples`."""
    from lmworks.evaluate.task import examples, read_tasks

    items = [(task.name, example.item) for task in read_tasks(suites) for example in examples(task, data)[0]]
    return [EvaluationItem(f"{n}/{i.id}", prompt_text(i.prompt), i.references, i.choices) for n, i in items]


def _given(row: PreferenceRow) -> list[TextOrMessages]:
    """The completions; the chosen one first."""
    if isinstance(row, Stepwise):
        return ["\n".join(row.completions)]
    return [getattr(row, name) for name in ("chosen", "rejected", "completion") if hasattr(row, name)]


def _completions(row: PreferenceRow) -> list[str]:
    return [prompt_text(given) for given in _given(row)]


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
    kinds, verdicts = Counter(KINDS_OF_ROWS[type(row)] for _, row in rows), {_verdict(row) for _, row in rows}
    if len(kinds) > 1:
        yield Finding("several kinds", (), ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()))
    elif len(verdicts) == 1 and isinstance(rows[0][1], LabelledCompletion | Rated):
        yield Finding("one class", (), f"all {len(rows):,} rows have {verdicts.pop()}")


def _find_wrong_answers(rows: _Rows) -> Iterator[Finding]:
    for where, row in rows:
        texts = _completions(row)
        if isinstance(row, Preference) and plain_text(texts[0]) == plain_text(texts[1]):
            nearly = "" if row.chosen == row.rejected else "nearly "
            yield Finding(f"{nearly}equal answers", (where,), texts[0])
        called = any(
            not isinstance(completion, str) and any(m.tool_calls for m in completion) for completion in _given(row)
        )
        if not all(map(str.strip, texts)) and not called:
            yield Finding("empty answer", (where,), _asked(row))


def _find_nobodys(rows: _Rows) -> Iterator[Finding]:
    """Rows without a maker, whose source is where they stand."""
    lines = [where for where, row in rows if not _maker(row) and (row.provenance.source or where).endswith(where)]
    if lines:
        yield Finding("no provenance", tuple(lines), f"{len(lines):,} of {len(rows):,} rows")


def _find_repetitions(rows: _Rows) -> Iterator[Finding]:
    """Rows on the same prompt and completions, but for case and white space: said again, or contradicted."""
    same: dict[Any, list[tuple[str, PreferenceRow]]] = defaultdict(list)
    for where, row in rows:
        same[plain_text(prompt_text(row.prompt)), frozenset(map(plain_text, _completions(row)))].append((where, row))
    for group in (group for group in same.values() if len(group) > 1):
        lines_of: dict[Any, list[str]] = defaultdict(list)
        for where, row in group:
            lines_of[_verdict(row), _maker(row)].append(where)
        for lines in (lines for lines in lines_of.values() if len(lines) > 1):
            yield Finding("duplicate", tuple(lines), _asked(group[0][1]))
        if len({verdict for verdict, _ in lines_of}) > 1:
            makers = ", ".join(sorted({maker or "nobody's name" for _, maker in lines_of}))
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
    """The share of pairs whose chosen answer has more characters (ties half), or the rank correlation of characters and
    labels or ratings; with 95 % intervals over prompts. A reward model's rule of length counts tokens, which characters
    come nearest to where no vocabulary is known."""
    rows = list(rows)
    clusters = [hash_json(row.prompt) for row in rows]
    lengths = [list(map(len, _completions(row))) for row in rows]
    if all(isinstance(row, Preference) for row in rows):
        wins = [0.5 + 0.5 * np.sign(chosen - rejected) for chosen, rejected in lengths]
        return {LONGER: mean_score(wins, LONGER, clusters)}
    if all(isinstance(row, LabelledCompletion | Rated) for row in rows):
        verdicts = [float(_verdict(row)) for row in rows]
        return {CORRELATION: spearman([float(pair[0]) for pair in lengths], verdicts, CORRELATION, clusters)}
    return {}


def _find_length_bias(rows: _Rows) -> Iterator[Finding]:
    """Length says more of the verdicts than chance does, by more than `FAIR`, beyond doubt."""
    for name, score in length_scores(row for _, row in rows).items():
        if isinstance(score, Scored):
            chance, (low, high) = 0.5 if name == LONGER else 0.0, score.interval
            if low > chance + FAIR or high < chance - FAIR:
                yield Finding("length bias", (), f"{name}: {score}")


def card(linted: LintedRows) -> Section:
    """Kinds of rows, what length alone says, and of labels how much each should weigh."""
    rows = [row for _, row in linted.rows]
    table: list[tuple[str, Cell]] = [
        (kind, f"{n:,} rows") for kind, n in Counter(KINDS_OF_ROWS[type(row)] for row in rows).items()
    ]
    labels = [row.label for row in rows if isinstance(row, LabelledCompletion)]
    if 0 < (good := sum(labels)) < len(labels):  # Ethayarajh et al. 2024, section 4.2: w_D n_D / (w_U n_U) in [1, 4/3]
        weight = (len(labels) - good) / good
        table.append(("weight of desirable ones for KTO, against 1", f"{weight:.2f} to {4 / 3 * weight:.2f}"))
    table += length_scores(rows).items()
    return Section(f"Card of {linted.path.name}", "", (Table(("", "value"), tuple(table)),))
