"""The parts of an interaction's page: its prompt by source, its tokens by probability, its time by phase."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmworks.records import Message, PromptSpan

Source = Literal["system", "user", "assistant", "tool", "template"]
Render = Callable[[Sequence[Message]], str]  # messages into a prompt that ends where the assistant begins

_FIRST_MARK = 0xE000  # private-use characters stand for contents


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A run of characters of the prompt, who wrote it, and which part of a versioned prompt it is."""

    source: Source
    text: str
    part: str = ""


def prompt_parts(
    prompt: str, messages: Sequence[Message], render: Render | None = None, spans: Sequence[PromptSpan] = ()
) -> tuple[PromptPart, ...]:
    """The parts of a prompt in order; they join to it. `spans` are those of a versioned prompt in the messages.

    With `render`, the template itself says what it puts around the messages. Without it, or where the prompt does not
    come out the same (another template made it), contents are looked for in order, each after the name of its role
    where it stands there. A content that is not found, since a template or a redaction changed it, stays a part of the
    template's text.
    """
    ranges = (_rendered_places(prompt, messages, render) if render else None) or _found_places(prompt, messages)
    parts: list[PromptPart] = []
    done = 0
    for message, start, end in ranges:
        if done < start:
            parts.append(PromptPart("template", prompt[done:start]))
        if start < end:
            of_message = [span for span in spans if span.message < len(messages) and messages[span.message] is message]
            parts += _by_part(message, prompt[start:end], of_message)
        done = end
    if done < len(prompt):
        parts.append(PromptPart("template", prompt[done:]))
    return tuple(parts)


def _by_part(message: Message, text: str, spans: Sequence[PromptSpan]) -> Iterator[PromptPart]:
    """A content, which a template may have stripped, cut at the ends of its parts."""
    done, shift = 0, message.content.index(text) if text in message.content else 0
    for span in spans:
        start, end = max(span.start - shift, done), min(span.end - shift, len(text))
        if done < start < end:
            yield PromptPart(message.role, text[done:start])
        if start < end:
            yield PromptPart(message.role, text[start:end], span.part)
            done = end
    if done < len(text):
        yield PromptPart(message.role, text[done:])


def _rendered_places(prompt: str, messages: Sequence[Message], render: Render) -> list[tuple[Message, int, int]] | None:
    """The places of the contents when the template copies them, or strips them first; None when it does neither."""
    marks = [chr(_FIRST_MARK + number) for number in range(len(messages))]
    if len(marks) > 6000 or any(mark in prompt for mark in marks):
        return None
    skeleton = render([replace(m, content=mark) for m, mark in zip(messages, marks, strict=True)])
    if [character for character in skeleton if character in set(marks)] != marks:
        return None
    for contents in ([m.content for m in messages], [m.content.strip() for m in messages]):
        ranges: list[tuple[Message, int, int]] = []
        remaining, length = skeleton, 0
        for message, mark, content in zip(messages, marks, contents, strict=True):
            before, _, remaining = remaining.partition(mark)
            start = length + len(before)
            length = start + len(content)
            ranges.append((message, start, length))
        filled = skeleton
        for mark, content in zip(marks, contents, strict=True):
            filled = filled.replace(mark, content)
        if filled == prompt:
            return ranges
    return None


def _found_places(prompt: str, messages: Sequence[Message]) -> list[tuple[Message, int, int]]:
    ranges: list[tuple[Message, int, int]] = []
    done = 0
    for message in messages:
        content = message.content if message.content in prompt else message.content.strip()
        if not content:
            continue
        start = _after_role(prompt, message.role, content, done)
        if start != -1:
            ranges.append((message, start, start + len(content)))
            done = start + len(content)
    return ranges


def _after_role(prompt: str, role: str, content: str, begin: int) -> int:
    """The place of the content: after the name of its role and a line break if it does so anywhere, else at first."""
    for break_ in ("\n", "\n\n", ": "):
        named = f"{role}{break_}{content}"
        offset = prompt.find(named, begin)
        if offset != -1:
            return offset + len(named) - len(content)
    return prompt.find(content, begin)


# ---------------------------------------------------------------------------------------------------------------------
# Tokens shaded by their probability

SHADES = 10
LIMIT = 4096  # tokens shown; a page with more is of no use to a reader


@dataclass(frozen=True, slots=True)
class ShadedToken:
    """`shade` is the tenth that the probability lies in, 0 to 9."""

    text: str
    probability: float
    shade: int

    @property
    def shown(self) -> str:
        """The probability with two figures, however small."""
        return f"{self.probability:.2f}" if self.probability >= 0.1 else f"{self.probability:.2g}"


@dataclass(frozen=True, slots=True)
class ShadedText:
    """The first tokens of a completion; `left_out` counts those after. `perplexity` is that of all of them."""

    tokens: tuple[ShadedToken, ...]
    left_out: int
    perplexity: float
    least: ShadedToken


def shaded(
    ids: Sequence[int], log_probabilities: Sequence[float], decode: Callable[[Sequence[int]], str]
) -> ShadedText | None:
    """None when there are no tokens, or not one log-probability for each.

    `decode` turns ids into text; bytes of one character may be spread over several tokens, which show as U+FFFD.
    """
    if not ids or len(ids) != len(log_probabilities):
        return None
    tokens: list[ShadedToken] = []
    for token_id, log_probability in zip(ids[:LIMIT], log_probabilities[:LIMIT], strict=True):
        probability = min(1.0, math.exp(log_probability))
        shade = min(SHADES - 1, int(probability * SHADES))
        tokens.append(ShadedToken(decode([token_id]), probability, shade))
    mean = sum(log_probabilities) / len(log_probabilities)
    return ShadedText(
        tokens=tuple(tokens),
        left_out=len(ids) - len(tokens),
        perplexity=math.exp(min(700.0, -mean)),
        least=min(tokens, key=lambda token: token.probability),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Phases as bars of a waterfall

TOTAL = "total"
REST = "other"  # what no phase accounts for

_MEANING = {
    "queued": "waiting for a free slot",
    "prefill": "reading the prompt",
    "decode": "writing the answer",
    "search": "finding passages",
    "measure": "measuring candidate sentences",
    "decide": "choosing citations, or abstaining",
    REST: "not accounted for by a phase",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase: seconds, and its place as percentages of the whole."""

    name: str
    meaning: str
    seconds: float
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    bars: tuple[Bar, ...]
    total: float

    @property
    def slowest(self) -> Bar | None:
        return max(self.bars, key=lambda bar: bar.seconds, default=None)


def waterfall(timings: Mapping[str, float]) -> Waterfall:
    """Bars in the order of the phases; their seconds sum to `total`.

    `timings` are seconds by phase, then "total". A total larger than the sum of the phases gives a last bar "other";
    one that is missing or smaller (clocks are read one after the other) is replaced by the sum.
    """
    phases = {name: max(0.0, seconds) for name, seconds in timings.items() if name != TOTAL}
    spent = sum(phases.values())
    total = max(timings.get(TOTAL, 0.0), spent)
    if total - spent > 1e-3 * total:
        phases[REST] = phases.get(REST, 0.0) + total - spent
    bars: list[Bar] = []
    begin = 0.0
    for name, seconds in phases.items():
        left, width = (100 * (begin / total), 100 * (seconds / total)) if total else (0.0, 0.0)
        bars.append(Bar(name, _MEANING.get(name, ""), seconds, left, width))
        begin += seconds
    return Waterfall(tuple(bars), total)
