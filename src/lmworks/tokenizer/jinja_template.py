"""Jinja chat templates as Hugging Face tokenizers carry them, run in a sandbox."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes
from jinja2.parser import Parser


class ChatTemplateError(ValueError):
    """A chat template that is missing, is broken, or refuses the messages it was given."""


class ChatTemplate:
    """A compiled template; `has_generation` says whether it marks what the model is trained to write.

    `render` gives the text; `open_mark` and `close_mark` go around every `{% generation %}` part, and `now` is what the
    template is told of the date.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.has_generation = re.search(r"{%-?\s*generation\s*-?%}", source) is not None
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template does not compile: {error}") from error

    def render(
        self, variables: Mapping[str, Any], open_mark: str = "", close_mark: str = "", now: datetime | None = None
    ) -> str:
        """The text of the template; ChatTemplateError when the template fails or calls `raise_exception`."""
        helpers = {"generation_open": open_mark, "generation_close": close_mark}
        try:
            return self._template.render({"strftime_now": (now or datetime.now()).strftime, **variables, **helpers})
        except jinja2.UndefinedError as error:
            if role := re.match(r"'(\w+_token)' is undefined", str(error)):
                raise ChatTemplateError(
                    f"the chat template writes a special token by its role, {role[1]}, and the tokenizer names none "
                    "for it: state it in tokenizer_config.json, or choose another template"
                ) from error
            problem = "the chat template does not know what to do with these messages"
            raise ChatTemplateError(f"{problem}: {error}") from error
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template refuses these messages: {error}") from error
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ChatTemplateError(f"the chat template fails on these messages: {error}") from error

    @cached_property
    def searched(self) -> frozenset[str]:
        """Strings that the template may look for in a content, such as `</think>`: what it hands to methods and
        filters, what stands before `in`, and what it keeps in variables to do so."""
        tree, candidates = _environment().parse(self.source), list[nodes.Node]()
        for call in tree.find_all((nodes.Call, nodes.Filter)):
            if isinstance(call, nodes.Filter) or isinstance(call.node, nodes.Getattr):
                candidates += call.args
        candidates += [
            test.expr for test in tree.find_all(nodes.Compare) if any(op.op in ("in", "notin") for op in test.ops)
        ]
        candidates += [assignment.node for assignment in tree.find_all(nodes.Assign)]
        texts = (node.value for node in candidates if isinstance(node, nodes.Const))
        return frozenset(text for text in texts if isinstance(text, str) and text.strip())


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` encloses what the model is trained to write."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = [nodes.Output([nodes.Name(name, "load")]) for name in ("generation_open", "generation_close")]
        return [marks[0].set_lineno(line), *body, marks[1].set_lineno(line)]


def _environment() -> jinja2.Environment:
    """The dialect that published templates are written in: whitespace control, loop controls, and two helpers."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)  # jinja's own escapes it for HTML
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
