"""Which document a name means."""

import pytest

from lmworks.data.cleaning.finding import AmbiguousNameError, document_names, inside, left_out_item, named, nearest
from lmworks.data.cleaning.ledger import Entry, write_ledger
from lmworks.data.store import write_documents
from lmworks.records import LeftOut

URIS = ["notes/a/plan.md", "notes/b/plan.md", "notes/b/masterplan.md", "mail/x.eml#1", "notes/b/same.md", "x.md"]
HASHES = ["1" * 64, "2" * 64, "3" * 64, "4" * 64, "1" * 64, "abcdef01" + "5" * 56]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("notes/a/plan.md", ["notes/a/plan.md"]),
        ("a/plan.md", ["notes/a/plan.md"]),
        ("masterplan.md", ["notes/b/masterplan.md"]),
        ("ame.md", ["notes/b/same.md"]),  # not behind a slash, and the end of one only
        ("1", ["mail/x.eml#1"]),
        ("2" * 8, ["notes/b/plan.md"]),
        ("1" * 64, ["notes/a/plan.md", "notes/b/same.md"]),  # texts that are equal
        ("ABCDEF01", ["x.md"]),
        ("x.md", ["x.md"]),
        ("nowhere.md", []),
        ("", []),
    ],
)
def test_a_uri_its_end_or_a_hash(name, meant):
    assert named(name, URIS, HASHES) == meant


@pytest.mark.parametrize(("name", "among"), [("plan.md", URIS[:2]), (".md", URIS[:3])])
def test_the_end_of_several_names_them(name, among):
    with pytest.raises(AmbiguousNameError) as caught:
        named(name, URIS, HASHES)
    assert all(uri in str(caught.value) for uri in among) and "mail" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("notes/b", ["notes/b/plan.md", "notes/b/masterplan.md", "notes/b/same.md"]),
        ("notes/b/", ["notes/b/plan.md", "notes/b/masterplan.md", "notes/b/same.md"]),
        ("a", ["notes/a/plan.md"]),  # a part of the path
        ("ail", []),
        ("", []),
        ("/", []),
    ],
)
def test_what_a_folder_or_an_archive_holds(name, held):
    assert inside(name, URIS) == held


def test_a_misspelt_name_leads_to_the_nearest_of_many():
    many = [f"corpus/part-{number:05d}/page-{number * 7919 % 100003:06d}.html" for number in range(20_000)]
    assert nearest(many[777].replace("page", "pgae"), many)[0] == many[777]
    assert nearest("notes/a/plam.md", URIS)[0] == "notes/a/plan.md"
    assert nearest("entirely different", URIS) == [] and nearest("", URIS) == []


def test_names_of_a_ledger_and_of_what_was_left_out(tmp_path):
    rows = [
        Entry(uri, digest, "s", "text", None, step, "kept", 1, 1, 1, 1)
        for uri, digest in zip(URIS, HASHES, strict=True)
        for step in ("repair", "one")
    ]
    write_ledger(tmp_path / "ledger.parquet", rows)
    assert document_names(tmp_path / "ledger.parquet") == (URIS, HASHES)
    (tmp_path / "crawl").mkdir()
    write_documents(tmp_path, [LeftOut("notes/picture.png", "binary data"), LeftOut("notes/old/", "excluded", 7)])
    item, names = left_out_item(tmp_path, "picture.png")
    assert item == LeftOut("notes/picture.png", "binary data") and names == ["notes/picture.png", "notes/old/"]
    assert left_out_item(tmp_path, "other.png")[0] is None
    refused = [LeftOut("a.warc", "requests", 3), LeftOut("a.warc", "of no type")]
    write_documents(tmp_path / "crawl", refused)
    assert left_out_item(tmp_path / "crawl", "a.warc") == (
        LeftOut("a.warc", "requests (3); of no type (1)", 4),
        ["a.warc"],
    )
    assert left_out_item(tmp_path / "nothing", "x") == (None, [])
