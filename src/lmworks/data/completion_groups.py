"""Rows of completions as groups of token sequences: what preference, reward and reinforcement learning train on."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lmworks.data.conversations import as_messages
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.data.tokenising import learned_part, prompts_of
from lmworks.records import LabelledCompletion, LeftOut, Preference, PromptCompletion, Rated, Stepwise
from lmworks.tokenizer.chat import ChatRenderer, Rendered

Row = PromptCompletion | LabelledCompletion | Rated | Preference
STEP_END = "\n"  # stands between the steps of a solution


def group_completions(
    rows: Sequence[Row],
    renderer: ChatRenderer,
    length: int,
    left_out: list[LeftOut],
    columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> TokenGroups:
    """A group for each row: its prompt with each completion (`chosen` before `rejected`), as the chat template writes
    the two together, and what the assistant says behind the prompt as what is to be learned.

    A prompt that is a text is what a user says, a completion that is one what the assistant answers. A sequence of more
    than `length` tokens loses its end, which `TokenGroups.cut` counts; a row of which a completion then has nothing
    left to learn is added to `left_out`. Columns are `label` (1 or 0) and `rating` where the rows have them, and
    `columns`: name → for each row a number for each of its completions.

    ValueError for a completion that the template hides, for a template that writes a prompt in another way when a
    completion follows it, and for columns that have not a value for each.
    """
    groups, cut = [], 0
    for name, values in (columns or {}).items():
        if len(values) != len(rows):
            raise ValueError(f"the column {name} has {len(values):,} values for {len(rows):,} rows")
    for number, row in enumerate(rows):
        where = row.provenance.source or f"row {number + 1}"
        try:
            sequences = list(_rendered(row, renderer))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        kept = [(ids[:length], mask[:length]) for ids, mask in sequences]
        if not all(any(mask) for _, mask in kept):
            left_out.append(LeftOut(where, f"a completion begins behind its first {length:,} tokens or is empty"))
            continue
        cut += sum(len(ids) > length for ids, _ in sequences)
        numbers = {name: values[number] for name, values in (columns or {}).items()} | _own_columns(row)
        groups.append(TokenGroup([ids for ids, _ in kept], [mask for _, mask in kept], numbers))
    return join_groups(groups, cut)


def _rendered(row: Row, renderer: ChatRenderer) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
    """For each completion: the ids of prompt and completion, and which of them are the completion's."""
    prompt = as_messages(row.prompt, "user")
    before = prompts_of(prompt, renderer, row.tools)
    for each in (row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion,):
        whole = renderer.render([*prompt, *as_messages(each, "assistant")], tools=row.tools)
        yield whole.ids, learned_part(before, whole, len(prompt)).tolist()


def group_steps(rows: Sequence[Stepwise], renderer: ChatRenderer, length: int, left_out: list[LeftOut]) -> TokenGroups:
    """A group of two for each row, both its prompt with the whole solution, a step a line: to be learned are of the
    first the last tokens of right steps, of the second those of wrong ones. The last step ends with the sequence.

    What is longer than `length` tokens loses its last steps, and a row without one is added to `left_out`. ValueError
    for a step that is empty, labels that are not one a step, and a template that writes the solution in another way.
    """
    groups, cut = [], 0
    for number, row in enumerate(rows):
        where, solution = row.provenance.source or f"row {number + 1}", STEP_END.join(row.completions)
        if len(row.labels) != len(row.completions) or not all(map(str.strip, row.completions)):
            raise ValueError(f"{where}: a solution has a label for each of its steps, and none of these is empty")
        whole = renderer.render([*as_messages(row.prompt, "user"), *as_messages(solution, "assistant")])
        try:
            places = step_ends(whole, solution, row.completions)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        ids, masks = whole.ids[:length], np.zeros((2, len(whole.ids)), bool)
        masks[np.where(row.labels, 0, 1), places] = True
        masks = masks[:, :length]
        if not masks.any():
            left_out.append(LeftOut(where, f"its first step ends behind its first {length:,} tokens"))
            continue
        cut += len(whole.ids) > length
        groups.append(TokenGroup([ids, ids], masks.tolist()))
    return join_groups(groups, cut)


def step_ends(whole: Rendered, solution: str, steps: Sequence[str]) -> NDArray[np.int64]:
    """The number of each step's last token, of the last step that of the sequence. ValueError for a template that
    writes the solution in another way."""
    if (begin := whole.text.rfind(solution)) < 0:
        raise ValueError("the chat template writes the solution in another way: strip its steps")
    ends = begin + np.cumsum([len(step) + len(STEP_END) for step in steps]) - len(STEP_END)
    places = np.searchsorted(whole.starts, ends) - 1
    places[-1] = len(whole.ids) - 1
    return places


def _own_columns(row: Row) -> dict[str, Sequence[float]]:
    if isinstance(row, LabelledCompletion):
        return {"label": [float(row.label)]}
    return {"rating": [row.rating]} if isinstance(row, Rated) else {}
