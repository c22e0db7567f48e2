"""The documentation that every Python carries: the topics of `pydoc`, and docstrings of the standard library and of
what is built in."""

import ast
import hashlib
import os
import platform
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.markup import rest_title
from lmworks.corpus.sources.builtin_docs import BUILTIN_MODULES, read_builtin_docs
from lmworks.corpus.sources.docstrings import Definition, docstrings_of, extract_docstrings
from lmworks.corpus.sources.files import read_file
from lmworks.records import Document, RejectedRecord

TOPICS_EXTRACTOR = "pydoc-topics"
LICENCE = "PSF-2.0"

_OTHER = "not the standard library"  # what else is installed, of which nobody counts the files
_PRIVATE = "private, as the underscore says"
# What documents nothing for users of the standard library. Folders, at whatever depth:
_FOLDERS = {
    "__pycache__": "compiled code",
    "dist-packages": _OTHER,
    "encodings": "tables of encodings",
    "ensurepip": "the installer of pip",
    "idlelib": "the source of an application",
    "pydoc_data": "read as topics",
    "site-packages": _OTHER,
    "test": "tests",
    "tests": "tests",
    "turtledemo": "demonstrations",
}
# Paths, without the suffix of a file:
_PATHS = {
    path: reason
    for reason, paths in {
        "deprecated, and gone from later versions of Python": (
            "aifc asynchat asyncore cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nntplib pipes "
            "smtpd sndhdr sre_compile sre_constants sre_parse sunau telnetlib tkinter/tix uu xdrlib"
        ),
        "inner workings of a module or of the interpreter": (
            "asyncio/base_subprocess asyncio/proactor_events asyncio/selector_events asyncio/sslproto "
            "asyncio/unix_events asyncio/windows_events asyncio/windows_utils ctypes/_aix ctypes/macholib "
            "email/_header_value_parser importlib/_bootstrap importlib/_bootstrap_external nturl2path opcode "
            "pickletools pydoc symtable"
        ),
        "paths of another operating system": "ntpath" if os.path.__name__ == "posixpath" else "posixpath",
        "a joke": "antigravity this",
        "local to this machine": "sitecustomize usercustomize",  # of the machine's owner (see the module `site`)
    }.items()
    for path in paths.split()
}
_PUBLIC_NAMES = {  # of modules that users know under another name
    os.path.__name__: "os.path",
    "genericpath": "os.path",
    "_collections_abc": "collections.abc",
    "_py_warnings": "warnings",
    "_threading_local": "threading",
}


def standard_library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def python_files(root: Path, folder: Path | None = None) -> Iterator[Path | RejectedRecord]:
    """The files of a library to read, sorted by path; a folder that is left out is counted instead of listed."""
    for path in sorted((folder or root).iterdir()):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and not (path.suffix == ".py" and path.is_file()):
            continue
        inside = path.relative_to(root).with_suffix("").as_posix()
        reason = _PATHS.get(inside) or (_FOLDERS.get(path.name) if is_folder else None)
        if inside.startswith("_") and inside not in _PUBLIC_NAMES and inside != "__future__":
            reason = _FOLDERS.get(path.name, _PRIVATE)
        if reason is None and is_folder:
            yield from python_files(root, path)
        elif reason is None:
            yield path
        elif not is_folder:
            yield RejectedRecord(f"stdlib:{path.relative_to(root).as_posix()}", reason)
        elif count := 1 if reason == _OTHER else sum(1 for _ in path.rglob("*.py")):
            yield RejectedRecord(f"stdlib:{path.relative_to(root).as_posix()}/", reason, count)


def read_python_docs(max_bytes: int, folder: Path | None = None) -> Iterator[Document | RejectedRecord]:
    """One document a topic, `topics:NAME`; one a module with docstrings, `stdlib:PATH`; and one a module written in C,
    `stdlib:NAME`, for what its source does not have."""
    root = folder or standard_library()
    private = Counter[str]()
    yield from _read_topics(root / "pydoc_data" / "topics.py")
    for found in python_files(root):
        if isinstance(found, RejectedRecord):
            yield found
            continue
        relative = found.relative_to(root)
        name = module_name(relative)
        keep = partial(_is_public, private)
        extractor = partial(extract_docstrings, name=_PUBLIC_NAMES.get(name, name), keep=keep)
        yield read_file(found, f"stdlib:{relative.as_posix()}", "text/x-python", extractor, max_bytes, LICENCE)
    for reason, count in private.items():
        yield RejectedRecord("stdlib:", reason, count)
    for name in BUILTIN_MODULES if folder is None else ():
        sources = filter(Path.is_file, (root / f"{name}.py", root / name / "__init__.py"))
        known = next((docstrings_of(path.read_bytes()) for path in sources), {})
        yield from read_builtin_docs(name, known, LICENCE)


def _is_public(private: Counter[str], node: Definition, docstring: str) -> bool:
    """Whether a docstring documents a public name; the others are counted by reason."""
    if not node.name.startswith("_"):
        return True
    is_special = node.name.startswith("__") and node.name.endswith("__")
    if not is_special and not isinstance(node, ast.ClassDef):
        private["docstrings of private functions"] += 1
        return False
    if "\n" not in docstring:
        private["docstrings of one line on names with an underscore"] += 1
        return False
    return True


def _read_topics(file: Path) -> Iterator[Document | RejectedRecord]:
    """The file is one literal, `topics = {name: text}`; it is parsed, not run."""
    try:
        topics = parse_topics(file.read_text("utf-8"))
    except (OSError, UnusableError) as error:
        yield RejectedRecord("topics:", f"no topics in this Python: {error}")
        return
    for name, text in sorted(topics.items()):
        if not text.strip():
            yield RejectedRecord(f"topics:{name}", "empty")
            continue
        yield Document(
            text=text,
            uri=f"topics:{name}",
            media_type="text/x-rst",
            extractor=TOPICS_EXTRACTOR,
            extractor_version=platform.python_version(),
            source_hash=hashlib.sha256(text.encode()).hexdigest(),
            title=rest_title(text),
            licence=LICENCE,
            language="en",
        )


def parse_topics(source: str) -> dict[str, str]:
    """Raises UnusableError when the source does not assign a dictionary of strings to `topics`."""
    try:
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "topics":
                topics = ast.literal_eval(statement.value)
                if isinstance(topics, dict) and all(isinstance(text, str) for text in topics.values()):
                    return topics
    except (SyntaxError, ValueError) as error:
        raise UnusableError(str(error)) from error
    raise UnusableError("there is no dictionary of topics")


def module_name(relative: PurePath) -> str:
    """The module of a file: `json.decoder` of "json/decoder.py", `json` of "json/__init__.py"."""
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def python_docs_digest(folder: Path | None = None) -> str:
    """SHA-256 of the files that are read, their names and bytes, and of the interpreter's version and build, whose
    docstrings are read as well."""
    root = folder or standard_library()
    digest = hashlib.sha256(sys.version.encode())
    for path in [root / "pydoc_data" / "topics.py", *(p for p in python_files(root) if isinstance(p, Path))]:
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
