"""Text in which only some of the special tokens are meant, to ids.

`Tokenizer.encode` makes letters of every special token's name, a tokenizer on its own makes tokens of all of them. A
rendered conversation needs both: tokens where the template wrote the name, letters where a message did. So the text is
cut at the names that are meant, what lies between is encoded as text, and the ids are put in between, with two things
kept as they are without cutting: a token may swallow the spaces next to it, and a text that does not begin a sequence
may be read differently from one that does.
"""

import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import tokenizers
from tokenizers import AddedToken

from lmworks.tokenizer.content_spans import Range
from lmworks.tokenizer.jinja_template import ChatTemplate, ChatTemplateError
from lmworks.tokenizer.split_special_tokens import encoding_of, split_special_tokens
from lmworks.tokenizer.tokenizer import Tokenizer

_LEAD = "\U0010ffff"  # no character: stands before a text that does not begin the sequence, and is cut off again
# What the library's regular expressions take for spaces; Python's own counts four control characters more.
_SPACES = re.compile(r"[^\S\x1c-\x1f]*")
_SPACES_BEFORE = re.compile(r"[^\S\x1c-\x1f]+\Z")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids, for each the code point of the text where it starts, and the ranges of the special tokens among them.

    special_indices  where these are among the ids: a character that the vocabulary lacks may have the id of one.
    """

    ids: list[int]
    starts: list[int]
    special: list[Range]
    special_indices: list[int]


class SpecialTokens:
    """The special tokens of a tokenizer, and `more` added tokens that are to be treated like them.

    `ids` gives the id of each. ValueError where cutting a text at one of them changes the ids around it.
    """

    def __init__(self, tokenizer: Tokenizer, more: Collection[str] = ()) -> None:
        added = {token.content: (index, token) for index, token in tokenizer.backend.get_added_tokens_decoder().items()}
        self._tokens = {name: token for name, (_, token) in added.items() if token.special or name in more}
        self.ids = {name: added[name][0] for name in self._tokens}
        # A longer token wins over its own beginning.
        by_length = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._backend = _copy(tokenizer.backend)
        if more:
            _mark(self._backend, more)
        self._plain = _copy(self._backend) if more else tokenizer.backend
        self._backend.add_tokens([AddedToken(_LEAD, special=False, normalized=False)])
        self._check_neighbours()

    def find(self, text: str) -> str | None:
        """The first name of a special token in a text."""
        match = self._pattern.search(text)
        return match.group() if match else None

    def before_first(self, text: str, names: Collection[str]) -> str:
        """The text up to the first special token with one of the names."""
        return text[: next((match.start() for match in self._pattern.finditer(text) if match[0] in names), len(text))]

    def may_join(self, text: str) -> bool:
        """True where a special token might be put together from some of this text and what stands next to it."""
        for name in self.ids:
            if name in text or text in name:
                return True
            if any(text.endswith(name[:size]) or text.startswith(name[-size:]) for size in range(1, len(name))):
                return True
        return False

    def encode(self, text: str, guarded: Sequence[Range] = ()) -> Encoded:
        """`guarded` ranges, in order, are text whatever they hold; no special token reaches into one."""
        encoded = Encoded([], [], [], [])
        done = 0
        for match in self._outside(text, guarded):
            token = self._tokens[match.group()]
            end = match.start()
            if token.lstrip and (spaces := _SPACES_BEFORE.search(text, done, end)):
                end = spaces.start()
            self._add_text(encoded, text, done, end)
            encoded.special_indices.append(len(encoded.ids))
            encoded.ids.append(self.ids[match.group()])
            encoded.starts.append(match.start())
            encoded.special.append(match.span())
            spaces = _SPACES.match(text, match.end())
            done = spaces.end() if token.rstrip and spaces else match.end()
        self._add_text(encoded, text, done, len(text))
        return encoded

    def _outside(self, text: str, guarded: Sequence[Range]) -> Iterator[re.Match[str]]:
        position = 0
        for start, end in (*guarded, (len(text), len(text))):
            yield from self._pattern.finditer(text, position, start)
            position = max(position, end)

    def _add_text(self, encoded: Encoded, text: str, start: int, end: int) -> None:
        piece = text[start:end]
        if not piece:
            return
        if encoded.ids and _LEAD not in piece:
            encoding = encoding_of(self._backend, _LEAD + piece)
            ids, offsets = encoding.ids[1:], [(low - 1, high - 1) for low, high in encoding.offsets[1:]]
        else:
            encoding = encoding_of(self._plain, piece)
            ids, offsets = encoding.ids, encoding.offsets
        encoded.ids.extend(ids)
        encoded.starts.extend(start + low for low, _ in offsets)

    def _check_neighbours(self) -> None:
        """Cutting at special tokens must not change the ids around them in a way that is not provided for above."""
        for name, token in self._tokens.items():
            if token.single_word:
                raise ValueError(f"{name!r} is a token only where no letter stands next to it: not supported")
        self._backend.encode_special_tokens = False
        uncut = {name: self._backend.encode(f" a {name} b", add_special_tokens=False).ids for name in self.ids}
        self._backend.encode_special_tokens = True
        for name, ids in uncut.items():
            if self.encode(f" a {name} b").ids != ids:
                raise ValueError(f"{name!r} changes how the tokenizer reads its neighbours: not supported")


def with_more_special(tokenizer: Tokenizer, more: Collection[str]) -> Tokenizer:
    """Another tokenizer, in whose texts `more` added tokens are text as well; its hash is another, the ids are not."""
    if not more:
        return tokenizer
    backend = _copy(tokenizer.backend)
    _mark(backend, more)
    return Tokenizer(backend, tokenizer.roles, tokenizer.eos_ids)


def with_ordinary(tokenizer: Tokenizer, names: Collection[str]) -> Tokenizer:
    """Another tokenizer, in which these special tokens are ordinary ones: decoded like text, and found in texts."""
    if not names:
        return tokenizer
    state = json.loads(tokenizer.backend.to_str())
    for token in state["added_tokens"]:
        token["special"] &= token["content"] not in names
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)), tokenizer.roles, tokenizer.eos_ids)


def _mark(backend: tokenizers.Tokenizer, names: Collection[str]) -> None:
    """Makes special tokens of those that were ordinary ones until now."""
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in sorted(names)])
    split_special_tokens(backend, names)


def _copy(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Another tokenizer that does the same; the library's own copy would find special tokens in texts again."""
    copied = copy.deepcopy(backend)
    copied.encode_special_tokens = True
    return copied


# ---------------------------------------------------------------------------------------------------------------------
# Special tokens of a chat template

_SYSTEM, _USER, _ASSISTANT = ("system", "instruction"), ("user", "question"), ("assistant", "answer")
_CONVERSATIONS = ((_USER,), (_SYSTEM, _USER), (_USER, _ASSISTANT, _USER))


def turn_tokens(template: ChatTemplate, tokenizer: Tokenizer, settings: Mapping[str, Any] | None = None) -> set[str]:
    """Added tokens that the tokenizer does not call special though this template frames turns with them.

    Not those that it looks for in contents: such a token is a part of what is said. `settings` are further variables of
    the template.
    """
    added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
    ordinary = {name for name in added if name not in tokenizer.special_ids and name.strip()}
    if not ordinary:
        return set()
    # Contents as texts and, for templates that take nothing else, as lists of parts.
    texts = []
    for conversation, in_parts in product(_CONVERSATIONS, (False, True)):
        rows = [
            {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}
            for role, content in conversation
        ]
        variables = {**tokenizer.roles, **(settings or {}), "messages": rows, "add_generation_prompt": False}
        with suppress(ChatTemplateError):
            texts.append(template.render(variables))
    contents = [content for _, content in (_SYSTEM, _USER, _ASSISTANT)]
    searched = {name for name in ordinary if any(name in text for text in (*contents, *template.searched))}
    return {name for name in ordinary - searched if any(name in text for text in texts)}
