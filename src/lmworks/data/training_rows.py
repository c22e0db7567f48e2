"""Rows of training that are no conversations, in files and as groups of token sequences.

TRL's preference, unpaired, stepwise and prompt-only rows, and `answer`, `rating`:

{"prompt": ..., "chosen": ..., "rejected": ...}                a preference, with a `margin` if it is known
{"prompt": ..., "completion": ..., "label": true}              unpaired feedback
{"prompt": ..., "completion": ..., "rating": 0.7}              a rating
{"prompt": ..., "completions": [...], "labels": [...]}         a solution in steps, with a verdict on each
{"prompt": ..., "answer": "42", "verifier": "last-number"}     a task that a program checks; or a prompt alone

Next to them stands who made a row: source, annotator, judge, rubric, order, or these in `provenance`; further columns
of a task are its `fields`, which checks read. And pairs of texts, what an embedding model learns from:

{"anchor": ..., "positive": ..., "negatives": [...]}
"""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_fraction, hash_json, write_text
from lmworks.config import from_mapping, to_mapping
from lmworks.data.conversations import as_messages, columns_of, parsed_rows, rows_of
from lmworks.data.document_tokens import learned_part, prompts_of
from lmworks.data.row_formats import trl_columns
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.records import (
    LabelledCompletion,
    Preference,
    PromptCompletion,
    Provenance,
    Rated,
    RejectedRecord,
    Stepwise,
    TextPair,
    Verifiable,
)
from lmworks.tokenizer.chat import ChatRenderer, Rendered
from lmworks.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")
PairT = TypeVar("PairT", bound=TextPair)

PreferenceRow = Preference | LabelledCompletion | Rated | Stepwise | Verifiable | PromptCompletion
_BY_COLUMN: dict[str, type[PreferenceRow]] = {  # the column that only one kind of row has
    "chosen": Preference,
    "label": LabelledCompletion,
    "rating": Rated,
    "labels": Stepwise,
    "answer": Verifiable,
    "completion": PromptCompletion,
    "prompt": Verifiable,
}
KINDS_OF_ROWS: dict[type[PreferenceRow], str] = {  # in a user's words
    Preference: "pairs (prompt, chosen, rejected)",
    LabelledCompletion: "completions with a label (prompt, completion, label)",
    Rated: "completions with a rating (prompt, completion, rating)",
    Stepwise: "solutions with labels of their steps (prompt, completions, labels)",
    Verifiable: "prompts (prompt, and answer where it is checked)",
    PromptCompletion: "conversations (prompt, completion)",
}
PROVENANCE = [each.name for each in fields(Provenance)]
_AT_ONCE = 4096  # pairs that go to the tokenizer, and its threads, at once
Completed = PromptCompletion | LabelledCompletion | Rated | Preference
Row = Completed | Stepwise
STEP_END = "\n"  # stands between the steps of a solution

# ---------------------------------------------------------------------------------------------------------------------
# Preferences and their kind


def read_preference_rows(
    files: Sequence[Path],
    kinds: Sequence[type[PreferenceRow]] = (),
    methods: Mapping[type, str] | None = None,
    formats: Counter[str] | None = None,
) -> list[PreferenceRow]:
    """The rows of the files, of these kinds alone where any are named; `formats` counts those that have Alpaca's or
    ShareGPT's columns. ValueError for one that is not (with the `methods` that learn from its kind), or is none, or
    whose answers are equal."""

    def parse(found: Any, where: str) -> PreferenceRow:
        row = parse_preference_row(found, where, formats)
        if kinds and type(row) not in kinds:
            wanted = " or ".join(KINDS_OF_ROWS[kind] for kind in kinds)
            hint = _misspelt(columns_of(found, where), [field.name for kind in kinds for field in fields(kind)])
            if not hint and methods and (able := methods.get(type(row))):
                hint = f": use {able}"
            own = KINDS_OF_ROWS[type(row)]
            raise ValueError(f"{where}: this learns from {wanted}, and the row is one of {own}{hint}")
        if isinstance(row, Preference) and row.chosen == row.rejected:
            raise ValueError(f"{where}: chosen and rejected are equal: remove the row")
        return row

    return [row for _, row in parsed_rows(files, parse)]


def parse_preference_row(found: Any, where: str, formats: Counter[str] | None = None) -> PreferenceRow:
    """An object, or a line of a .jsonl file, as the row that its columns say; `formats` as `read_preference_rows`.
    ValueError says `where` it is none."""
    row = trl_columns(columns_of(found, where), where, formats)
    kind = next((kind for column, kind in _BY_COLUMN.items() if column in row), None)
    if kind is None:
        kinds = "; ".join(KINDS_OF_ROWS.values())
        hint = "; conversations and completions alone are for `lmworks finetune`" if "messages" in row else ""
        raise ValueError(f"{where}: the row has {', '.join(row) or 'no column'}, and is to be one of: {kinds}{hint}")
    if "prompt" not in row:
        raise ValueError(f"{where}: a row has a prompt: put what its answers begin with into a column of its own")
    if kind is Verifiable:
        row = {"answer": "", "verifier": "", **row}
        if half := row.keys() & {"rejected", "completions"}:
            hint = _misspelt(row, list(_BY_COLUMN))
            raise ValueError(f"{where}: {', '.join(half)} without what belongs to it, chosen or labels{hint}")
        further = row.keys() - {"id", *PROVENANCE, *(each.name for each in fields(Verifiable))}
        row["fields"] = {**row.get("fields", {}), **{name: row.pop(name) for name in sorted(further)}}
    if type(row.get("label")) is int and row["label"] in (0, 1):
        row["label"] = bool(row["label"])
    row.pop("id", None)
    return row_of(kind, row, where)


def _misspelt(columns: Iterable[str], names: Sequence[str]) -> str:
    """How to mend the first column that is nearly one of these names; "" without any."""
    for column in columns:
        if column not in names and (near := difflib.get_close_matches(column, names, n=1, cutoff=0.75)):
            return f'; rename "{column}", which is nearly "{near[0]}"'
    return ""


def row_of(kind: type[T], columns: dict[str, Any], where: str) -> T:
    """The row, whose source is `where` unless its columns say who made it. ValueError for columns that do not make
    it."""
    made = {name: columns.pop(name) for name in PROVENANCE if name in columns}
    made = {"source": where, **made, **columns.pop("provenance", {})}
    return from_mapping(kind, {**columns, "provenance": made}, [where])


def row_columns(row: Any) -> dict[str, Any]:
    """The columns of a row as `parse_preference_row` reads them, without those that are empty."""
    columns = _filled(to_mapping(row))
    for name in columns.keys() & {"prompt", "completion", "chosen", "rejected"}:
        if isinstance(columns[name], list):
            columns[name] = [_filled(message) for message in columns[name]]
    made = _filled(columns.pop("provenance", {}))
    return columns | ({"provenance": made} if made else {})


def split_rows(
    rows: Sequence[T], share: float, key: Callable[[T], Any], least: int = 0, most: int | None = None
) -> tuple[list[T], list[T]]:
    """Rows to learn from, and those held out: a `share` of the keys, the first ones by their hashes, so that rows of
    one key are on one side, and stay there when rows are added; but of `least` keys, or a fifth of all, where these are
    few. With `most`, the share is of the number of keys: of at least `least`, at most so many, and half of all."""
    hashes = [hash_json(key(row)) for row in rows]
    keys = sorted(set(hashes))
    if most is None:
        count = max(sum(hash_fraction(digest) < share for digest in keys), min(least, len(keys) // 5))
    else:
        count = min(max(round(share * len(keys)), least), most, len(keys) // 2)
    held_out = set(keys[: count if share else 0])
    sides: tuple[list[T], list[T]] = [], []
    for row, digest in zip(rows, hashes, strict=True):
        sides[digest in held_out].append(row)
    return sides


def write_preference_rows(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row_columns(row), ensure_ascii=False) + "\n" for row in rows))


def _filled(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value not in (None, [], {})}


# ---------------------------------------------------------------------------------------------------------------------
# Pairs of texts


def read_pairs(files: Sequence[Path]) -> Iterator[TextPair]:
    """A pair in each line that is not empty, in order; ValueError says which line is none, and why."""
    for path in files:
        yield from (pair_of(TextPair, line, where) for where, line in rows_of(path))


def pair_of(kind: type[PairT], found: Any, where: str) -> PairT:
    """The pair that an object, or a line of a .jsonl file, is. ValueError, which begins with `where`, for one that is
    none, and for an empty text."""
    pair = from_mapping(kind, columns_of(found, where), [where])
    if not all(map(str.strip, (pair.anchor, pair.positive, *pair.negatives))):
        raise ValueError(f"{where}: a text of the pair is empty")
    return pair


def pair_groups(pairs: Sequence[TextPair], tokenizer: Tokenizer, length: int) -> TokenGroups:
    """A group for each pair: anchor, positive, negatives, framed as the model's texts are. A text of more than `length`
    tokens loses its end, which `TokenGroups.cut` counts. ValueError for a text without a token."""
    groups, cut = [], 0
    for start in range(0, len(pairs), _AT_ONCE):
        some = [(pair.anchor, pair.positive, *pair.negatives) for pair in pairs[start : start + _AT_ONCE]]
        rows, shortened = tokenizer.encode_truncated([text for own in some for text in own], length)
        cut += shortened
        encoded = iter(rows)
        groups += [TokenGroup([np.array(next(encoded), np.int32) for _ in own]) for own in some]
    return join_groups(groups, cut)


# ---------------------------------------------------------------------------------------------------------------------
# Completions as groups


def group_completions(
    rows: Sequence[Row], renderer: ChatRenderer, length: int, rejected: list[RejectedRecord]
) -> TokenGroups:
    """A group for each row: its prompt with each completion (`chosen` before `rejected`), as the chat template writes
    the two together, and what the assistant says behind the prompt as what is to be learned. Of steps, two copies of
    the solution: of the first the last tokens of right steps are to be learned, of the second those of wrong ones.

    A sequence of more than `length` tokens loses its end, which `TokenGroups.cut` counts; a row of which a completion,
    or every step, then has nothing left to learn is added to `rejected`. Columns are `label` (1 or 0), `rating` and
    `margin` where rows have them. ValueError, as `learned_part` and `step_ends`, says which row.
    """
    groups, cut = [], 0
    margins = any(isinstance(row, Preference) and row.margin is not None for row in rows)
    for number, row in enumerate(rows):
        where = row.provenance.source or f"row {number + 1}"
        try:
            sequences = list(_steps(row, renderer) if isinstance(row, Stepwise) else _completions(row, renderer))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        kept = [(ids[:length], mask[:length]) for ids, mask in sequences]
        if not (any if isinstance(row, Stepwise) else all)(any(mask) for _, mask in kept):
            rejected.append(
                RejectedRecord(where, f"a completion begins behind its first {length:,} tokens or is empty")
            )
            continue
        cut += sum(len(ids) > length for ids, _ in sequences)
        groups.append(TokenGroup([ids for ids, _ in kept], [mask for _, mask in kept], _own_columns(row, margins)))
    return join_groups(groups, cut)


def _completions(row: Completed, renderer: ChatRenderer) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
    """For each completion: the ids of prompt and completion, and which of them are the completion's."""
    prompt = as_messages(row.prompt, "user")
    before = prompts_of(prompt, renderer, row.tools)
    for each in (row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion,):
        whole = renderer.render([*prompt, *as_messages(each, "assistant")], tools=row.tools)
        yield whole.ids, learned_part(before, whole, len(prompt)).tolist()


def _steps(row: Stepwise, renderer: ChatRenderer) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
    """The solution, a step a line, with the ends of right steps, and again with those of wrong ones."""
    if len(row.labels) != len(row.completions) or not all(map(str.strip, row.completions)):
        raise ValueError("a solution has a label for each of its steps, and none of these is empty")
    solution = STEP_END.join(row.completions)
    whole = renderer.render([*as_messages(row.prompt, "user"), *as_messages(solution, "assistant")])
    ends = dict(zip(step_ends(whole, solution, row.completions).tolist(), row.labels, strict=True))
    for label in (True, False):
        yield whole.ids, [ends.get(place) is label for place in range(len(whole.ids))]


def step_ends(whole: Rendered, solution: str, steps: Sequence[str]) -> NDArray[np.int64]:
    """The number of each step's last token, of the last step that of the sequence. ValueError for a template that
    writes the solution in another way."""
    if (begin := whole.text.rfind(solution)) < 0:
        raise ValueError("the chat template writes the solution in another way: strip its steps")
    ends = begin + np.cumsum([len(step) + len(STEP_END) for step in steps]) - len(STEP_END)
    places = np.searchsorted(whole.starts, ends) - 1
    places[-1] = len(whole.ids) - 1
    return places


def _own_columns(row: Row, margins: bool) -> dict[str, Sequence[float]]:
    if isinstance(row, Preference) and margins:
        return {"margin": [row.margin or 0.0] * 2}
    if isinstance(row, LabelledCompletion):
        return {"label": [float(row.label)]}
    return {"rating": [row.rating]} if isinstance(row, Rated) else {}
