"""The documentation that Python carries, against `pydoc_data` as imported."""

import pydoc_data.topics
import shutil
from pathlib import Path

import pytest

from lmworks.data import python_docs
from lmworks.data.config import ReadConfig
from lmworks.data.extract import UnusableError
from lmworks.data.python_docs import module_name, parse_topics, python_docs_digest
from lmworks.data.reading import read_documents
from lmworks.records import Document, LeftOut
from slow_cases import slow


@pytest.mark.parametrize("whole", [False, *slow(True)])
def test_topics_and_modules_become_documents(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = python_docs.standard_library()
    if not whole:
        for name in ("json", "pydoc_data", "idlelib"):
            shutil.copytree(library / name, tmp_path / name)
        for name in ("json/tests/a.py", "test/b.py", "site-packages/c.py", "sitecustomize.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text('"A docstring"')
        monkeypatch.setattr(python_docs, "standard_library", lambda: tmp_path)
    items = list(read_documents(ReadConfig(sources=("python-docs",))))
    documents = {item.uri: item for item in items if isinstance(item, Document)}
    left_out = {item.uri: item for item in items if isinstance(item, LeftOut)}
    topics = {uri.removeprefix("topics:"): d.text for uri, d in documents.items() if uri.startswith("topics:")}
    assert topics == pydoc_data.topics.topics
    assert documents["topics:with"].title == 'The "with" statement'
    assert documents["stdlib:json/__init__.py"].title == "module json"
    assert "## dumps(obj, *, skipkeys=False" in documents["stdlib:json/__init__.py"].text
    assert {document.licence for document in documents.values()} == {"PSF-2.0"}
    assert left_out["stdlib:idlelib/"].count > 10 and (len(documents) > 300 or not whole)
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


def test_the_digest_follows_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"one"')
    before = python_docs_digest(tmp_path)
    (tmp_path / "a.py").write_text('"two"')
    assert python_docs_digest(tmp_path) != before


def test_module_names() -> None:
    assert module_name(Path("json/decoder.py")) == "json.decoder"
    assert module_name(Path("json/__init__.py")) == "json"
    assert module_name(Path("__init__.py")) == "__init__"
