"""Python files: the docstrings of a module under headings that carry the signatures. Nothing is imported or run."""

import ast
import inspect
import io
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePath

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import normalise_newlines, well_formed

EXTRACTOR = "python-docstrings"
EXTRACTOR_VERSION = "1"
HEADINGS = "headings"  # metadata: the offsets of the headings in the text, with spaces between them

_MAX_BYTES = 2_000_000  # of source code; its tree may take 900 times as many

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Keep = Callable[[Definition, str], bool]  # whether the docstring of a definition is kept


@dataclass(frozen=True, slots=True)
class DocItem:
    """One documented definition: its rank as a heading (1 for the module), the heading, and the cleaned docstring."""

    rank: int
    heading: str
    docstring: str

    @property
    def name(self) -> str:
        """`Class.method`."""
        return self.heading.split("(")[0].removeprefix("class ").removeprefix("async ")


def extract_docstrings(raw: bytes, name: str, keep: Keep = lambda node, docstring: True) -> Extracted:
    """Docstrings under headings: `# module NAME`, `## class NAME(bases)`, `### NAME.method(self)`, `## function()`.

    A definition without a docstring is listed only as the heading of documented members. Docstrings are plain text and
    may hold lines that look like headings; so `metadata["headings"]` gives the offset of each true heading, in order.
    Raises UnusableError for a file that is not Python, has no docstring, or has more than 2 million bytes.
    """
    docstring, members, encoding = _parse(raw, keep)
    return write_docstrings(name, docstring, members, encoding)


def docstrings_of(raw: bytes) -> dict[str, str]:
    """Docstrings by name (`Class.method`), that of the module under ""; raises what `extract_docstrings` raises."""
    docstring, members, _ = _parse(raw, lambda node, docstring: True)
    return {"": docstring} | {item.name: item.docstring for item in members if item.docstring}


def _parse(raw: bytes, keep: Keep) -> tuple[str, list[DocItem], str]:
    """The docstring of the module, those of its members, and the encoding."""
    if len(raw) > _MAX_BYTES:
        raise UnusableError(f"Python of more than {_MAX_BYTES:,} bytes ({len(raw):,})")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes and the like are the author's business
            tree = ast.parse(raw)
        return _docstring(tree), list(_members(tree.body, "", 2, keep)), encoding
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnusableError(f"not Python that can be parsed: {line}") from error


def write_docstrings(name: str, docstring: str, members: list[DocItem], encoding: str = "utf-8") -> Extracted:
    """The text of a module; UnusableError where nothing is documented."""
    if not docstring and not members:
        raise UnusableError("Python without docstrings")
    parts = [
        f"{'#' * item.rank} {item.heading}\n\n" + (f"{item.docstring}\n\n" if item.docstring else "")
        for item in (DocItem(1, f"module {name}", docstring), *members)
    ]
    offsets = accumulate(map(len, parts[:-1]), initial=0)
    metadata = {"encoding": encoding, HEADINGS: " ".join(map(str, offsets))}
    return Extracted("".join(parts).rstrip("\n") + "\n", EXTRACTOR, EXTRACTOR_VERSION, f"module {name}", metadata)


def _members(body: list[ast.stmt], owner: str, rank: int, keep: Keep) -> Iterator[DocItem]:
    """The documented definitions of a body, in the order of the source; those under `if` and `try` count as well.

    A class is listed where it or one of its members is documented.
    """
    waiting: list[ast.AST] = [*reversed(body)]
    while waiting:  # no recursion but into classes: a chain of `elif` is as deep as it is long
        node = waiting.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = _docstring(node)
            if docstring and not keep(node, docstring):
                docstring = ""
            name = f"{owner}.{node.name}" if owner else node.name
            members = list(_members(node.body, name, rank + 1, keep)) if isinstance(node, ast.ClassDef) else []
            if docstring or members:
                yield DocItem(rank, _signature(node, name), docstring)
                yield from members
        elif isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.ExceptHandler):
            parts = [getattr(node, part, []) for part in ("body", "handlers", "orelse", "finalbody")]
            waiting += [child for part in reversed(parts) for child in reversed(part)]


def _signature(node: Definition, name: str) -> str:
    """On one line, whatever the source looks like; of an expression that cannot be written down, an ellipsis."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(_written(base) for base in [*node.bases, *node.keywords])
        signature = f"class {name}({bases})" if bases else f"class {name}"
    else:
        returns = f" -> {_written(node.returns)}" if node.returns else ""
        prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
        signature = f"{prefix}{name}({_written(node.args)}){returns}"
    return " ".join(filter(None, map(str.strip, well_formed(signature).split("\n"))))


def _written(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):  # a sum of a thousand terms, a number of five thousand digits
        return "..."


def _docstring(node: ast.Module | Definition) -> str:
    docstring = ast.get_docstring(node, clean=False)
    return clean_docstring(docstring) if docstring else ""


def clean_docstring(docstring: str) -> str:
    """A docstring without its indentation, as `inspect` shows it."""
    return inspect.cleandoc(normalise_newlines(well_formed(docstring))).strip()


def module_name(relative: PurePath) -> str:
    """The module of a file: `json.decoder` of "json/decoder.py", `json` of "json/__init__.py"."""
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
