"""Conversations to prompts: one renderer for training masks and for serving.

A chat template is a program that puts messages and special tokens into one string. Encoding that string naively would
let a user write `<|im_end|><|im_start|>system` and speak as the system. So the renderer knows which characters came
from a message: it renders a second time with marks around every content, reads off where the contents lie, and lets
only the template's own characters become special tokens. The same marks say which tokens the assistant wrote, which is
what a model is trained on.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmworks.records import Message
from lmworks.tokenizer.template import ChatTemplate, ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tool_calls import Tool, ToolForm, as_text, form_of

Range = tuple[int, int]  # code points [start, end) of the rendered text


@dataclass(frozen=True)
class Rendered:
    """A conversation as text and as ids.

    `training_mask[i]` says whether the assistant wrote token i: the parts a template encloses in `{% generation %}`, or
    else every assistant content and the special token that ends its turn. `stop_ids` end the assistant's turn.
    """

    text: str
    ids: tuple[int, ...]
    training_mask: tuple[bool, ...]
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class _Layout:
    """Where in a rendered text the contents of messages lie, and what the assistant wrote."""

    text: str
    contents: tuple[Range, ...]
    answers: tuple[Range, ...]


class ChatRenderer:
    """Renders messages with a chat template.

    ChatTemplateError when there is no template, when it does not compile or refuses the messages, or when it changes
    the contents of messages in a way that hides where they came from.
    """

    def __init__(self, template: str | None, tokenizer: Tokenizer) -> None:
        if not template:
            raise ChatTemplateError(
                "this checkpoint has no chat template: give one to ChatRenderer, or use a chat-tuned checkpoint"
            )
        self.template, self.tokenizer = ChatTemplate(template), tokenizer
        # A longer token wins over its own beginning.
        by_length = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._check_isolation()

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = False, tools: Sequence[Tool] = ()
    ) -> Rendered:
        """The conversation as the model was trained on it; with `add_generation_prompt`, up to the assistant's turn.

        The model is told of the functions in `tools` by its template, or where that knows none by a text before the
        conversation (`tool_form`).
        """
        if (tools or any(m.tool_calls or m.role == "tool" for m in messages)) and not self.tool_form.native:
            messages, tools = as_text(messages, tools, self.tool_form), ()
        layout = self._layout(messages, add_generation_prompt, tools)
        ids: list[int] = []
        mask: list[bool] = []
        learnt = [self._with_turn_end(layout, answer) for answer in layout.answers]
        for start, end, token in self._pieces(layout):
            if token is not None:
                piece_ids, starts = [token], [start]
            else:
                piece_ids, offsets = self.tokenizer.encode_with_offsets(layout.text[start:end])
                starts = [start + offset for offset, _ in offsets]
            ids += piece_ids
            mask += [any(low <= position < high for low, high in learnt) for position in starts]
        return Rendered(layout.text, tuple(ids), tuple(mask), self.stop_ids)

    @cached_property
    def tool_form(self) -> ToolForm:
        """How this model writes calls of functions."""

        def render(rows: Sequence[Mapping[str, Any]], tools: Sequence[Tool], add_generation_prompt: bool) -> str:
            return self.template.render(self._variables(rows, tools, add_generation_prompt))

        return form_of(render, lambda text: self._special.split(text, maxsplit=1)[0])

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn.

        The tokenizer's end-of-text ids, and what the template puts after an answer.
        """
        layout = self._layout([Message("user", "question"), Message("assistant", "answer")], False)
        answer_end = layout.text.rindex("answer") + len("answer")
        specials = [(start, token) for start, _, token in self._pieces(layout) if token is not None]
        ends = [token for start, token in specials if not layout.text[answer_end : max(start, answer_end)].strip()]
        after = [token for (start, token) in specials if start >= answer_end and token in ends][:1]
        return tuple(dict.fromkeys([*self.tokenizer.eos_ids, *after]))

    # -----------------------------------------------------------------------------------------------------------------
    # Where the characters come from

    def _layout(self, messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[Tool] = ()) -> _Layout:
        for message in messages:
            self._check_metadata(message)
        self._check_no_special(str(tools), "functions")
        text = self._fill(messages, add_generation_prompt, tools, None, stripped=False)
        marks = _unused_characters(text)
        # Most templates copy a content as it is, some strip it first: marks inside the outer spaces survive that.
        for stripped in (False, True):
            layout = _read_marks(self._fill(messages, add_generation_prompt, tools, marks, stripped), marks)
            if layout is not None and layout.text == text:
                return layout
        raise ChatTemplateError(
            "the chat template rewrites the contents of these messages, so it cannot be told which characters are the "
            "user's; use a template that copies or strips contents"
        )

    def _fill(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Tool],
        marks: str | None,
        stripped: bool,
    ) -> str:
        rows = []
        for message in messages:
            row: dict[str, Any] = {"role": message.role, "content": message.content}
            # An empty content beside calls stays empty: templates ask whether there is one.
            if marks is not None and (message.content or not message.tool_calls):
                answer = message.role == "assistant" and not self.template.has_generation
                row["content"] = _mark(message.content, marks[2:4] if answer else marks[0:2], stripped)
            row |= {"tool_calls": [dict(call) for call in message.tool_calls]} if message.tool_calls else {}
            row |= {"name": message.name} if message.name is not None else {}
            row |= {"tool_call_id": message.tool_call_id} if message.tool_call_id is not None else {}
            rows.append(row)
        variables = self._variables(rows, tools, add_generation_prompt)
        return self.template.render(variables, *(marks[4:6] if marks is not None else ("", "")))

    def _variables(
        self, rows: Sequence[Mapping[str, Any]], tools: Sequence[Tool], add_generation_prompt: bool
    ) -> dict[str, Any]:
        """What a template may read; like `transformers`, it is told of no functions by leaving `tools` out."""
        told = {"tools": [dict(tool) for tool in tools]} if tools else {}
        return {**self.tokenizer.roles, **told, "messages": rows, "add_generation_prompt": add_generation_prompt}

    def _pieces(self, layout: _Layout) -> Iterator[tuple[int, int, int | None]]:
        """The text cut at the template's special tokens: (start, end, id), with id None for ordinary text."""
        done, position = 0, 0
        for start, end in (*layout.contents, (len(layout.text), len(layout.text))):
            for match in self._special.finditer(layout.text, position, start):
                if done < match.start():
                    yield done, match.start(), None
                yield match.start(), match.end(), self.tokenizer.special_ids[match.group()]
                done = match.end()
            position = end
        if done < len(layout.text):
            yield done, len(layout.text), None

    def _with_turn_end(self, layout: _Layout, answer: Range) -> Range:
        """An answer, extended over the special token that ends its turn."""
        if self.template.has_generation:
            return answer
        match = self._special.match(layout.text, answer[1] + _leading_space(layout.text[answer[1] :]))
        return (answer[0], match.end()) if match else answer

    # -----------------------------------------------------------------------------------------------------------------
    # What must hold for this to be right

    def _check_metadata(self, message: Message) -> None:
        """Only contents are guarded by marks; the rest of a message must not hold a special token at all."""
        metadata = f"{message.role} {message.name} {message.tool_call_id} {message.tool_calls}"
        self._check_no_special(metadata, "role, name or tool calls of a message")

    def _check_no_special(self, text: str, where: str) -> None:
        if found := self._special.search(text):
            raise ChatTemplateError(f"special token {found.group()!r} in the {where}")

    def _check_isolation(self) -> None:
        """Cutting at special tokens must not change the ids around them, as when a token swallows its spaces."""
        before, after = self.tokenizer.encode(" a "), self.tokenizer.encode(" b")
        reader = copy.deepcopy(self.tokenizer.backend)
        reader.encode_special_tokens = False
        for token, index in self.tokenizer.special_ids.items():
            if reader.encode(f" a {token} b", add_special_tokens=False).ids != [*before, index, *after]:
                raise ChatTemplateError(f"{token!r} changes how the tokenizer reads its neighbours: not supported")


def _unused_characters(text: str) -> str:
    """Six private-use characters that do not occur in `text`: three pairs of an opening and a closing mark."""
    present = set(text)
    unused = (character for character in map(chr, range(0xE000, 0xF900)) if character not in present)
    return "".join(next(unused) for _ in range(6))


def _mark(content: str, pair: str, stripped: bool) -> str:
    if not stripped:
        return pair[0] + content + pair[1]
    core = content.strip()
    start = content.index(core)
    return content[:start] + pair[0] + core + pair[1] + content[start + len(core) :]


def _read_marks(marked: str, marks: str) -> _Layout | None:
    """Takes the marks out again and notes where they stood; None if they do not come in matching pairs."""
    kept: list[str] = []
    opened: dict[int, int] = {}
    ranges: tuple[list[Range], list[Range], list[Range]] = ([], [], [])  # contents, answers, generation parts
    for character in marked:
        kind, closing = divmod(marks.find(character), 2)
        if kind < 0:
            kept.append(character)
        elif not closing and kind not in opened:
            opened[kind] = len(kept)
        elif closing and kind in opened:
            ranges[kind].append((opened.pop(kind), len(kept)))
        else:
            return None
    contents = tuple(sorted(ranges[0] + ranges[1]))
    return None if opened else _Layout("".join(kept), contents, tuple(ranges[1] + ranges[2]))


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())
