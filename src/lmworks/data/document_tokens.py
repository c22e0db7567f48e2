"""Texts and conversations to token ids, in order, as `TokenWriter` takes them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.data.config import Learn
from lmworks.data.conversations import Dialogue, turns_of
from lmworks.records import Document, Message
from lmworks.tokenizer.chat import ChatRenderer, Rendered
from lmworks.tokenizer.tokenizer import ROLES, Tokenizer
from lmworks.tokenizer.tool_calls import Tool

NO_TOKEN = "none"
TOGETHER = 2**20  # characters that go to the tokenizer, and its threads, at once


@dataclass(frozen=True, slots=True, eq=False)
class Tokenized:
    """A document as ids (tokens,) int64, with the hash of its text; `mask` (tokens,) bool: which ids are to be learned,
    None = all."""

    ids: NDArray[np.int64]
    hash: str
    mask: NDArray[np.bool_] | None = None


def framing_id(tokenizer: Tokenizer, name: str, setting: str = "end") -> int | None:
    """The id that `name` stands for: a role such as `eos_token`, a token, or `none`, which is None.

    ValueError for a role that the tokenizer does not fill, or a token that it does not have, names the `setting`.
    """
    if name == NO_TOKEN:
        return None
    token = tokenizer.roles.get(name) if name in ROLES else name
    found = None if token is None else tokenizer.backend.token_to_id(token)
    if found is None:
        some = ", ".join([*tokenizer.special_ids][:8]) or "none"
        raise ValueError(
            f"{setting}={name}: the tokenizer has no such role or token. Set {setting} to one of its special tokens "
            f'({some}), or {setting}="{NO_TOKEN}" to put nothing there'
        )
    return found


def tokenize_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, begin: int | None, end: int | None
) -> Iterator[Tokenized]:
    """The documents' texts as ids, `begin` before and `end` after each; on all cores, in the order given."""
    before = [] if begin is None else [begin]
    after = [] if end is None else [end]
    for group in _grouped(documents):
        for document, ids in zip(group, tokenizer.encode_batch([d.text for d in group]), strict=True):
            yield Tokenized(np.array([*before, *ids, *after], np.int64), document.hash)


def tokenize_conversations(
    dialogues: Iterable[Dialogue],
    renderer: ChatRenderer,
    learn: Learn = "all",
    length: int | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[Tokenized]:
    """Dialogues through the chat template, with the mask of what is learned (`learned_mask`); `conversation_hash`.

    A dialogue of more than `length` tokens loses its last turns, so that it ends with an answer (`counts` has how many:
    "cut"); one of which not even the first exchange fits is left out ("too_long"). "letters": in how many the assistant
    writes the name of a special token. ValueError says where a dialogue is from that the template refuses, or whose
    answers it hides.
    """
    counts = Counter() if counts is None else counts
    for dialogue in dialogues:
        try:
            whole, kept = _longest(dialogue, renderer, length)
            if whole is None:
                counts["too_long"] += 1
                continue
            messages, given = turns_of(dialogue)
            mask = learned_mask(whole, messages[:kept], given, renderer, learn, dialogue.tools)
        except ValueError as error:
            raise ValueError(f"{dialogue.provenance.source or 'a conversation'}: {error}") from error
        said = [message.content for message in messages[given:kept] if message.role == "assistant"]
        counts["letters"] += any(name in text for name in renderer.special_ids for text in said)
        counts["cut"] += kept < len(messages)
        yield Tokenized(np.array(whole.ids, np.int64), conversation_hash(dialogue), mask)


def _longest(row: Dialogue, renderer: ChatRenderer, length: int | None) -> tuple[Rendered | None, int]:
    """All messages of a row, or as many as end with an answer and have at most `length` tokens, and how many these
    are."""
    messages, given = turns_of(row)
    answers = [end for end in range(len(messages) - 1, given, -1) if messages[end - 1].role == "assistant"]
    for kept in (len(messages), *answers):
        whole = renderer.render(messages[:kept], tools=row.tools)
        if length is None or len(whole.ids) <= length:
            return whole, kept
    return None, 0


def learned_mask(
    whole: Rendered,
    messages: Sequence[Message],
    given: int,
    renderer: ChatRenderer,
    learn: Learn = "all",
    tools: Sequence[Tool] = (),
) -> NDArray[np.bool_]:
    """(tokens,) of the rendered messages: those of the assistant's turns, but not of the first `given` messages, or of
    its last turn alone, and always what ends a turn that is learned.

    ValueError where the template hides an answer, or writes the prompt in another way when an answer follows it.
    """
    if learn == "last":
        given = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=given)
    speaks = any(message.role == "assistant" for message in messages[:given])
    mask = learned_part(prompts_of(messages[:given], renderer, tools) if speaks else (), whole, given)
    stops = np.isin(whole.ids, whole.stop_ids)
    mask[1:] |= mask[:-1] & stops[1:] & ~stops[:-1]  # also where a {% generation %} does not enclose it
    return mask


def prompts_of(messages: Sequence[Message], renderer: ChatRenderer, tools: Sequence[Tool]) -> Sequence[Rendered]:
    """The messages as they may stand before an answer: some templates end them as a text, unless one is to follow."""
    return [renderer.render(messages, to_follow, tools) for to_follow in (False, True)]


def learned_part(prompts: Sequence[Rendered], whole: Rendered, given: int) -> NDArray[np.bool_]:
    """(tokens,): the mask of `whole` behind the prompt, of `given` messages. ValueErrors as in `learned_mask`."""
    if hidden := [message for message in whole.untrained if message >= given]:
        raise ValueError(
            f"nothing would be learned from message {hidden[0] + 1}, the assistant's, whose place the chat template "
            "hides; mark it with {% generation %} there"
        )
    starts = [len(prompt.text) for prompt in prompts if whole.text.startswith(prompt.text)]
    if prompts and not starts:
        raise ValueError("the chat template writes this prompt in another way when a completion follows it")
    return np.array(whole.training_mask, bool) & (np.array(whole.starts, np.int64) >= max(starts, default=0))


def conversation_hash(row: Dialogue) -> str:
    """SHA-256 of the messages as canonical JSON; of messages and functions where there are any."""
    messages, tools = turns_of(row)[0], row.tools
    return hash_json({"messages": messages, "tools": tools} if tools else messages)


def _grouped(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Runs of documents of `TOGETHER` characters and a little more."""
    group: list[Document] = []
    characters = 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if characters >= TOGETHER:
            yield group
            group, characters = [], 0
    if group:
        yield group
