"""Rows of completions as groups of token sequences: what preference, reward and reinforcement learning train on."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lmworks.data.conversations import as_messages
from lmworks.data.token_groups import TokenGroup, TokenGroups, join_groups
from lmworks.data.tokenising import learned_part, prompts_of
from lmworks.records import LabelledCompletion, LeftOut, Preference, PromptCompletion, Rated, Stepwise
from lmworks.tokenizer.chat import ChatRenderer, Rendered

Completed = PromptCompletion | LabelledCompletion | Rated | Preference
Row = Completed | Stepwise
STEP_END = "\n"  # stands between the steps of a solution


def group_completions(rows: Sequence[Row], renderer: ChatRenderer, length: int, left_out: list[LeftOut]) -> TokenGroups:
    """A group for each row: its prompt with each completion (`chosen` before `rejected`), as the chat template writes
    the two together, and what the assistant says behind the prompt as what is to be learned. Of steps, two copies of
    the solution: of the first the last tokens of right steps are to be learned, of the second those of wrong ones.

    A prompt that is a text is what a user says, a completion that is one what the assistant answers. A sequence of more
    than `length` tokens loses its end, which `TokenGroups.cut` counts; a row of which a completion, or every step, then
    has nothing left to learn is added to `left_out`. Columns are `label` (1 or 0) and `rating` where rows have them.

    ValueError for a completion that the template hides, for a template that writes a prompt in another way when a
    completion follows it, or a solution, for a step that is empty, and labels that are not one a step.
    """
    groups, cut = [], 0
    for number, row in enumerate(rows):
        where = row.provenance.source or f"row {number + 1}"
        try:
            sequences = list(_steps(row, renderer) if isinstance(row, Stepwise) else _completions(row, renderer))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        kept = [(ids[:length], mask[:length]) for ids, mask in sequences]
        if not (any if isinstance(row, Stepwise) else all)(any(mask) for _, mask in kept):
            left_out.append(LeftOut(where, f"a completion begins behind its first {length:,} tokens or is empty"))
            continue
        cut += sum(len(ids) > length for ids, _ in sequences)
        groups.append(TokenGroup([ids for ids, _ in kept], [mask for _, mask in kept], _own_columns(row)))
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


def _own_columns(row: Row) -> dict[str, Sequence[float]]:
    if isinstance(row, LabelledCompletion):
        return {"label": [float(row.label)]}
    return {"rating": [row.rating]} if isinstance(row, Rated) else {}
