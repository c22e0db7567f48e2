"""Folders to documents: order, names, and a reason for everything that is left out."""

import hashlib
import inspect
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import outside_digest, read_documents
from lmworks.corpus.sources.files import NoSourceError
from lmworks.records import Document, RejectedRecord


def read(base: Path, *sources: str, **settings: object) -> tuple[dict[str, Document], dict[str, RejectedRecord]]:
    items = list(read_documents(ReadConfig(sources=sources, **settings), base=base))  # type: ignore[arg-type]
    documents = [item for item in items if isinstance(item, Document)]
    rejected = [item for item in items if isinstance(item, RejectedRecord)]
    assert len({item.uri for item in items}) == len(items), "a uri was given twice"
    return {item.uri: item for item in documents}, {item.uri: item for item in rejected}


def write(base: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = base / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_each_media_type_has_its_extractor(tmp_path: Path) -> None:
    write(
        tmp_path / "docs",
        a_dot_md="# Title *one*\n\ntext",
        b_dot_rst="=====\nTitle\n=====\n\ntext",
        c_dot_txt="plain",
        d_dot_py='def f(x=1):\n    "What f does."\n',
        e_dot_html="<html><head><title>Page</title></head><body><nav>Home</nav><article><h1>Main</h1><p>"
        + "A sentence of the main text that is long enough to be kept. " * 5
        + "</p></article></body></html>",
    )
    documents, rejected = read(tmp_path, "docs")
    assert not rejected
    assert {uri: (d.media_type, d.extractor, d.title) for uri, d in documents.items()} == {
        "docs/a.md": ("text/markdown", "markdown", "Title one"),
        "docs/b.rst": ("text/x-rst", "rest", "Title"),
        "docs/c.txt": ("text/plain", "plain", ""),
        "docs/d.py": ("text/x-python", "python-docstrings", "module d"),
        "docs/e.html": ("text/html", "web-page", "Page"),
    }
    assert documents["docs/a.md"].text == "# Title *one*\n\ntext"
    assert documents["docs/e.html"].text.startswith("# Main")
    assert "Home" not in documents["docs/e.html"].text
    assert documents["docs/e.html"].kind == "web" and documents["docs/a.md"].kind == "text"


def test_everything_left_out_says_why(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    write(
        docs,
        good_dot_md="text", empty_dot_md=" \n\n", binary_dot_md=b"\0\1\2", large_dot_txt="x" * 1001,
        broken_dot_py="def f(:", silent_dot_py="x = 1", picture_dot_png=b"\x89PNG", _dot_hidden_dot_md="secret",
        _dot_git__config="a", _dot_git__objects__x="b", node_modules__x__readme_dot_md="c", drafts__one_dot_md="d",
        page_dot_html="<html><body></body></html>", old__build_dot_lock="1", old__stages__x_dot_md="own output",
    )  # fmt: skip
    (docs / "loop").symlink_to(docs, target_is_directory=True)
    (docs / "gone.md").symlink_to(docs / "nothing.md")
    (docs / "self.md").symlink_to(docs / "self.md")
    (docs / "twin.md").symlink_to(docs / "good.md")
    os.mkfifo(docs / "pipe.md")  # opening it would wait forever
    documents, rejected = read(tmp_path, "docs", max_bytes=1000, exclude=("node_modules", "drafts/*.md"))
    assert list(documents) == ["docs/good.md"]
    reasons = {uri: item.reason for uri, item in rejected.items()}
    assert reasons.pop("docs/broken.py").startswith("not Python that can be parsed: ")
    assert reasons == {
        "docs/.git/": "hidden",
        "docs/.hidden.md": "hidden",
        "docs/binary.md": "binary data",
        "docs/drafts/one.md": "excluded by drafts/*.md",
        "docs/empty.md": "empty",
        "docs/gone.md": "broken symbolic link",
        "docs/large.txt": "larger than max_bytes = 1,000 bytes (1,001)",
        "docs/loop/": "a symbolic link to a folder; name the folder itself as a source",
        "docs/node_modules/": "excluded by node_modules",
        "docs/old/": "an lmworks workspace",
        "docs/page.html": "a page without main text",
        "docs/picture.png": "no reader for .png",
        "docs/pipe.md": "not a regular file",
        "docs/self.md": "broken symbolic link",
        "docs/silent.py": "Python without docstrings",
        "docs/twin.md": "already read under another name",
    }


def test_a_name_that_is_not_utf8_can_be_written_down(tmp_path: Path) -> None:
    for name in (b"\xff.md", b".\xff", b"\xff.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"text")
    documents, rejected = read(tmp_path.parent, tmp_path.name)
    assert {uri.split("/")[1] for uri in documents} == {"\\xff.md"}
    assert {uri.split("/")[1] for uri in rejected} == {".\\xff", "\\xff.png"}
    assert all(uri.encode() for uri in [*documents, *rejected])


def test_an_unreadable_folder_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "docs", a__x_dot_md="a", b_dot_md="b")
    iterdir = Path.iterdir

    def refuse(path: Path):
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    documents, rejected = read(tmp_path, "docs")
    assert list(documents) == ["docs/b.md"]
    assert rejected["docs/a/"].reason == "unreadable: Permission denied"


def test_folders_within_folders_are_read_deeper_than_functions_may_call_each_other(tmp_path: Path) -> None:
    write(tmp_path / "docs", a_dot_md="a", z_dot_md="z")
    deep = tmp_path / "docs" / ("d/" * 300)
    deep.mkdir(parents=True)
    (deep / "x.md").write_text("x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        documents, _ = read(tmp_path, "docs")
    finally:
        sys.setrecursionlimit(limit)
    assert list(documents) == ["docs/a.md", f"docs/{'d/' * 300}x.md", "docs/z.md"]


def test_a_glob_leaves_out_what_a_walk_does(tmp_path: Path) -> None:
    write(
        tmp_path / "docs", a__b_dot_md="1", _dot_venv__x__c_dot_md="2", w__build_dot_lock="3", w__stages__d_dot_md="4"
    )
    write(tmp_path / "docs", node_modules__x__e_dot_md="5", drafts__f_dot_md="6", g_dot_md="7")
    documents, rejected = read(tmp_path, "docs/**/*.md", exclude=("node_modules", "drafts"))
    assert sorted(documents) == ["docs/a/b.md", "docs/g.md"]
    assert {uri: item.reason for uri, item in rejected.items()} == {
        "docs/.venv/x/c.md": "hidden",
        "docs/drafts/f.md": "excluded by drafts",
        "docs/node_modules/x/e.md": "excluded by node_modules",
        "docs/w/stages/d.md": "an lmworks workspace",
    }
    (tmp_path / "docs" / "loop").symlink_to(tmp_path / "docs" / "a", target_is_directory=True)
    assert read(tmp_path, "docs/*/*.md")[1]["docs/loop/b.md"].reason.startswith("a symbolic link to a folder")


@for_each("source", ["missing", "missing/*.md"])
def test_a_source_that_is_not_there_is_an_error_that_names_the_fix(tmp_path: Path, source: str) -> None:
    with pytest.raises(NoSourceError, match="missing") as told:
        read(tmp_path, source)
    assert "documents." not in str(told.value)  # the name of a stage in one recipe; a command has none
    with pytest.raises(NoSourceError, match="sources"):
        read(tmp_path)


def test_the_digest_of_the_sources_follows_names_and_bytes(tmp_path: Path) -> None:
    write(tmp_path, docs__a_dot_md="1")
    config = ReadConfig(sources=("docs",))
    digests = [outside_digest(config, tmp_path)]
    os.utime(tmp_path / "docs/a.md", (0, 0))
    assert outside_digest(config, tmp_path) == digests[0]  # a date is no content
    write(tmp_path, docs___dot_git__one="1", docs__node_modules__one="1")
    digests.append(outside_digest(config, tmp_path))
    write(tmp_path, docs___dot_git__two="2", docs__node_modules__two="2")
    assert outside_digest(config, tmp_path) == digests.pop()  # nor is what a commit or an installation adds
    shutil.rmtree(tmp_path / "docs" / ".git")
    shutil.rmtree(tmp_path / "docs" / "node_modules")
    write(tmp_path, docs__a_dot_md="2")
    digests.append(outside_digest(config, tmp_path))
    (tmp_path / "docs/a.md").rename(tmp_path / "docs/b.md")
    digests.append(outside_digest(config, tmp_path))
    write(tmp_path, docs__c_dot_png=b"3")
    digests.append(outside_digest(config, tmp_path))
    assert len(set(digests)) == 4
    assert outside_digest(ReadConfig(sources=("missing",)), tmp_path)  # reading raises, the digest does not


def test_kept_hashes_spare_reading_and_hide_no_change(tmp_path: Path, monkeypatch) -> None:
    hashed, real, clock = [], hashlib.file_digest, time.time_ns
    monkeypatch.setattr(
        hashlib, "file_digest", lambda stream, kind: (hashed.append(stream.name), real(stream, kind))[1]
    )

    def digest(later: int) -> tuple[str, int]:
        """The digest so many seconds later, and how many files were read for it."""
        monkeypatch.setattr(time, "time_ns", lambda: clock() + later * 10**9)
        hashed.clear()
        found = outside_digest(config, tmp_path, tmp_path / "kept.json"), len(hashed)
        assert found[0] == outside_digest(config, tmp_path)
        return found

    write(tmp_path, docs__a_dot_md="one", docs__b_dot_md="two", docs__c_dot_md="six")
    config, path = ReadConfig(sources=("docs",)), tmp_path / "docs/a.md"
    assert digest(0)[1] == digest(0)[1] == 3, "they have just been written, and may be so again in the same moment"
    before, read_at_first = digest(10)
    assert read_at_first == 3 and digest(10) == (before, 0)
    status = path.stat()
    path.write_text("ONE")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest(20)[0] != before and digest(20)[1] == 0
    write(tmp_path, new__a_dot_md="One")
    (tmp_path / "new/a.md").replace(path)
    (tmp_path / "docs/b.md").unlink()
    assert digest(30)[1] == 1 and digest(30)[1] == 0
    (tmp_path / "kept.json").write_text("[")
    assert digest(30)[1] == 2


SOURCES = {
    "a_dot_py": '"""Of a."""\n\nx = 1\n', "b_dot_py": "# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n".encode("latin-1"),
    "c_dot_c": "int main(void)\r\n{\treturn 0;\r\n}\r\n", "inner__lib_dot_RS": "fn main() {}\n",
    "d_dot_md": "# Title\n", "e_dot_js": b"\0\1\2", "f_dot_go": "  \n", "g_dot_json": "{}", "LICENSE": "MIT License\n",
    "blob": bytes(range(256)),
}  # fmt: skip


def test_source_code_is_kept_whole_where_it_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "tree", **SOURCES)
    documents, rejected = read(tmp_path, "tree", source_code="whole")
    assert {uri: (d.text, d.media_type) for uri, d in documents.items()} == {
        "tree/a.py": ('"""Of a."""\n\nx = 1\n', "text/x-python"),
        "tree/b.py": ("# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n", "text/x-python"),
        "tree/c.c": ("int main(void)\n{\treturn 0;\n}\n", "text/x-c"),
        "tree/d.md": ("# Title\n", "text/markdown"),
        "tree/LICENSE": ("MIT License\n", "text/plain"),
        "tree/inner/lib.RS": ("fn main() {}\n", "text/x-rust"),
    }
    assert {uri: item.reason for uri, item in rejected.items()} == {
        "tree/blob": "binary data, and no suffix that says of what kind",
        "tree/e.js": "binary data",
        "tree/f.go": "empty",
        "tree/g.json": "no reader for .json",
    }
    texts = ("text/markdown", "text/plain")
    assert all(d.extractor == "source-code" for d in documents.values() if d.media_type not in texts)
