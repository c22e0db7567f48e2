"""The documentation that Python carries, against `pydoc_data` as imported."""

import inspect
import itertools
import pydoc_data.topics
import shutil
from pathlib import Path

import pytest

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.corpus.sources import packaged_docs
from lmworks.corpus.sources.packaged_docs import (
    BUILTIN_MODULES,
    parse_topics,
    read_builtin_docs,
    read_python_docs,
)
from lmworks.records import Document, RejectedRecord


def test_topics_and_modules_become_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = packaged_docs.standard_library()
    for name in ("json", "pydoc_data", "idlelib", "collections"):
        shutil.copytree(library / name, tmp_path / name)
    for name in ("json/tests/a.py", "test/b.py", "site-packages/c.py", "sitecustomize.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('"A docstring"')
    monkeypatch.setattr(packaged_docs, "standard_library", lambda: tmp_path)
    items = list(read_documents(ReadConfig(sources=("python-docs",))))
    documents = {item.uri: item for item in items if isinstance(item, Document)}
    rejected = {item.uri: item for item in items if isinstance(item, RejectedRecord)}
    topics = {uri.removeprefix("topics:"): d.text for uri, d in documents.items() if uri.startswith("topics:")}
    assert topics == pydoc_data.topics.topics
    assert documents["topics:with"].title == 'The "with" statement'
    assert documents["stdlib:json/__init__.py"].title == "module json"
    assert "## dumps(obj, *, skipkeys=False" in documents["stdlib:json/__init__.py"].text
    assert {document.licence for document in documents.values()} == {"PSF-2.0"}
    assert "stdlib:idlelib/" in rejected
    assert "## print(*args, sep=' ', end=" in documents["stdlib:builtins"].text
    assert not any("sitecustomize" in uri for uri in documents)
    assert not any("/test/" in uri or "/tests/" in uri or "site-packages" in uri for uri in documents)


def test_topics_are_parsed_not_run(tmp_path: Path) -> None:
    assert parse_topics("# made by Sphinx\ntopics = {'a': 'one ' 'two', 'b': r'''three'''}") == {
        "a": "one two",
        "b": "three",
    }
    for source in ("x = 1", "topics = open('x')", "topics = [", "topics = {'a': 1}"):
        with pytest.raises(UnusableError):
            parse_topics(source)


def test_what_is_written_in_c_is_read_from_the_interpreter() -> None:
    documents = {name: read_builtin_docs(name, {}, 10**9) for name in BUILTIN_MODULES}
    text = {name: item.text for name, item in documents.items() if isinstance(item, Document)}
    for name, words in {
        "builtins": (inspect.getdoc(print), "### str.split(self, /, sep=None, maxsplit=-1)", "### dict.get(self, key"),
        "itertools": (inspect.getdoc(itertools.groupby), "## class groupby(iterable, key=None)"),
        "io": ("### IOBase.readline(self, size=-1, /)",),  # a method of `_io._IOBase`
    }.items():
        assert all(str(each) in text[name] for each in words)
    assert "class IOError" not in text["builtins"] and "## open(" not in text["io"]  # aliases
    assert "__" not in "".join(line for line in text["builtins"].splitlines() if line.startswith("#"))
    assert text["builtins"].count(str(inspect.getdoc(str.strip))) == 1
    headings = documents["builtins"].metadata["headings"].split()  # type: ignore[union-attr]
    assert all(text["builtins"][int(offset)] == "#" for offset in headings) and len(headings) > 300


def test_private_names_and_boilerplate_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'class A:\n    "Public."\n'
        '    def __init__(self):\n        "Create a new object."\n'
        '    def __add__(self, other):\n        """Of two lines.\n\n        The second."""\n'
        '    def _inner(self):\n        """Private,\n\n        of two lines."""\n'
        'class _Private:\n    "One line."\n    def shown(self):\n        "Of a public name."\n'
    )
    (tmp_path / "_b.py").write_text('"Private."')
    (tmp_path / "distutils").mkdir()
    (tmp_path / "distutils" / "core.py").write_text('"Gone."')
    items = list(read_python_docs(10_000, tmp_path))
    (document,) = (item for item in items if isinstance(item, Document))
    headings = "".join(line for line in document.text.splitlines() if line.startswith("#"))
    assert headings == "# module a## class A### A.__add__(self, other)## class _Private### _Private.shown(self)"
    assert {item.uri for item in items if isinstance(item, RejectedRecord)} >= {"stdlib:_b.py", "stdlib:distutils/"}
