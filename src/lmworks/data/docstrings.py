"""Python files: the docstrings of a module under headings that carry the signatures. Nothing is imported or run."""

import ast
import inspect
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from lmworks.data.extract import Extracted, UnusableError, normalise_newlines

EXTRACTOR = "python-docstrings"
EXTRACTOR_VERSION = "1"

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class _Item:
    """One documented definition: its rank as a heading (1 for the module), the heading, and the cleaned docstring."""

    rank: int
    heading: str
    docstring: str


def extract_docstrings(raw: bytes, name: str) -> Extracted:
    """Docstrings under headings: `# module NAME`, `## class NAME(bases)`, `### NAME.method(self)`, `## function()`.

    A definition without a docstring is listed only as the heading of documented members. Docstrings are plain text and
    may hold lines that look like headings; so `metadata["headings"]` gives the offset of each true heading, in order.
    Raises UnusableError for a file that is not Python or has no docstring.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are the author's business
            tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableError(f"not Python that can be parsed: {_first_line(error)}") from error
    members = list(_members(tree.body, "", 2))
    docstring = _docstring(tree)
    if not docstring and not members:
        raise UnusableError("Python without docstrings")
    text, offsets = _write([_Item(1, f"module {name}", docstring), *members])
    metadata = {"encoding": encoding, "headings": " ".join(map(str, offsets))}
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, f"module {name}", metadata)


def _members(body: list[ast.stmt], owner: str, rank: int) -> Iterator[_Item]:
    """The documented definitions of a body, in the order of the source; those under `if` and `try` count as well."""
    for statement in body:
        if isinstance(statement, _Definition):
            yield from _definition(statement, owner, rank)
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            for part in ("body", "handlers", "orelse", "finalbody"):
                for child in getattr(statement, part, []):
                    yield from _members(child.body if isinstance(child, ast.ExceptHandler) else [child], owner, rank)


def _definition(node: _Definition, owner: str, rank: int) -> Iterator[_Item]:
    name = f"{owner}.{node.name}" if owner else node.name
    docstring = _docstring(node)
    members = list(_members(node.body, name, rank + 1)) if isinstance(node, ast.ClassDef) else []
    if docstring or members:
        yield _Item(rank, _signature(node, name), docstring)
        yield from members


def _signature(node: _Definition, name: str) -> str:
    """On one line, whatever the source looks like."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
        signature = f"class {name}({bases})" if bases else f"class {name}"
    else:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
        signature = f"{prefix}{name}({ast.unparse(node.args)}){returns}"
    return re.sub(r"\s*\n\s*", " ", _encodable(signature))


def _docstring(node: ast.Module | _Definition) -> str:
    docstring = ast.get_docstring(node, clean=False)
    return inspect.cleandoc(normalise_newlines(_encodable(docstring))).strip() if docstring else ""


def _encodable(text: str) -> str:
    """A literal may hold a lone surrogate, which no file can: it becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _write(items: list[_Item]) -> tuple[str, list[int]]:
    parts: list[str] = []
    offsets: list[int] = []
    length = 0
    for item in items:
        offsets.append(length)
        part = f"{'#' * item.rank} {item.heading}\n\n" + (f"{item.docstring}\n\n" if item.docstring else "")
        parts.append(part)
        length += len(part)
    return "".join(parts).rstrip("\n") + "\n", offsets


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
