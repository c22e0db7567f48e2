"""What comes in is kept, cut or dropped, to the byte, whatever the policy and the documents: random ones of both."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmworks.corpus.attributes import Attributes, DocumentAttributes, TaggedSpan, read_attributes, write_attributes
from lmworks.corpus.documents import corpus_shards, document_from_json, write_documents
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import judge
from lmworks.corpus.filtering.decide_duplicates import resolve, standing_of
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Choice, Limit, OnMark, Policy, Step
from lmworks.corpus.filtering.filtered_shards import COUNTS, TEXTS, Decided, write_part
from lmworks.corpus.filtering.flows import (
    Amount,
    Flow,
    SourcePart,
    Tally,
    UnbalancedError,
    alarms,
    check_balance,
    read_flows,
    tally,
)
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.records import Document, Edit

TEXT = st.text("ab é\n𝄞", max_size=30)
SOURCES = st.sampled_from(["books", "web", "talks"])
VALUE = st.none() | st.floats(-2, 2)


@st.composite
def ranges(draw, length: int) -> list[tuple[int, int]]:
    """Ranges of a text that neither overlap nor touch."""
    ends = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    return [(ends[at], ends[at + 1]) for at in range(0, len(ends) - 1, 2)]


@st.composite
def measured(draw, number: int) -> tuple[Document, DocumentAttributes]:
    """A document, repaired in places, with measures, labels and marks, which may overlap."""
    source, text = draw(SOURCES), draw(TEXT)
    document = Document(text, f"{source}/{number}", "text/plain", "plain", "1", "0" * 64, source=source)
    edits = tuple(
        Edit(start, end, draw(st.sampled_from(["", "é", "bb"])), "repair.x") for start, end in draw(ranges(len(text)))
    )
    repaired = apply_edits(text, edits).text
    places = st.tuples(st.integers(0, len(repaired)), st.integers(0, len(repaired))).map(sorted)
    marks = draw(st.lists(st.tuples(st.sampled_from(["pii.a", "junk.b"]), places, st.floats(0, 1)), max_size=4))
    found = Attributes(
        {name: value for name in ("x", "y") if (value := draw(VALUE)) is not None},
        tuple(sorted(TaggedSpan(rule, *place, score) for rule, place, score in marks)),
        {
            "exact": repaired,
            **({"language": language} if (language := draw(st.sampled_from(["", "de", "en"]))) else {}),
        },
    )
    size = len(repaired.encode())
    return document, DocumentAttributes(document.uri, document.hash, "text", len(repaired), size, found, edits, source)


LIMIT = st.builds(Limit, at_least=st.floats(-1, 0)) | st.builds(Limit, at_most=st.floats(0, 1))
ON_MARK = st.builds(OnMark, st.sampled_from(["cut", "redact", "drop"]), st.sampled_from([0.0, 0.5]))
MARKS = st.dictionaries(st.sampled_from(["pii.*", "junk.b", "*"]), ON_MARK, min_size=1).map(
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


@st.composite
def corpora(draw) -> list[tuple[Document, DocumentAttributes]]:
    return [draw(measured(number)) for number in range(draw(st.integers(1, 8)))]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(corpora(), policies())
def test_in_is_kept_and_cut_and_dropped(tmp_path_factory, corpus, policy):
    folder = tmp_path_factory.mktemp("corpus")
    cleaned(folder, corpus, policy)
    entries = list(read_ledger(folder / "part" / LEDGER))
    written = [document_from_json(line, "") for line in (folder / "part" / TEXTS).read_bytes().splitlines()]
    names = (REPAIR, *(step.name for step in policy.steps), EMPTY)
    for source in {document.uri.split("/")[0] for document, _ in corpus}:
        rows = [entry for entry in entries if entry.source == source]
        came = [document for document, _ in corpus if document.uri.startswith(source + "/")]
        stays = [document for document in written if document.uri.startswith(source + "/")]
        dropped = [row for row in rows if row.verdict == "dropped"]
        cut = sum(row.bytes_before - row.bytes_after for row in rows if row.verdict == "cut")
        assert len(came) == len(stays) + len(dropped)
        assert size(came) == size(stays) + sum(row.bytes_before for row in dropped) + cut
    for uri in (document.uri for document, _ in corpus):
        assert [entry.step for entry in entries if entry.document == uri] == list(names)
    flows = read_flows(folder / "part" / LEDGER)
    counts = json.loads((folder / "part" / COUNTS).read_text("utf-8"))
    assert {source: Amount(*row[:2]) for source, row in counts.items()} == amounts([each for each, _ in corpus])
    assert {source: Amount(*row[2:]) for source, row in counts.items() if row[2]} == amounts(written)
    check_balance(flows, names, amounts([document for document, _ in corpus]), amounts(written))
    whole = tally(flows, lambda flow: flow.step)
    assert whole[names[0]].came == amounts([document for document, _ in corpus], whole=True)[""]
    assert whole.get(names[-1], Tally()).left == amounts(written, whole=True).get("", Amount())


def cleaned(folder, corpus, policy) -> None:
    (folder / "input").mkdir()
    write_documents(folder / "input", [document for document, _ in corpus])
    (shard,) = corpus_shards({"input": folder / "input"})
    write_attributes(folder / "annotations.parquet", [annotated for _, annotated in corpus])
    table = read_attributes(folder / "annotations.parquet")
    judged = judge(policy, table)
    resolve(policy, standing_of([table]), [judged], None)
    write_part(Decided(shard, (folder / "annotations.parquet",), policy.steps, tuple(judged)), folder / "part")


def size(documents) -> int:
    return sum(len(document.text.encode()) for document in documents)


def amounts(documents, whole=False) -> dict[str, Amount]:
    sources = {"" if whole else document.uri.split("/")[0] for document in documents}
    of = {source: [each for each in documents if each.uri.startswith(source)] for source in sources}
    return {source: Amount(len(found), size(found)) for source, found in of.items()}


FLOWS = [
    Flow("a", "text", "en", "one", "kept", "", 3, 30, 30),
    Flow("a", "text", "en", "one", "dropped", "x", 1, 10, 0),
    Flow("a", "text", "de", "two", "kept", "", 2, 20, 20),
    Flow("a", "text", "de", "two", "cut", "", 1, 10, 4),
    Flow("b", "text", "", "one", "kept", "", 1, 5, 5),
    Flow("b", "text", "", "two", "kept", "", 1, 5, 5),
]


def test_a_ledger_that_balances():
    check_balance(
        FLOWS, ("one", "two"), {"a": Amount(4, 40), "b": Amount(1, 5)}, {"a": Amount(3, 24), "b": Amount(1, 5)}
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Flow("a", "text", "en", "two", "kept", "", 1, 1, 1), "of a, .* one left"),  # a document that came from nowhere
        (Flow("b", "text", "en", "two", "cut", "", 0, 1, 0), "of b, .* one left"),  # a byte that did
        (
            Flow("c", "text", "en", "two", "kept", "", 1, 1, 1),
            "of c, .* one left",
        ),  # of a source that nothing was read of
        (Flow("a", "text", "en", "one", "kept", "", 1, 7, 6), "neither kept whole"),  # changed, and called kept
        (Flow("a", "text", "en", "one", "dropped", "x", 1, 7, 6), "neither kept whole"),
        (Flow("a", "text", "en", "one", "lost", "", 1, 7, 7), "neither kept whole"),
    ],
)
def test_whatever_is_unaccounted_for_is_an_error_that_names_the_source(wrong, told):
    with pytest.raises(UnbalancedError, match=told):
        check_balance([*FLOWS, wrong], ("one", "two"))


def test_two_sources_that_make_up_for_each_other_do_not_balance():
    """In the whole all is well: a document that one source loses, another one wins."""
    flows = [
        Flow("a", "text", "", "one", "kept", "", 2, 20, 20),
        Flow("a", "text", "", "two", "kept", "", 1, 10, 10),
        Flow("b", "text", "", "one", "kept", "", 1, 10, 10),
        Flow("b", "text", "", "two", "kept", "", 2, 20, 20),
    ]
    whole = tally(flows, lambda flow: flow.step)
    assert whole["one"].left == whole["two"].came
    with pytest.raises(UnbalancedError):
        check_balance(flows, ("one", "two"))


@pytest.mark.parametrize("ends", [{"came": {"a": Amount(4, 41)}}, {"stay": {"a": Amount(2, 24)}}])
def test_what_was_read_and_written_must_be_what_the_ledger_says(ends):
    flows = [flow for flow in FLOWS if flow.source == "a"]
    with pytest.raises(UnbalancedError, match="of a"):
        check_balance(flows, ("one", "two"), **ends)


def test_an_alarm_is_of_a_step_and_a_source_and_of_what_came_in():
    flows = [
        *(
            Flow("small", "text", "", "one", verdict, "", 5, 50, left)
            for verdict, left in (("dropped", 0), ("kept", 50))
        ),
        Flow("small", "text", "", "two", "dropped", "", 2, 20, 0),  # two of ten, though two of the five that were left
        Flow("small", "text", "", "two", "cut", "", 3, 30, 10),
        Flow("large", "text", "", "one", "kept", "", 1000, 9000, 9000),
        Flow("large", "text", "", "two", "cut", "", 1000, 9000, 6000),
    ]
    found = alarms(0.3, ("one", "two"), flows)
    assert [(alarm.source, alarm.step, alarm.documents, alarm.bytes) for alarm in found] == [
        ("large", "two", 0.0, pytest.approx(1 / 3)),
        ("small", "one", 0.5, 0.5),
        ("small", "two", 0.2, 0.4),
    ]
    assert str(found[1]) == "one took 50% of the documents and 50% of the bytes of small"
    assert alarms(0.5, ("one", "two"), flows) == []


def test_an_alarm_is_of_all_steps_and_of_a_part_of_a_source():
    def part(name, came, stay):
        return SourcePart("pages", name, Amount(came, 10 * came), Amount(stay, 10 * stay))

    flows = [Flow("pages", "text", "", step, "kept", "", 100, 1000, 1000) for step in ("one", "two")]
    parts = [part("pages/a", 40, 20), part("pages/b", 60, 55), part("pages/c", 9, 0)]
    assert [str(alarm) for alarm in alarms(0.3, ("one", "two"), flows, [part("pages", 100, 75), *parts])] == [
        "all steps took 50% of the documents and 50% of the bytes of pages/a"
    ]
    (whole,) = alarms(0.3, ("one", "two"), flows, [part("pages", 100, 60), part("the kind web in pages", 100, 60)])
    assert (whole.source, whole.step, whole.documents) == ("pages", "all steps", 0.4)
