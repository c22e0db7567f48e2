"""Columns of tables that are called like what lmworks notes in the metadata of documents: none overwrites the other."""

import json

from hypothesis import given
from hypothesis import strategies as st

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.records import OWN_METADATA, column_key

NUMBER = 20
COLUMNS = {
    **{name: f"my {name}" for name in OWN_METADATA},
    "kind": "mail",  # a kind of lmworks, and no word on that of the document
    "source": "elsewhere",
    "origin": "a" * 64,  # with `copy` as of a copy that corpus.balance made
    "copy": "2",
    "extracted": "b" * 64,
    "column_copy": "steel",
    "colour": "red",
}
del COLUMNS["id"]  # has a place of its own


def test_columns_stay_as_they_are_from_the_table_to_the_corpus(tmp_path):
    rows = [{"text": f"Number {n} of the rows says a few words of its own.", **COLUMNS} for n in range(NUMBER)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    def run(use: str, out: str, inputs: list[str], *settings: str) -> list:
        run_alone(use, tmp_path / out, [tmp_path / name for name in inputs], [], list(settings))
        return list(DocumentStore(tmp_path / out)) if use != "corpus.tag" else []

    read = run("corpus.read", "read", [], f'sources=["{tmp_path / "rows.jsonl"}"]', "kind=book")
    run("corpus.tag", "annotations", ["read"])
    cleaned = run(
        "corpus.filter", "cleaned", ["read", "annotations"], 'steps=[{name="any", limits={words={at_least=1}}}]'
    )
    balanced = run("corpus.balance", "balanced", ["cleaned"], "max_epochs=2", f"total={2 * NUMBER}", "unit=documents")
    assert (len(read), len(cleaned), len(balanced)) == (NUMBER, NUMBER, 2 * NUMBER)
    for document in (*read, *cleaned, *balanced):
        found = document.metadata
        assert {name: found[column_key(name)] for name in COLUMNS} == COLUMNS
        assert (document.source, document.kind) == ("rows.jsonl", "book")
    hashes = {document.hash for document in read}
    assert {document.metadata["extracted"] for document in cleaned} == hashes
    assert sorted(document.metadata.get("copy", "") for document in balanced) == [""] * NUMBER + ["2"] * NUMBER
    manifest = json.loads((tmp_path / "read" / "manifest.json").read_text("utf-8"))
    assert manifest["metrics"]["encodings"] == {"utf-8": NUMBER}


NAMES = st.lists(st.sampled_from(["column_", "id", "copy", "x", "_"]), max_size=4).map("".join)


@given(NAMES, NAMES)
def test_columns_of_two_names_have_two_keys_and_none_is_lmworks_own(one, other):
    assert (column_key(one) == column_key(other)) == (one == other)
    assert column_key(one) not in OWN_METADATA
