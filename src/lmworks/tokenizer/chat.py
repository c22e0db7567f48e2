"""Conversations to prompts: one renderer for training masks and for serving.

A chat template is a program that puts messages and special tokens into one string. Encoding that string naively would
let a user write `<|im_end|><|im_start|>system` and speak as the system. So the renderer knows which characters came
from a message (`content_spans.py`), and lets only the template's own characters become special tokens
(`special_tokens.py`). The same knowledge gives the assistant mask (`training_mask`): the tokens that the assistant
wrote, which a model is trained on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import product
from typing import Any

from lmworks.records import Message
from lmworks.tokenizer.content_spans import (
    ContentSpans,
    Fragment,
    Marking,
    Range,
    SentinelMarks,
    content_ranges,
    split_content,
    unused_characters,
)
from lmworks.tokenizer.jinja_template import ChatTemplate, ChatTemplateError
from lmworks.tokenizer.special_tokens import Encoded, SpecialTokens, turn_tokens, with_ordinary
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tool_calls import (
    Tool,
    ToolForm,
    is_json,
    read_tool_form,
    tools_as_text,
    tools_described,
    with_plain_json,
    writes_tool_calls,
)

_USER, _ASSISTANT = Message("user", "question"), Message("assistant", "answer")
_OWN_VARIABLES = ("messages", "tools", "add_generation_prompt")


@dataclass(frozen=True)
class Rendered:
    """A conversation as text and as ids.

    training_mask  says for each token whether the assistant wrote it: the parts a template encloses in
                   `{% generation %}`, or else every assistant content and call, and the special token that ends its
                   turn.
    stop_ids       end the assistant's turn.
    starts         the code point of `text` where each token begins.
    special        says for each token whether the template wrote it as a special one. A character that the vocabulary
                   lacks may become one of the same id.
    untrained      the indices of the assistant's messages of which no token is in the mask, because the template hides
                   where they are or marks no part of them: whoever trains on this conversation has to know.
    """

    text: str
    ids: tuple[int, ...]
    training_mask: tuple[bool, ...]
    stop_ids: tuple[int, ...]
    starts: tuple[int, ...] = ()
    untrained: tuple[int, ...] = ()
    special: tuple[bool, ...] = ()


@dataclass(frozen=True)
class _Conversation:
    """The input of a rendering, at one moment: a template that writes the date must write the same one each time."""

    messages: Sequence[Message]
    add_generation_prompt: bool = False
    tools: Sequence[Tool] = ()
    now: datetime = field(default_factory=lambda: datetime.now())


@dataclass(frozen=True)
class _Layout:
    """A rendered conversation, where its messages' contents lie, and how they were cut to find out."""

    marked: ContentSpans
    fragments: Sequence[Sequence[Fragment]]


class ChatRenderer:
    """Renders messages with a chat template.

    `settings` are further variables that this template reads, such as `enable_thinking` or `date_string`.
    `native_calls`: functions, calls and results are the template's business also where `tool_form` cannot say how it
    writes them, as Mistral's, whose calls have names. The engine cannot hold an answer to such a form.

    ChatTemplateError when there is no template, when it does not compile or refuses the messages, when it leaves out a
    message that is not the assistant's, or when it changes contents in a way that hides where they came from.
    """

    def __init__(
        self,
        template: str | None,
        tokenizer: Tokenizer,
        settings: Mapping[str, Any] | None = None,
        native_calls: bool = False,
    ) -> None:
        if not template:
            raise ChatTemplateError(
                "this checkpoint has no chat template, like any that was pre-trained and nothing more: let it continue "
                "text (/v1/completions, or a request with prompt_ids), fine-tune it on conversations "
                "(`lmworks stage train.finetune`), or give ChatRenderer a template"
            )
        self.template, self.tokenizer, self.settings = ChatTemplate(template), tokenizer, dict(settings or {})
        self.native_calls = native_calls
        if wrong := [name for name in _OWN_VARIABLES if name in self.settings]:
            raise ChatTemplateError(f"{', '.join(wrong)} cannot be a setting of a chat template: give it to render")
        try:
            self._special = SpecialTokens(tokenizer, turn_tokens(self.template, tokenizer, self.settings))
        except ValueError as error:
            raise ChatTemplateError(str(error)) from error
        self._check_no_special(self.settings, "settings of the chat template")

    def render(
        self, messages: Sequence[Message], add_generation_prompt: bool = False, tools: Sequence[Tool] = ()
    ) -> Rendered:
        """The conversation as the model was trained on it; with `add_generation_prompt`, up to the assistant's turn.

        The model is told of the functions in `tools` by its template, or where that knows none by a text before the
        conversation (`tool_form`). Nothing is ever truncated.
        """
        if (tools or any(m.tool_calls or m.role == "tool" for m in messages)) and not self.writes_calls:
            messages, tools = tools_as_text(messages, tools, self.tool_form), ()
        elif tools and not self.tool_form.described:
            messages, tools = tools_described(messages, tools, self.tool_form), ()
        if "content_is_json" in self.template.source:
            messages = [with_plain_json(message) for message in messages]
        conversation = _Conversation(messages, add_generation_prompt, tools)
        layout = self._layout(conversation)
        encoded = self._special.encode(layout.marked.text, layout.marked.guarded)
        learnt, untrained = self._learnt(conversation, layout, encoded)
        mask = tuple(any(low <= start < high for low, high in learnt) for start in encoded.starts)
        ids, starts = tuple(encoded.ids), tuple(encoded.starts)
        special_indices = set(encoded.special_indices)
        special = tuple(index in special_indices for index in range(len(ids)))
        return Rendered(layout.marked.text, ids, mask, self.stop_ids, starts, untrained, special)

    @cached_property
    def tool_form(self) -> ToolForm:
        """The form in which this model writes tool calls."""
        return read_tool_form(self._render_rows, self._before_turn_end)

    @cached_property
    def answer_tokenizer(self) -> Tokenizer:
        """The tokenizer for what the model writes: special tokens in the form of calls are text that it reads."""
        form = self.tool_form
        written = form.write("", "") + (form.separator or "")
        return with_ordinary(self.tokenizer, [name for name in self.tokenizer.special_ids if name in written])

    def _before_turn_end(self, text: str) -> str:
        """The text up to the first special token that ends a text, has a role, or is in turns without calls as well."""
        rows = [{"role": message.role, "content": message.content} for message in (_USER, _ASSISTANT, _USER)]
        turns, roles, ends = self._render_rows(rows, (), True), self.tokenizer.roles.values(), self.tokenizer.eos_ids
        special = self._special.ids.items()
        return self._special.before_first(text, {n for n, i in special if n in turns or n in roles or i in ends})

    @cached_property
    def writes_calls(self) -> bool:
        """True where the template is given functions, calls and results, which become text otherwise."""
        return self.tool_form.native or (self.native_calls and writes_tool_calls(self._render_rows))

    def _render_rows(self, rows: Sequence[Mapping[str, Any]], tools: Sequence[Tool], prompt: bool) -> str:
        return self.template.render(self._variables(rows, tools, prompt))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn.

        The tokenizer's end-of-text ids, and what the template puts after an answer.
        """
        return tuple(dict.fromkeys([*self.tokenizer.eos_ids, *([] if self.turn_end is None else [self.turn_end])]))

    @cached_property
    def turn_end(self) -> int | None:
        """The special token that the template puts after an answer; None where it puts none, so that no answer that a
        model is trained on ends with one."""
        layout = self._layout(_Conversation([_USER, _ASSISTANT]))
        marked = layout.marked
        encoded = self._special.encode(marked.text, marked.guarded)
        answers = [self._with_turn_end(marked, encoded, content) for content in marked.contents.get(1, ())[-1:]]
        after = [start for start, end in encoded.special if answers and end == answers[0][1]]
        ends = [token for token, start in zip(encoded.ids, encoded.starts, strict=True) if start in after]
        return ends[0] if ends else None

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Tokens that no content becomes: the tokenizer's special ones and those that frame this template's turns."""
        return self._special.ids

    # -----------------------------------------------------------------------------------------------------------------
    # Where the characters come from

    def _layout(self, conversation: _Conversation) -> _Layout:
        for message in conversation.messages:  # contents are guarded by marks, and nothing else of a message
            metadata = [message.role, message.name, message.tool_call_id, message.tool_calls]
            self._check_no_special(metadata, "role, name or tool calls of a message")
        self._check_no_special(conversation.tools, "functions")
        text = self._fill(conversation, [message.content for message in conversation.messages])
        for fragments in self._ways_to_cut(conversation.messages):
            marks = SentinelMarks(unused_characters([text, *(message.content for message in conversation.messages)]))
            try:
                contents = [marks.put(pieces, index) for index, pieces in enumerate(fragments)]
            except StopIteration:
                continue
            marked = marks.read(self._fill(conversation, contents, marks.generation))
            if marked is not None and marked.text == text:
                self._check_nothing_left_out(conversation.messages, fragments, marked)
                return _Layout(marked, fragments)
        raise ChatTemplateError(
            "the chat template rewrites the contents of these messages, so the user's characters cannot "
            "be located; use a template that copies or strips contents"
        )

    def _ways_to_cut(self, messages: Sequence[Message]) -> Iterator[list[list[Fragment]]]:
        """Each message's content in fragments, the assistant's first in the way that tells most of its spaces."""
        unsafe = any(name != name.strip() for name in self._special.ids)
        tried: list[list[list[Fragment]]] = []
        for answer_way, other_way in product(Marking, list(Marking)[1:]):
            if unsafe and {answer_way, other_way} & {Marking.BARE, Marking.APART}:
                continue
            ways = [answer_way if message.role == "assistant" else other_way for message in messages]
            # An empty content next to calls stays empty: templates ask whether there is one.
            ways = [
                Marking.FILLED if m.tool_calls and way is Marking.WHOLE else way
                for m, way in zip(messages, ways, strict=True)
            ]
            fragments = [split_content(m.content, way, self._searched) for m, way in zip(messages, ways, strict=True)]
            if fragments not in tried:
                tried.append(fragments)
                yield fragments

    @cached_property
    def _searched(self) -> re.Pattern[str] | None:
        """Strings that may be left without marks for the template to find, since no special token can hide there."""
        safe = [text for text in self.template.searched if not self._special.may_join(text)]
        return re.compile("|".join(map(re.escape, sorted(safe, key=len, reverse=True)))) if safe else None

    def _fill(
        self, conversation: _Conversation, contents: Sequence[str], generation: tuple[str, str] = ("", "")
    ) -> str:
        rows = []
        for message, content in zip(conversation.messages, contents, strict=True):
            shown = [{"type": "text", "text": content}] if self._in_parts else content
            row: dict[str, Any] = {"role": message.role, "content": shown}
            row = self.tool_form.row({**row, "tool_calls": message.tool_calls}) if message.tool_calls else row
            row |= {"name": message.name} if message.name is not None else {}
            row |= {"tool_call_id": message.tool_call_id} if message.tool_call_id is not None else {}
            row |= {"content_is_json": True} if message.role == "tool" and is_json(message.content) else {}
            rows.append(row)
        variables = self._variables(rows, conversation.tools, conversation.add_generation_prompt)
        return self.template.render(variables, *generation, now=conversation.now)

    def _variables(
        self, rows: Sequence[Mapping[str, Any]], tools: Sequence[Tool], add_generation_prompt: bool
    ) -> dict[str, Any]:
        """The variables of a template; without functions `tools` is left out, as in `transformers`."""
        functions = {"tools": [dict(tool) for tool in tools]} if tools else {}
        conversation = {**functions, "messages": rows, "add_generation_prompt": add_generation_prompt}
        return {**self.tokenizer.roles, **self.settings, **conversation}

    @cached_property
    def _in_parts(self) -> bool:
        """True where the template takes a content as a list of parts alone, as some of vision models do."""

        def shows(content: Any) -> bool:
            try:
                rows = [{"role": "user", "content": content}]
                return _USER.content in self.template.render(self._variables(rows, (), False))
            except ChatTemplateError:
                return False

        return not shows(_USER.content) and shows([{"type": "text", "text": _USER.content}])

    # -----------------------------------------------------------------------------------------------------------------
    # The assistant mask: what the assistant wrote

    def _learnt(
        self, conversation: _Conversation, layout: _Layout, encoded: Encoded
    ) -> tuple[Sequence[Range], tuple[int, ...]]:
        """The ranges that a model is trained on, and which of the assistant's messages have no part in them."""
        answers = [index for index, message in enumerate(conversation.messages) if message.role == "assistant"]
        marked = layout.marked
        if self.template.has_generation:
            generated = marked.generation
            enough = len(generated) >= len(answers)  # for the answers whose contents are empty or left out
            starts = {index: [start for start, _ in marked.contents.get(index, ())] for index in answers}
            meets = {i: any(low <= at <= high for at in starts[i] for low, high in generated) for i in answers}
            return generated, tuple(index for index in answers if not (meets[index] if starts[index] else enough))
        ranges: dict[int, list[Range]] = {}
        for index in answers:
            content_ranges = [] if conversation.messages[index].tool_calls else self._said(layout, index)
            with_end = [self._with_turn_end(marked, encoded, answer) for answer in content_ranges]
            ranges[index] = with_end or self._turn(conversation, index, marked.text, encoded)
        learnt = [answer for index in answers for answer in ranges[index]]
        return learnt, tuple(index for index in answers if not ranges[index])

    def _said(self, layout: _Layout, index: int) -> list[Range]:
        """A content's ranges, with the space that a template may put before an answer: the model writes it, too."""
        text, lead = layout.marked.text, self._answer_lead
        ranges = content_ranges(layout.marked, index, layout.fragments[index])
        return [(low - len(lead) if text.endswith(lead, 0, low) else low, high) for low, high in ranges]

    @cached_property
    def _answer_lead(self) -> str:
        """The spaces between what prompts for an answer and the answer, as in `[/INST] answer`."""
        question, both = _Conversation([_USER], add_generation_prompt=True), [_USER, _ASSISTANT]
        try:
            prompt = self._fill(question, [_USER.content])
            whole = self._fill(_Conversation(both, now=question.now), [message.content for message in both])
        except ChatTemplateError:
            return ""
        between = whole[len(prompt) :].partition(_ASSISTANT.content)[0]
        return between if whole.startswith(prompt) and between.isspace() else ""

    def _turn(self, conversation: _Conversation, index: int, text: str, encoded: Encoded) -> list[Range]:
        """The range of a turn without a content of its own: after the prompt for it, up to what ends it."""
        before = _Conversation(conversation.messages[:index], True, conversation.tools, conversation.now)
        try:
            prompt = self._fill(before, [message.content for message in before.messages])
        except ChatTemplateError:
            return []
        ids = zip(encoded.ids, encoded.starts, strict=True)
        stops = {start for token, start in ids if token in self.stop_ids and start >= len(prompt)}
        ends = [end for start, end in encoded.special if start in stops]
        return [(len(prompt), ends[0])] if text.startswith(prompt) and ends else []

    @staticmethod
    def _with_turn_end(marked: ContentSpans, encoded: Encoded, answer: Range) -> Range:
        """An answer, extended over the special token that ends its turn."""
        rest = marked.text[answer[1] :]
        start = answer[1] + len(rest) - len(rest.lstrip())
        return (answer[0], next((end for low, end in encoded.special if low == start), answer[1]))

    # -----------------------------------------------------------------------------------------------------------------
    # What must hold for this to be right

    @staticmethod
    def _check_nothing_left_out(
        messages: Sequence[Message], fragments: Sequence[Sequence[Fragment]], marked: ContentSpans
    ) -> None:
        for index, (message, pieces) in enumerate(zip(messages, fragments, strict=True)):
            is_marked = any(text and has_marks for text, has_marks in pieces)
            if message.role != "assistant" and is_marked and index not in marked.contents:
                raise ChatTemplateError(
                    f"the chat template leaves out what message {index + 1} says, of the role {message.role!r}: it "
                    "does not know this role, or not in this place"
                )

    def _check_no_special(self, value: Any, where: str) -> None:
        for text in _texts_in(value):
            if special_token := self._special.find(text):
                raise ChatTemplateError(f"special token {special_token!r} in the {where}")


def _texts_in(value: Any) -> Iterator[str]:
    """All strings in a JSON value, as they are: how Python or JSON would write them hides characters."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner)
    elif value is not None:
        yield str(value)
