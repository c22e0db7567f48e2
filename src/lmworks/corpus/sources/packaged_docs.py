"""Documentation that is installed: of lmworks its pages; of Python the topics of `pydoc`, docstrings of the standard
library, and those of modules written in C, which stand in no file, as the running interpreter has them."""

import ast
import builtins
import hashlib
import importlib
import inspect
import os
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType

from lmworks.corpus.documents import Extracted, Extractor, UnusableError, document_of
from lmworks.corpus.extract.markup import extract_markdown, rest_title
from lmworks.corpus.sources.docstrings import (
    Definition,
    DocItem,
    clean_docstring,
    docstrings_of,
    extract_docstrings,
    module_name,
    write_docstrings,
)
from lmworks.corpus.sources.files import NoSourceError
from lmworks.records import Document, RejectedRecord

_LMWORKS, _PYTHON = "Apache-2.0", "PSF-2.0"  # licences
_PICTURE = re.compile(rb"^!\[[^\]]*\]\([^)]*\)[ \t]*\n+", re.M)  # a paragraph of its own; the wheel has none of them

# What documents nothing for users of the standard library: folders at whatever depth, and paths without a suffix.
_FOLDERS = set(
    "__pycache__ dist-packages encodings ensurepip idlelib pydoc_data site-packages test tests turtledemo".split()
)
_PATHS = set(
    # Deprecated, and gone from later versions of Python.
    "aifc asynchat asyncore cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nntplib pipes smtpd "
    "sndhdr sre_compile sre_constants sre_parse sunau telnetlib tkinter/tix uu xdrlib "
    # Inner workings of a module or of the interpreter.
    "asyncio/base_subprocess asyncio/proactor_events asyncio/selector_events asyncio/sslproto asyncio/unix_events "
    "asyncio/windows_events asyncio/windows_utils ctypes/_aix ctypes/macholib email/_header_value_parser "
    "importlib/_bootstrap importlib/_bootstrap_external nturl2path opcode pickletools pydoc symtable "
    # Jokes; what the owner of a machine wrote (see the module `site`); paths of another operating system.
    "antigravity this sitecustomize usercustomize".split()
) | {"ntpath" if os.path.__name__ == "posixpath" else "posixpath"}
_PUBLIC_NAMES = {  # of modules that users know under another name
    os.path.__name__: "os.path",
    "genericpath": "os.path",
    "_collections_abc": "collections.abc",
    "_py_warnings": "warnings",
    "_threading_local": "threading",
}
# Public modules written in C, wholly or in part, that programs use. Importing them has no effect that is seen.
BUILTIN_MODULES = (
    "array binascii builtins cmath collections contextvars csv datetime decimal functools gc hashlib io itertools math "
    "os pickle queue random re signal socket sqlite3 ssl struct sys threading time unicodedata weakref zlib"
).split()


def lmworks_docs(package: Path = Path(__file__).parents[2]) -> list[Path]:
    """The pages that explain, without figures and reference: in the package as it is installed, or in the repository
    that an editable installation runs from. NoSourceError where neither has them."""
    for folder in (package / "docs", package.parents[1] / "docs"):
        if (folder / "grounding.md").is_file():
            return sorted(page for page in folder.rglob("*.md") if page.parent.name not in ("measured", "reference"))
    raise NoSourceError(f"there are no docs in {package}: install lmworks from its wheel or its repository")


def read_lmworks_docs(max_bytes: int) -> Iterator[Document | RejectedRecord]:
    """One document a page, `lmworks:NAME.md` or `lmworks:FOLDER/NAME.md`, without its pictures."""
    for page in lmworks_docs():
        uri, raw = f"lmworks:{page.as_posix().rpartition('/docs/')[2]}", page.read_bytes()
        yield _document(
            uri, "text/markdown", _LMWORKS, raw, lambda raw: extract_markdown(_PICTURE.sub(b"", raw)), max_bytes
        )


def lmworks_docs_digest() -> str:
    """SHA-256 of the pages, their names and bytes."""
    pages = lmworks_docs()
    return _digest(b"", Path(pages[0].as_posix().rpartition("/docs/")[0]), pages)


def standard_library() -> Path:
    """The folder of Python's own modules."""
    return Path(sysconfig.get_paths()["stdlib"])


def python_files(root: Path, folder: Path | None = None) -> Iterator[Path | RejectedRecord]:
    """The files of a library to read, sorted by path; a folder that is left out is told instead of its files."""
    for path in sorted((folder or root).iterdir()):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and not (path.suffix == ".py" and path.is_file()):
            continue
        inside = path.relative_to(root).with_suffix("").as_posix()
        is_private = inside.startswith("_") and inside not in _PUBLIC_NAMES and inside != "__future__"
        if is_private or inside in _PATHS or (is_folder and path.name in _FOLDERS):
            if not is_folder or any(path.rglob("*.py")):
                uri = f"stdlib:{path.relative_to(root).as_posix()}" + "/" * is_folder
                yield RejectedRecord(uri, "no documentation of a public module")
        elif is_folder:
            yield from python_files(root, path)
        else:
            yield path


def read_python_docs(max_bytes: int, folder: Path | None = None) -> Iterator[Document | RejectedRecord]:
    """One document a topic, `topics:NAME`; one a module with docstrings, `stdlib:PATH`; and one a module written in C,
    `stdlib:NAME`, for what its source does not have."""
    root = folder or standard_library()
    try:
        topics = parse_topics((root / "pydoc_data" / "topics.py").read_text("utf-8"))
    except (OSError, UnusableError) as error:
        topics = {}
        yield RejectedRecord("topics:", f"no topics in this Python: {error}")
    for name, text in sorted(topics.items()):
        yield _document(f"topics:{name}", "text/x-rst", _PYTHON, text.encode(), _extract_topic, max_bytes, "en")
    for found in python_files(root):
        if isinstance(found, RejectedRecord):
            yield found
            continue
        relative = found.relative_to(root)
        name = module_name(relative)
        extractor = partial(extract_docstrings, name=_PUBLIC_NAMES.get(name, name), keep=_is_public)
        uri = f"stdlib:{relative.as_posix()}"
        yield _document(uri, "text/x-python", _PYTHON, found.read_bytes(), extractor, max_bytes)
    for name in BUILTIN_MODULES if folder is None else ():
        sources = filter(Path.is_file, (root / f"{name}.py", root / name / "__init__.py"))
        known = next((docstrings_of(path.read_bytes()) for path in sources), {})
        yield read_builtin_docs(name, known, max_bytes)


def python_docs_digest(folder: Path | None = None) -> str:
    """SHA-256 of the files that are read, their names and bytes, and of the interpreter's version and build, whose
    docstrings are read as well."""
    root = folder or standard_library()
    files = [root / "pydoc_data" / "topics.py", *(path for path in python_files(root) if isinstance(path, Path))]
    return _digest(sys.version.encode(), root, filter(Path.is_file, files))


def _digest(begin: bytes, root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(begin)
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _document(
    uri: str,
    media_type: str,
    licence: str,
    raw: bytes,
    extractor: Extractor,
    max_bytes: int,
    language: str | None = None,
) -> Document | RejectedRecord:
    if len(raw) > max_bytes:
        return RejectedRecord(uri, f"larger than max_bytes = {max_bytes:,} bytes ({len(raw):,})")
    try:
        extracted = extractor(raw)
    except UnusableError as error:
        return RejectedRecord(uri, str(error))
    return document_of(extracted, raw, uri=uri, media_type=media_type, licence=licence, language=language)


def _is_public(node: Definition, docstring: str) -> bool:
    """Whether a docstring documents a public name, or at length a special method or a private class."""
    is_special = node.name.startswith("__") and node.name.endswith("__")
    is_shown = is_special or isinstance(node, ast.ClassDef)
    return not node.name.startswith("_") or (is_shown and "\n" in docstring)


def _extract_topic(raw: bytes) -> Extracted:
    text = raw.decode()
    if not text.strip():
        raise UnusableError("empty")
    return Extracted(text, "pydoc-topics", platform.python_version(), rest_title(text))


def parse_topics(source: str) -> dict[str, str]:
    """The dictionary of strings that is assigned to `topics`; it is parsed, not run. UnusableError where none is."""
    try:
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "topics":
                topics = ast.literal_eval(statement.value)
                if isinstance(topics, dict) and all(isinstance(text, str) for text in topics.values()):
                    return topics
    except (SyntaxError, ValueError) as error:
        raise UnusableError(str(error)) from error
    raise UnusableError("there is no dictionary of topics")


# ---------------------------------------------------------------------------------------------------------------------
# Modules written in C


def read_builtin_docs(name: str, known: Mapping[str, str], max_bytes: int) -> Document | RejectedRecord:
    """The document `stdlib:NAME` of a module: what its source does not have. `known` are the docstrings of that by
    name (`deque.append`), the module's own under ""."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
        items, said = list[DocItem](), set[tuple[str, str]]()
        for item in _documented(module, known):
            words = (item.name.split(".")[-1], item.docstring)
            if item.rank == 2 or words not in said:  # of methods of several classes in the same words the first
                items.append(item)
            said.add(words)
        docstring = _docstring(module)
        extracted = write_docstrings(name, "" if docstring == known.get("") else docstring, items)
    except (ImportError, UnusableError) as error:
        return RejectedRecord(f"stdlib:{name}", f"nothing that its source does not document: {error}")
    raw = extracted.text.encode()
    return _document(f"stdlib:{name}", "text/x-python", _PYTHON, raw, lambda raw: extracted, max_bytes)


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
