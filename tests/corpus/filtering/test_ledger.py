"""The ledger: every row comes back, whole or of one document."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.filtering.decide import Cut, FieldFind, Reason
from lmworks.corpus.filtering.ledger import Entry, join_ledgers, read_ledger, write_ledger

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNT = st.integers(0, 2**40)
ENTRY = st.builds(
    Entry,
    document=WORDS,
    hash=st.text("0123456789abcdef", min_size=64, max_size=64),
    source=WORDS,
    kind=WORDS,
    language=st.none() | WORDS,
    step=WORDS,
    verdict=st.sampled_from(["kept", "cut", "dropped", "gone"]),
    characters_before=COUNT,
    characters_after=COUNT,
    bytes_before=COUNT,
    bytes_after=COUNT,
    reasons=st.lists(
        st.builds(
            Reason,
            rule=WORDS,
            value=st.none() | st.floats(allow_nan=False),
            threshold=st.none() | st.floats(allow_nan=False),
            label=st.none() | WORDS,
            twin=st.none() | WORDS,
        ),
        max_size=3,
    ).map(tuple),
    fields=st.lists(st.builds(FieldFind, rule=WORDS), max_size=2).map(tuple),
    cuts=st.lists(st.builds(Cut, start=COUNT, end=COUNT, replacement=WORDS, rule=WORDS), max_size=3).map(tuple),
)


@given(st.lists(ENTRY, max_size=5), st.lists(ENTRY, max_size=5))
def test_parts_come_back_joined(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("ledger")
    for name, entries in (("a", first), ("b", second)):
        write_ledger(folder / name, entries)
    join_ledgers(folder / "whole", [folder / "a", folder / "b"])
    assert list(read_ledger(folder / "whole")) == [*first, *second]


def entry(document: str, digest: str) -> Entry:
    return Entry(document, digest * 64, "s", "text", "en", "step", "kept", 1, 1, 1, 1)


def test_one_document_is_found_by_its_name_and_its_hash(tmp_path):
    entries = [entry("s/a", "1"), entry("s/b", "2"), entry("s/aa", "3")]
    write_ledger(tmp_path / "ledger", entries)
    for name, expected in (
        ("s/a", entries[:1]),
        ("2" * 64, entries[1:2]),
        ("3" * 8, entries[2:]),
        ("3", []),
        ("s", []),
    ):
        assert list(read_ledger(tmp_path / "ledger", name)) == expected
