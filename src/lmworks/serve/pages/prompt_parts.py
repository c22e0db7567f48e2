"""A rendered prompt told apart: what came from each message, and what the chat template added."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmworks.records import Message

Source = Literal["system", "user", "assistant", "tool", "template"]
Render = Callable[[Sequence[Message]], str]  # messages into a prompt that ends where the assistant begins

_FIRST_MARK = 0xE000  # private-use characters stand for contents


@dataclass(frozen=True, slots=True)
class Part:
    """A run of characters of the prompt and who wrote it."""

    source: Source
    text: str


def prompt_parts(prompt: str, messages: Sequence[Message], render: Render | None = None) -> tuple[Part, ...]:
    """The parts of a prompt in order; they join to it.

    With `render`, the template itself says what it puts around the messages. Without it, or where the prompt does not
    come out the same (another template made it), contents are looked for in order, each after the name of its role
    where it stands there. A content that is not found, since a template or a redaction changed it, stays a part of the
    template's text.
    """
    places = (_rendered_places(prompt, messages, render) if render else None) or _found_places(prompt, messages)
    parts: list[Part] = []
    done = 0
    for message, start, end in places:
        if done < start:
            parts.append(Part("template", prompt[done:start]))
        if start < end:
            parts.append(Part(message.role, prompt[start:end]))
        done = end
    if done < len(prompt):
        parts.append(Part("template", prompt[done:]))
    return tuple(parts)


def _rendered_places(prompt: str, messages: Sequence[Message], render: Render) -> list[tuple[Message, int, int]] | None:
    """Where the contents lie when the template copies them, or strips them first; None when it does neither."""
    marks = [chr(_FIRST_MARK + number) for number in range(len(messages))]
    if len(marks) > 6000 or any(mark in prompt for mark in marks):
        return None
    skeleton = render([replace(m, content=mark) for m, mark in zip(messages, marks, strict=True)])
    if [character for character in skeleton if character in set(marks)] != marks:
        return None
    for contents in ([m.content for m in messages], [m.content.strip() for m in messages]):
        places: list[tuple[Message, int, int]] = []
        rest, length = skeleton, 0
        for message, mark, content in zip(messages, marks, contents, strict=True):
            before, _, rest = rest.partition(mark)
            start = length + len(before)
            length = start + len(content)
            places.append((message, start, length))
        filled = skeleton
        for mark, content in zip(marks, contents, strict=True):
            filled = filled.replace(mark, content)
        if filled == prompt:
            return places
    return None


def _found_places(prompt: str, messages: Sequence[Message]) -> list[tuple[Message, int, int]]:
    places: list[tuple[Message, int, int]] = []
    done = 0
    for message in messages:
        content = message.content if message.content in prompt else message.content.strip()
        if not content:
            continue
        place = _after_role(prompt, message.role, content, done)
        if place != -1:
            places.append((message, place, place + len(content)))
            done = place + len(content)
    return places


def _after_role(prompt: str, role: str, content: str, begin: int) -> int:
    """Where the content stands: after the name of its role and a line break if it does so anywhere, else at first."""
    for break_ in ("\n", "\n\n", ": "):
        named = f"{role}{break_}{content}"
        place = prompt.find(named, begin)
        if place != -1:
            return place + len(named) - len(content)
    return prompt.find(content, begin)
