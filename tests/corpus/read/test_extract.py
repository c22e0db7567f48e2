"""Files as documents: a document or a reason."""

import hashlib

from lmworks.corpus.extract.markup import extract_plain
from lmworks.corpus.sources.files import read_file
from lmworks.records import Document, RejectedRecord


def test_read_file_gives_a_document_or_a_reason(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo")
    document = read_file(path, "notes/a.txt", "text/plain", extract_plain, max_bytes=100)
    assert isinstance(document, Document)
    assert (document.text, document.extractor, document.licence) == ("one\ntwo", "plain", None)
    assert document.source_hash == hashlib.sha256(b"one\r\ntwo").hexdigest()  # of the bytes, not of the text
    assert read_file(path, "u", "text/plain", extract_plain, 3) == RejectedRecord(
        "u", "larger than max_bytes = 3 bytes (8)"
    )
    assert read_file(tmp_path / "none", "u", "text/plain", extract_plain, 3) == RejectedRecord(
        "u", "unreadable: No such file or directory"
    )
