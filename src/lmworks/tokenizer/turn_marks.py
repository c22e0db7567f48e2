"""The tokens that frame a chat template's turns, also those that a tokenizer does not call special."""

from collections.abc import Mapping
from typing import Any

from lmworks.tokenizer.jinja_template import ChatTemplate, ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer

_SYSTEM, _USER, _ASSISTANT = ("system", "instruction"), ("user", "question"), ("assistant", "answer")
_CONVERSATIONS = ((_USER,), (_SYSTEM, _USER), (_USER, _ASSISTANT, _USER))


def turn_marks(template: ChatTemplate, tokenizer: Tokenizer, settings: Mapping[str, Any] | None = None) -> set[str]:
    """Added tokens that the tokenizer does not call special though this template frames turns with them.

    Not those that it looks for in contents: such a token is a part of what is said. `settings` are further variables of
    the template.
    """
    added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
    ordinary = [name for name in added if name not in tokenizer.special_ids and name.strip()]
    texts = _renderings(template, {**tokenizer.roles, **(settings or {})}) if ordinary else []
    found = {name for name in ordinary if any(name in text for text in texts)}
    said = [content for _, content in (_SYSTEM, _USER, _ASSISTANT)]
    return {name for name in found if not any(name in text for text in (*said, *template.searched))}


def _renderings(template: ChatTemplate, variables: Mapping[str, Any]) -> list[str]:
    """Short conversations, their contents as texts and, for templates that take nothing else, as lists of parts."""
    texts = []
    for conversation in _CONVERSATIONS:
        for in_parts in (False, True):
            rows = [
                {"role": role, "content": [{"type": "text", "text": content}] if in_parts else content}
                for role, content in conversation
            ]
            try:
                texts.append(template.render({**variables, "messages": rows, "add_generation_prompt": False}))
            except ChatTemplateError:
                continue
    return texts
