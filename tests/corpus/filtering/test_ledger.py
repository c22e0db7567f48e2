"""The ledger: rows come back, and what comes in is kept, cut or dropped, to the byte, whatever the policy and the
documents: random ones of both."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.attributes import Attributes, DocumentAttributes, TaggedSpan, read_attributes, write_attributes
from lmworks.corpus.dedup.kept_duplicates import rank_corpus
from lmworks.corpus.documents import corpus_shards, document_from_json, write_documents
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Reason, decide, decide_duplicates
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Choice, Limit, OnSpan, Policy, Step
from lmworks.corpus.filtering.ledger import (
    LEDGER,
    Entry,
    Flow,
    check_balance,
    join_ledgers,
    read_flows,
    read_ledger,
    tally,
    write_ledger,
)
from lmworks.corpus.filtering.stage import COUNTS, TEXTS, FilterPart, filter_part
from lmworks.records import Document, Edit

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNT = st.integers(0, 2**40)
NUMBER = st.none() | st.floats(allow_nan=False)
REASON = st.builds(
    Reason,
    kind=st.sampled_from(["score", "label", "near"]),
    rule=WORDS,
    value=NUMBER,
    threshold=NUMBER,
    label=st.none() | WORDS,
    kept_duplicate=st.none() | WORDS,
)
ENTRY = st.builds(
    Entry,
    **dict.fromkeys(("document", "source", "kind", "step"), WORDS),
    **dict.fromkeys(("characters_before", "characters_after", "bytes_before", "bytes_after"), COUNT),
    hash=st.text("0123456789abcdef", min_size=64, max_size=64),
    language=st.none() | WORDS,
    verdict=st.sampled_from(["kept", "cut", "dropped", "gone", "out_of_scope"]),
    reasons=st.lists(REASON, max_size=3).map(tuple),
    cuts=st.lists(st.builds(Edit, start=COUNT, end=COUNT, replacement=WORDS, rule=WORDS), max_size=3).map(tuple),
)


@given(st.lists(ENTRY, max_size=5), st.lists(ENTRY, max_size=5))
def test_rows_come_back_joined_and_of_one_document(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("ledger")
    for name, entries in (("a", first), ("b", second)):
        write_ledger(folder / name, entries)
    join_ledgers(folder / "whole", [folder / "a", folder / "b"])
    assert list(read_ledger(folder / "whole")) == [*first, *second]
    for uri in {entry.document for entry in first}:
        assert list(read_ledger(folder / "whole", document=[uri])) == [
            e for e in (*first, *second) if e.document == uri
        ]


TEXT = st.text("ab é\n𝄞", max_size=30)
VALUE = st.none() | st.floats(-2, 2)


@st.composite
def ranges(draw, length: int) -> list[tuple[int, int]]:
    """Ranges of a text that neither overlap nor touch."""
    ends = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    return [(ends[at], ends[at + 1]) for at in range(0, len(ends) - 1, 2)]


@st.composite
def tagged(draw, number: int) -> tuple[Document, DocumentAttributes]:
    """A document, repaired in places, with scores, labels and spans, which may overlap."""
    source, text = draw(st.sampled_from(["books", "web", "talks"])), draw(TEXT)
    document = Document(text, f"{source}/{number}", "text/plain", "plain", "1", "0" * 64, source=source)
    edits = tuple(Edit(*place, draw(st.sampled_from(["", "é", "bb"])), "x") for place in draw(ranges(len(text))))
    repaired = apply_edits(text, edits).text
    places = st.tuples(st.integers(0, len(repaired)), st.integers(0, len(repaired))).map(sorted)
    spans = draw(st.lists(st.tuples(st.sampled_from(["pii.a", "junk.b"]), places, st.floats(0, 1)), max_size=4))
    language = draw(st.sampled_from([None, "de", "en"]))
    found = Attributes(
        {name: value for name in ("x", "y") if (value := draw(VALUE)) is not None},
        tuple(sorted(TaggedSpan(rule, *place, score) for rule, place, score in spans)),
        {"exact": repaired} | ({"language": language} if language else {}),
    )
    sizes = (len(repaired), len(repaired.encode()))
    return document, DocumentAttributes(document.uri, document.hash, "text", *sizes, found, edits, source)


LIMIT = st.builds(Limit, at_least=st.floats(-1, 0)) | st.builds(Limit, at_most=st.floats(0, 1))
ON_SPAN = st.builds(OnSpan, st.sampled_from(["cut", "redact", "drop"]), st.sampled_from([0.0, 0.5]))
MARKS = st.dictionaries(st.sampled_from(["pii.*", "junk.b", "*"]), ON_SPAN, min_size=1).map(
    lambda marks: dict(sorted(marks.items(), reverse=True))  # "*" last, since it would hide what stands behind it
)
STEP = st.one_of(
    st.fixed_dictionaries({"limits": st.dictionaries(st.sampled_from(["x", "y", "absent"]), LIMIT, min_size=1)}),
    st.fixed_dictionaries({"labels": st.just({"language": Choice(allow=("de",), unknown="drop")})}),
    st.fixed_dictionaries({"marks": MARKS}),
    st.just({"duplicates": "exact"}),
)


@st.composite
def policies(draw) -> Policy:
    wanted = draw(st.lists(st.tuples(STEP, st.sampled_from([(), ("web",), ("b*", "talks")])), max_size=5))
    return Policy(tuple(Step(f"step{number}", sources=about, **step) for number, (step, about) in enumerate(wanted)))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 8).flatmap(lambda count: st.tuples(*map(tagged, range(count)))), policies())
def test_in_is_kept_and_cut_and_dropped(tmp_path_factory, corpus, policy):
    folder = tmp_path_factory.mktemp("corpus")
    documents = [document for document, _ in corpus]
    (folder / "in").mkdir()
    write_documents(folder / "in", documents)
    write_attributes(folder / "attributes.parquet", [attributes for _, attributes in corpus])
    table = read_attributes(folder / "attributes.parquet")
    decisions = decide(policy, table)
    decide_duplicates(policy, rank_corpus([table]), [decisions], None)
    (shard,) = corpus_shards({"in": folder / "in"})
    filter_part(FilterPart(shard, (folder / "attributes.parquet",), decisions, policy), folder / "part")
    entries = list(read_ledger(folder / "part" / LEDGER))
    written = [document_from_json(line, "") for line in (folder / "part" / TEXTS).read_bytes().splitlines()]
    for source in {document.source for document in documents}:
        rows = [entry for entry in entries if entry.source == source]
        came, stay = ([each for each in some if each.source == source] for some in (documents, written))
        dropped = [row for row in rows if row.verdict == "dropped"]
        cut = sum(row.bytes_before - row.bytes_after for row in rows if row.verdict == "cut")
        assert len(came) == len(stay) + len(dropped)
        assert size(came) == size(stay) + sum(row.bytes_before for row in dropped) + cut
    for document in documents:
        assert tuple(entry.step for entry in entries if entry.document == document.uri) == policy.names
    counts = json.loads((folder / "part" / COUNTS).read_text("utf-8"))
    flows = read_flows(folder / "part" / LEDGER)
    check_balance(flows, policy.names, counts)
    steps = tally(flows, "step")
    assert (steps[REPAIR].came, steps[REPAIR].came_bytes) == (len(documents), size(documents))
    assert (steps[EMPTY].left, steps[EMPTY].left_bytes) == (len(written), size(written))


def size(documents) -> int:
    return sum(len(document.text.encode()) for document in documents)


FLOWS = [
    Flow("a", "text", "en", "one", "kept", "", 3, 30, 30), Flow("a", "text", "en", "one", "dropped", "x", 1, 10, 0),
    Flow("a", "text", "de", "two", "out_of_scope", "", 2, 20, 20), Flow("a", "text", "de", "two", "cut", "", 1, 10, 4),
    Flow("b", "text", "", "one", "kept", "", 1, 5, 5), Flow("b", "text", "", "two", "kept", "", 1, 5, 5),
]  # fmt: skip
COUNTED = {"a": (4, 40, 3, 24), "b": (1, 5, 1, 5)}


@for_each(
    ("wrong", "counted", "told"),
    [
        (Flow("a", "text", "en", "two", "kept", "", 1, 1, 1), COUNTED, "of a"),  # came from nowhere
        (Flow("a", "text", "en", "one", "kept", "", 1, 7, 6), COUNTED, "neither kept whole"),  # changed
        (Flow("a", "text", "en", "one", "lost", "", 1, 7, 7), COUNTED, "neither kept whole"),
        (None, COUNTED | {"a": (4, 41, 3, 24)}, "of a, .* were read"),
        # Of two sources that make up for each other: a document that one loses, the other wins.
        (None, {"a": (3, 35, 3, 24), "b": (2, 10, 1, 5)}, "of a, .* were read"),
    ],
)
def test_whatever_is_unaccounted_for_is_an_error_that_names_the_source(wrong, counted, told):
    check_balance(FLOWS, ("one", "two"), COUNTED)
    with pytest.raises(RuntimeError, match=told):
        check_balance([*FLOWS, *([wrong] if wrong else [])], ("one", "two"), counted)
