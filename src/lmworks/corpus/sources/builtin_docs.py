"""What modules written in C document, which stands in no file: their docstrings as the running interpreter has them."""

import builtins
import hashlib
import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from enum import Enum
from types import ModuleType

from lmworks.corpus.sources.docstrings import DocItem, clean_docstring, write_docstrings
from lmworks.records import Document, RejectedRecord

# Public modules written in C, wholly or in part, that programs use. Importing them has no effect that is seen.
BUILTIN_MODULES = (
    "array binascii builtins cmath collections contextvars csv datetime decimal functools gc hashlib io itertools math "
    "os pickle queue random re signal socket sqlite3 ssl struct sys threading time unicodedata weakref zlib"
).split()


def read_builtin_docs(name: str, known: Mapping[str, str], licence: str) -> Iterator[Document | RejectedRecord]:
    """The document `stdlib:NAME` of a module: what its source does not have. `known` are the docstrings of that by
    name (`deque.append`), the module's own under ""."""
    uri = f"stdlib:{name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
    except ImportError as error:
        yield RejectedRecord(uri, f"not in this Python: {error}")
        return
    items, said, repeated = list[DocItem](), set[tuple[str, str]](), 0
    for item in _documented(module, known):
        words = (item.name.split(".")[-1], item.docstring)
        if item.rank > 2 and words in said:
            repeated += 1
        else:
            items.append(item)
            said.add(words)
    if repeated:
        yield RejectedRecord(uri, "another class of the module documents the method in the same words", repeated)
    docstring = _docstring(module)
    docstring = "" if docstring == known.get("") else docstring
    if not docstring and not items:
        yield RejectedRecord(uri, "its source documents all of it")
        return
    extracted = write_docstrings(name, docstring, items)
    yield Document(
        text=extracted.text,
        uri=uri,
        media_type="text/x-python",
        extractor=extracted.extractor,
        extractor_version=extracted.extractor_version,
        source_hash=hashlib.sha256(extracted.text.encode()).hexdigest(),
        title=extracted.title,
        licence=licence,
        metadata=extracted.metadata,
    )


def _documented(module: ModuleType, known: Mapping[str, str]) -> Iterator[DocItem]:
    """Functions, and classes with their public members, as far as they are no code of Python."""
    names = [name for name in getattr(module, "__all__", vars(module)) if not name.startswith("_")]
    for name in names:
        value = getattr(module, name)
        own = getattr(value, "__name__", name)
        is_alias = own != name and own in names  # `IOError`
        if is_alias or (module is not builtins and value is getattr(builtins, name, None)):  # `io.open`
            continue
        if inspect.isclass(value):
            if value.__module__.startswith("_") or value.__module__ in (module.__name__, "posix", "nt"):
                yield from _class(name, value, known)
        elif _is_builtin(value) and name not in known and (docstring := _docstring(value)):
            yield DocItem(2, name + _signature(value), docstring)


def _class(name: str, value: type, known: Mapping[str, str]) -> Iterator[DocItem]:
    """Those of its bases that have private names are its own: `socket.bind` is of `_socket.socket`."""
    members: dict[str, DocItem] = {}
    for base in value.__mro__:
        if base is not value and not base.__module__.startswith("_"):
            continue
        for key, member in vars(base).items():
            path = f"{name}.{key}"
            if key.startswith("_") or path in known or key in members:
                continue
            if (_is_builtin(member) or inspect.isdatadescriptor(member)) and (docstring := _docstring(member)):
                members[key] = DocItem(3, path + _signature(member), docstring)
    docstring = "" if name in known or issubclass(value, Enum) else _docstring(value)  # "An enumeration."
    if docstring or members:
        public = [base for base in value.__bases__ if base is not object and not base.__module__.startswith("_")]
        bases = ", ".join(base.__name__ for base in public)
        signature = _signature(value) if value.__text_signature__ else f"({bases})" if bases else ""
        yield DocItem(2, f"class {name}{signature}", docstring)
    yield from members.values()


def _is_builtin(value: object) -> bool:
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    return inspect.isroutine(value) and not inspect.isfunction(value) and not inspect.ismethod(value)


def _signature(value: object) -> str:
    if inspect.isdatadescriptor(value) or not callable(value):
        return ""
    try:
        return str(inspect.signature(value))
    except (TypeError, ValueError):  # the docstring begins with it, or nobody has written it down
        return "(...)"


def _docstring(value: object) -> str:
    docstring = getattr(value, "__doc__", None)
    return clean_docstring(docstring) if isinstance(docstring, str) else ""
