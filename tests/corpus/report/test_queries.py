"""Answers about a cleaning are those that its ledger and its documents give when they are counted one by one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import Attributes, DocumentAttributes, TaggedSpan, read_attributes, write_attributes
from lmworks.corpus.documents import DOCUMENTS, corpus_shards, document_from_json, write_documents
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Reason, judge
from lmworks.corpus.filtering.filter_policy import Limit, OnMark, Policy, Step
from lmworks.corpus.filtering.filtered_shards import TEXTS, Decided, write_part
from lmworks.corpus.filtering.flows import Amount, SourcePart
from lmworks.corpus.filtering.ledger import LEDGER, Entry, read_ledger, write_ledger
from lmworks.corpus.report.examples import Example, drawn_examples, examples_section
from lmworks.corpus.report.queries import Cleaning, Duplicates, Gone, covered, margin
from lmworks.excerpts import Piece
from lmworks.records import Document, Edit

STEPS = (
    Step("long", limits={"words": Limit(at_least=100, at_most=1000)}),
    Step("web", kinds=("web",), limits={"share": Limit(at_most=0.0)}),
    Step("items", limits={"contamination": Limit(at_most=0.5)}),
    Step("junk", marks={"junk": OnMark("cut")}),
    Step("personal", marks={"pii.*": OnMark("redact", 0.5)}),
)


def made(folder: Path, rows: list[dict], steps=STEPS, shards: int = 2) -> tuple[Cleaning, list]:
    """A cleaning of documents that are made of text, edits, measures, marks and labels, in several shards."""
    tables, decided, parts = [], [], []
    for number in range(shards):
        (folder / f"in{number}").mkdir(parents=True)
        documents, annotated = [], []
        for row in rows[number::shards]:
            edits = row.get("edits", ())
            text = apply_edits(row["text"], edits).text
            one = Document(row["text"], row["uri"], "text/plain", "p", "1", "0" * 64, date="2004-05-01",
                           licence=row.get("licence"), source=row["uri"].split("/")[0])  # fmt: skip
            found = Attributes(row.get("measures", {}), tuple(sorted(row.get("marks", ()))), row.get("labels", {}))
            documents.append(one)
            size = len(text.encode())
            annotated.append(DocumentAttributes(one.uri, one.hash, "text", len(text), size, found, edits, one.source))
        write_documents(folder / f"in{number}", documents)
        path = folder / f"{number}.parquet"
        write_attributes(path, annotated)
        tables.append(read_attributes(path))
        (shard,) = corpus_shards({"in": folder / f"in{number}"})
        decided.append(Decided(shard, (path,), tuple(steps), tuple(judge(Policy(tuple(steps)), tables[-1]))))
    for number, each in enumerate(decided):
        write_part(each, folder / f"part{number}")
        parts.append(folder / f"part{number}")
    (folder / "out" / DOCUMENTS).mkdir(parents=True)
    write_ledger(folder / "out" / LEDGER, (entry for part in parts for entry in read_ledger(part / LEDGER)))
    for number, part in enumerate(parts):
        (folder / "out" / DOCUMENTS / f"{number:05d}-{0:016x}.jsonl").write_bytes((part / TEXTS).read_bytes())
    return Cleaning(folder / "out", Policy(tuple(steps)), tables), [each.shard for each in decided]


ROWS = [
    {"uri": "s/a/1", "text": "a@b.org or c@d.org, ünsure", "measures": {"words": 100, "pii_marks": 2},
     "marks": [TaggedSpan("pii.email", 0, 7, 0.9), TaggedSpan("pii.email", 11, 18, 0.4)], "licence": "MIT"},
    {"uri": "s/a/2", "text": "xx e@f.org", "edits": (Edit(0, 3, "", "repair.x"),), "measures": {"words": 120},
     "marks": [TaggedSpan("pii.email", 0, 7, 0.3), TaggedSpan("junk", 0, 7)]},
    {"uri": "s/b/3", "text": "g@h.org item", "measures": {"words": 300, "contamination": 0.9},
     "marks": [TaggedSpan("pii.email", 0, 7, 0.9)], "labels": {"evaluation_item": "set/1"}},
    {"uri": "t/4", "text": "short", "measures": {"words": 1}},
    {"uri": "t/5", "text": "item", "measures": {"words": 990, "contamination": 0.2},
     "labels": {"evaluation_item": "set/1"}},
]  # fmt: skip


def test_counts_are_those_of_the_documents(tmp_path):
    cleaning, _ = made(tmp_path, ROWS)
    entries = list(read_ledger(cleaning.folder / LEDGER))
    shards = sorted((cleaning.folder / DOCUMENTS).iterdir())
    stay = [document_from_json(line, "") for path in shards for line in path.read_bytes().splitlines()]
    assert [each.uri for each in stay] == ["s/a/1", "t/5"]  # of one that stays nothing was left
    flows = Counter()
    for entry in entries:
        if entry.verdict != "gone":
            rule = entry.first.rule if entry.verdict == "dropped" else ""
            key = (entry.source, entry.kind, entry.language or "", entry.step, entry.verdict, rule)
            flows.update({(key, 0): 1, (key, 1): entry.bytes_before, (key, 2): entry.bytes_after})
    assert {(key, number) for key, number in flows if flows[key, number]} == {
        ((f.source, f.kind, f.language, f.step, f.verdict, f.rule), number)
        for f in cleaning.flows
        for number, count in enumerate((f.documents, f.before, f.after))
        if count == flows[(f.source, f.kind, f.language, f.step, f.verdict, f.rule), number] and count
    }
    assert cleaning.cut_rules == [
        ("junk", "junk", 1, 1, 7, 0), ("personal", "pii.email", 1, 1, 7, 7), ("repair", "repair.x", 1, 1, 3, 0)
    ]  # fmt: skip
    size = Amount(2, len(ROWS[0]["text"].encode()) + len("xx e@f.org"))
    part = SourcePart("s", "s/a", size, Amount(1, len("<EMAIL> or c@d.org, ünsure".encode())))
    assert part in cleaning.parts()
    assert {each.name for each in cleaning.parts()} >= {"s", "t", "s/b", "the kind text in s"}
    assert cleaning.values("licence") == [("", 1), ("MIT", 1)] and cleaning.values("year", "t") == [("2004", 1)]


def test_personal_data_and_evaluation_items_are_found_taken_out_and_left(tmp_path):
    cleaning, _ = made(tmp_path, ROWS)
    assert cleaning.personal_data == [("pii.email", 4, 3, 1, 1)]
    assert cleaning.evaluation_items() == [("set/1", 2, 1, 0.9)]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 6)), min_size=1),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=20, unique=True).map(sorted),
)
def test_a_place_is_gone_where_each_of_its_characters_is(spans, characters):
    """Cuts of one character each, of which those beside each other touch."""
    places, starts, sizes = (np.array(column) for column in zip(*spans, strict=True))
    cuts = np.array(characters, np.int64).reshape(-1, 2)
    found = covered((places, starts, starts + sizes), (cuts[:, 0], cuts[:, 1], cuts[:, 1] + 1))
    gone = {*characters}
    assert found.tolist() == [{(p, at) for at in range(start, start + n)} <= gone for p, start, n in spans]


# ---------------------------------------------------------------------------------------------------------------------
# Examples


def measured(count: int) -> list[dict]:
    return [{"uri": f"s/{number}", "text": f"text {number}", "measures": {"words": number}} for number in range(count)]


def test_the_nearest_to_each_threshold_are_shown_whatever_the_shards(tmp_path):
    cleaning, _ = made(tmp_path / "a", measured(1500), STEPS[:1])
    found = drawn_examples(cleaning)
    near = [(example.threshold, example.value) for example in found if example.how == "nearly dropped"]
    assert near == [*((100, value) for value in range(100, 105)), *((1000, value) for value in range(1000, 995, -1))]
    dropped = [example.value for example in found if example.how == "dropped"]
    assert sorted(dropped[:3]) == [98, 99, 1001] and sorted(dropped[3:]) == [1498, 1499]

    def shown(examples: list[Example]) -> list[tuple]:
        return [(example.how, example.document) for example in examples]

    assert shown(drawn_examples(made(tmp_path / "b", measured(1500), STEPS[:1], shards=3)[0])) == shown(found)


def test_places_are_shown_in_the_text_that_they_are_of(tmp_path):
    """The repair in the text as it was extracted, a cut in the repaired one; what earlier steps cut is told apart."""
    text = "xx removed words, and then a@b.org writes."
    rows = [{"uri": "s/1", "text": text, "edits": (Edit(0, 11, "", "repair.x"),),
             "marks": [TaggedSpan("pii.email", 16, 23, 0.9), TaggedSpan("pii.name", 0, 5, 0.4),
                       TaggedSpan("junk", 7, 10)]}]  # fmt: skip
    cleaning, shards = made(tmp_path, rows, STEPS[3:], shards=1)
    folds = {fold.title: fold.passages for fold in examples_section(cleaning, shards).folds}
    changed = {
        title: [(piece.text, piece.change) for piece in passage.pieces if piece.change]
        for title, (passage,) in folds.items()
    }
    assert changed["repair: repair.x (1 cut)"] == [("xx removed ", "removed")]
    email = [("and", "other"), ("a@b.org", "removed"), ("<EMAIL>", "added")]
    assert changed["personal: pii.email (1 cut)"] == email
    assert changed["personal: pii.name (1 nearly cut)"] == [("words", "marked")]
    assert folds["repair: repair.x (1 cut)"][0].pieces[1] == Piece(rows[0]["text"][11:])


@pytest.mark.parametrize(
    ("side", "threshold", "value", "expected"),
    [
        ("at most", 100.0, 75.0, 0.25),
        ("at least", 0.8, 0.85, 0.25),
        ("at most", 0.2, 0.15, 0.25),
        ("at most", 0, -1, 1),
    ],
)
def test_a_margin_is_a_share_of_the_way_to_the_nearer_end(side, threshold, value, expected):
    assert margin(side, threshold, np.array([value])) == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------------------------------
# Duplicates


def entry(uri: str, step: str, twin: str = "", verdict: str = "") -> Entry:
    verdict = verdict or ("dropped" if twin else "kept")
    reasons = (Reason("near", 0.9, 0.8, twin=twin or None),) if verdict != "kept" else ()
    return Entry(uri, "0" * 64, "s", "web", None, step, verdict, 9, 0, 9, 0, reasons)  # type: ignore[arg-type]


def test_a_chain_is_followed_to_who_stays_or_to_another_reason(tmp_path):
    rows = (
        *(entry("a", "equal", "b"), entry("a", "alike", "x", "gone")),
        *(entry("b", "equal"), entry("b", "alike", "c")),
        *(entry("c", "equal"), entry("c", "alike")),
        *(entry("d", "equal", "e"), entry("e", "equal"), entry("e", "nothing_left", verdict="dropped")),
    )
    write_ledger(tmp_path / "ledger", rows)
    duplicates = Duplicates(tmp_path / "ledger")
    to_c, to_b = Gone("b", "alike", "near", 0.9, "c"), Gone("a", "equal", "near", 0.9, "b")
    empty = Gone("e", "nothing_left", "near", 0.9)
    assert duplicates.chains("abce") == {"a": (to_b, to_c), "b": (to_c,), "c": (), "e": (empty,)}
    assert duplicates.clusters() == [("c", 2, 0.9, "alike, equal"), ("e", 1, 0.9, "equal")]


@given(st.lists(st.integers(0, 9), max_size=20))
def test_a_document_is_among_those_that_went_for_each_of_its_chain(tmp_path_factory, parents):
    """Each document's twin is one before it, or itself: then it stays."""
    rows = [entry(f"{n:02d}", "alike", f"{min(p, n):02d}" if p < n else "") for n, p in enumerate(parents)]
    path = tmp_path_factory.mktemp("chains") / "ledger"
    write_ledger(path, rows)
    duplicates, names = Duplicates(path), [row.document for row in rows]
    of = duplicates.chains(names)
    for name in names:
        mine = {gone.document for gone in duplicates.went_for(name)}
        assert mine == {other for other in names if name in {gone.twin for gone in of[other]}}
    stay = {name for name in names if not of[name]}
    assert sum(size for _, size, _, _ in duplicates.clusters()) == len(names) - len(stay)
