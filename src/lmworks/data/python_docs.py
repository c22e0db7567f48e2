"""The documentation that every Python carries: the language topics of `pydoc` and the standard library's docstrings."""

import ast
import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from lmworks.data.docstrings import extract_docstrings
from lmworks.data.extract import UnusableError, read_file
from lmworks.data.markup import rest_title
from lmworks.records import Document, LeftOut

TOPICS_EXTRACTOR = "pydoc-topics"
LICENCE = "PSF-2.0"

# Folders of the standard library that document nothing for its users, at whatever depth.
LEFT_OUT_FOLDERS = {
    "__pycache__": "compiled code",
    "dist-packages": "not the standard library",
    "encodings": "tables of encodings",
    "ensurepip": "the installer of pip",
    "idlelib": "the source of an application",
    "lib2to3": "the source of an application",
    "pydoc_data": "read as topics",
    "site-packages": "not the standard library",
    "test": "tests",
    "tests": "tests",
    "turtledemo": "demonstrations",
}

# Files that a machine's owner puts beside the standard library (see the documentation of the module `site`).
LEFT_OUT_FILES = {"sitecustomize.py", "usercustomize.py"}


def standard_library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def python_files(folder: Path | None = None) -> Iterator[Path | LeftOut]:
    """The files to read, sorted by path; a folder that is left out is counted instead of listed."""
    root = folder or standard_library()
    yield from _walk(root, root)


def _walk(folder: Path, root: Path) -> Iterator[Path | LeftOut]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            reason = LEFT_OUT_FOLDERS.get(path.name)
            if reason is None:
                yield from _walk(path, root)
            elif count := sum(1 for _ in path.rglob("*.py")):
                yield LeftOut(f"stdlib:{path.relative_to(root).as_posix()}/", reason, count)
        elif path.name in LEFT_OUT_FILES:
            yield LeftOut(f"stdlib:{path.relative_to(root).as_posix()}", "local to this machine")
        elif path.suffix == ".py" and path.is_file():
            yield path


def read_python_docs(max_bytes: int, folder: Path | None = None) -> Iterator[Document | LeftOut]:
    """One document a topic, `topics:NAME`, and one a module with docstrings, `stdlib:PATH`."""
    root = folder or standard_library()
    yield from read_topics(root / "pydoc_data" / "topics.py")
    for found in python_files(root):
        if isinstance(found, LeftOut):
            yield found
            continue
        relative = found.relative_to(root)
        extractor = partial(extract_docstrings, name=module_name(relative))
        yield read_file(found, f"stdlib:{relative.as_posix()}", "text/x-python", extractor, max_bytes, LICENCE)


def read_topics(file: Path) -> Iterator[Document | LeftOut]:
    """The file is one literal, `topics = {name: text}`; it is parsed, not run."""
    try:
        topics = parse_topics(file.read_text("utf-8"))
    except (OSError, UnusableError) as error:
        yield LeftOut("topics:", f"no topics in this Python: {error}")
        return
    for name in sorted(topics):
        text = topics[name]
        if not text.strip():
            yield LeftOut(f"topics:{name}", "empty")
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
    """`json/decoder.py` is the module `json.decoder`, `json/__init__.py` is `json`."""
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def python_docs_digest(folder: Path | None = None) -> str:
    """SHA-256 of the files that are read: their names and bytes."""
    root = folder or standard_library()
    digest = hashlib.sha256()
    for path in [root / "pydoc_data" / "topics.py", *(p for p in python_files(root) if isinstance(p, Path))]:
        if path.is_file():
            digest.update(
                path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
    return digest.hexdigest()
