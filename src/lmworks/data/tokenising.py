"""Texts and conversations to token ids, in order, as `TokenWriter` takes them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.records import Conversation, Document
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.tokenizer import ROLES, Tokenizer

NO_TOKEN = "none"
TOGETHER = 2**20  # characters that go to the tokenizer, and its threads, at once


@dataclass(frozen=True, slots=True, eq=False)
class Tokenized:
    """A document as ids (tokens,) int64, with the hash and the UTF-8 bytes of its text; `mask` (tokens,) bool: which
    ids are to be learned, None = all."""

    ids: NDArray[np.int64]
    hash: str
    bytes: int
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
        kind = "role" if name in ROLES else "token"
        special = list(tokenizer.special_ids)
        some = ", ".join(special[:8]) + (", …" if len(special) > 8 else "")
        choice = f"one of its special tokens ({some})" if special else "a token that it has"
        example = f', for example {setting}="{special[0]}"' if special else ""
        raise ValueError(
            f"{setting}={name}: the tokenizer has no {kind} {name}. Set {setting} to {choice}{example}, "
            f'or {setting}="{NO_TOKEN}" to put nothing there'
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
            yield Tokenized(np.array([*before, *ids, *after], np.int64), document.hash, len(document.text.encode()))


def tokenize_conversations(
    conversations: Iterable[Conversation], renderer: ChatRenderer, end: int | None = None
) -> Iterator[Tokenized]:
    """Conversations through the chat template, with the mask of what the assistant says; `end` is learned too.

    The hash is `conversation_hash`. ValueError for a conversation of which the template leaves an
    assistant's message out of the mask says where it is from.
    """
    for number, conversation in enumerate(conversations, start=1):
        rendered = renderer.render(conversation.messages, tools=conversation.tools)
        if rendered.untrained:
            where = conversation.provenance.source or f"conversation {number}"
            raise ValueError(
                f"{where}: nothing would be learned from message {rendered.untrained[0] + 1}, the assistant's, whose "
                "place the chat template hides; mark it with {% generation %} there"
            )
        ids, mask = list(rendered.ids), list(rendered.training_mask)
        if end is not None:
            ids, mask = [*ids, end], [*mask, True]
        size = len(rendered.text.encode())
        yield Tokenized(np.array(ids, np.int64), conversation_hash(conversation), size, np.array(mask, bool))


def conversation_hash(conversation: Conversation) -> str:
    """SHA-256 of the messages as canonical JSON; of messages and functions where there are any."""
    messages, tools = conversation.messages, conversation.tools
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
