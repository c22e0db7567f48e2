"""Names of special tokens are found in functions and calls as they are, not as Python would write them."""

import pytest
import tokenizers

from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}<\u200b>{% endfor %}"


def test_a_name_with_a_character_that_is_not_printed():
    words = {"<unk>": 0, "<\u200b>": 1}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<\u200b>"])
    renderer = ChatRenderer(TEMPLATE, Tokenizer(backend, {"eos_token": "<\u200b>"}))
    tool = {"type": "function", "function": {"name": "f", "description": "<\u200b>", "parameters": {}}}
    for value in (tool, {"<\u200b>": 1}, ["a", ("<\u200b>",)]):
        with pytest.raises(ChatTemplateError, match="special token"):
            renderer._check_no_special(value, "functions")
    renderer._check_no_special({"a": ["<", "\u200b>"]}, "functions")
    assert renderer.render([Message("user", "a")]).ids[-1] == 1
