"""Jinja chat templates as Hugging Face tokenizers carry them, run in a sandbox."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
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

    `render` gives the text; `open_mark` and `close_mark` go around every `{% generation %}` part.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.has_generation = re.search(r"{%-?\s*generation\s*-?%}", source) is not None
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template does not compile: {error}") from error

    def render(self, variables: Mapping[str, Any], open_mark: str = "", close_mark: str = "") -> str:
        """The text of the template; ChatTemplateError when the template fails or calls `raise_exception`."""
        try:
            return self._template.render(**variables, generation_open=open_mark, generation_close=close_mark)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template refuses these messages: {error}") from error


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` encloses what the model is trained to write."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = [nodes.Output([nodes.Name(name, "load")]) for name in ("generation_open", "generation_close")]
        return [marks[0].set_lineno(line), *body, marks[1].set_lineno(line)]


def _environment() -> jinja2.Environment:
    """The dialect that published templates are written in: whitespace control, loop controls, and three helpers."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON as it is: jinja's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
