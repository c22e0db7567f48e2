"""Sections of the report: limits with what they refuse, clusters from the ledger, counts of what was found."""

from typing import get_args

import numpy as np
import pytest

from lmworks.data.annotation import Annotations, Kind, Mark
from lmworks.data.annotation_table import AnnotatedDocument, AnnotationTable, read_annotations, write_annotations
from lmworks.data.cleaning.cluster_view import clusters_of
from lmworks.data.cleaning.clusters_section import clusters_section, twin_entries
from lmworks.data.cleaning.flows import Amount
from lmworks.data.cleaning.kinds_section import kinds_section
from lmworks.data.cleaning.ledger import Entry, read_ledger, write_ledger
from lmworks.data.cleaning.local import Reason, judge
from lmworks.data.cleaning.measures import measures_section
from lmworks.data.cleaning.policy import Limit, OnMark, Policy, Step
from lmworks.data.cleaning.profile import Profile, Profiler, Share
from lmworks.data.cleaning.writing import Decided, live_through
from lmworks.data.corpus import CorpusShard
from lmworks.data.repair.repairing import REPAIRED, repairs_of
from lmworks.records import Document


def table(sources: list[str], **measures: list[float]) -> AnnotationTable:
    uris = [f"{source}/{number}" for number, source in enumerate(sources)]
    sizes = np.zeros(len(uris), np.int64)
    arrays = {name: np.array(values, float) for name, values in measures.items()}
    return AnnotationTable(uris, [""] * len(uris), ["web"] * len(uris), sizes, sizes, arrays, sources=sources)


def test_a_limit_is_drawn_with_what_it_refuses_of_the_documents_that_its_step_looks_at():
    limits = {"x": Limit(at_least=1.0), "y": Limit(at_most=9.0), "z": Limit(at_most=1.0)}
    policy = Policy((Step("one", sources=("a",), limits=limits), Step("two", sources=("b",), limits={"x": Limit(2.0)})))
    tables = [table(["a", "a", "b"], x=[0.0, 2.0, 0.0], y=[1.0, np.nan, 99.0]), table(["a"], x=[0.5], y=[3.0])]
    section = measures_section(policy, tables)
    captions = [figure.caption for figure in section.figures]
    assert captions[0].startswith("one: x, 3 documents, of which 2 lie beyond")
    assert captions[1].startswith("two: x, 1 documents, of which 1 lie beyond") and len(captions) == 2
    (idle,) = section.folds
    assert [figure.caption.split(";")[0] for figure in idle.figures] == ["one: y, 2 documents, of which 0 lie beyond"]
    assert "1 have no value" in idle.figures[0].caption
    assert section.text.endswith("No document that the step looks at has a value of: z (one).")
    assert ">at least 1<" in section.figures[0].svg and ">at most 9<" in idle.figures[0].svg


@pytest.mark.slow
def test_sources_have_outlines_of_their_own_and_large_measures_are_drawn_by_their_logarithm():
    names = ["first"] * 3 + ["second"] * 2 + [f"s{number}" for number in range(9)]
    policy = Policy((Step("one", limits={"x": Limit(at_most=0.5)}),))
    section = measures_section(policy, [table(names, x=list(np.linspace(0, 1, len(names))))])
    svg = section.figures[0].svg
    assert ">first<" in svg and ">second<" in svg and ">5 others<" in svg
    policy = Policy((Step("one", limits={"words": Limit(50, 100_000)}),))
    section = measures_section(policy, [table(["a"] * 50, words=list(range(60, 1060, 20)))])
    assert "4</tspan>" in section.folds[0].figures[0].svg  # the exponent of 10,000


def entry(uri: str, step: str, twin: str = "", verdict: str = "dropped", size: int = 9) -> Entry:
    reasons = (Reason("near", 0.9, 0.8, twin=twin or None),) if verdict == "dropped" else ()
    return Entry(uri, "0" * 64, "s", "web", None, step, verdict, size, 0, size, 0, reasons)  # type: ignore[arg-type]


def test_clusters_are_those_of_the_whole_ledger(tmp_path):
    rows = [
        *(entry("s/a", "one", verdict="kept", size=30), entry("s/a", "two", verdict="kept", size=28)),
        *(entry("s/b", "one", "s/a"), entry("s/b", "two", "s/x", verdict="gone")),
        *(entry("s/c", "one", verdict="cut"), entry("s/c", "two", "s/a", size=5)),
        *(entry("s/d", "one"), entry("s/d", "two", verdict="gone")),
        *(entry("s/e", "one", "s/d"), entry("s/e", "two", verdict="gone")),
        *(entry("s/f", "one", verdict="kept"), entry("s/f", "two", verdict="kept")),
    ]
    write_ledger(tmp_path / "ledger", rows)
    found = clusters_of(twin_entries(tmp_path / "ledger"))
    assert found == clusters_of(read_ledger(tmp_path / "ledger"))
    assert [(cluster.survivor, cluster.size, cluster.stays) for cluster in found] == [
        ("s/a", 3, True),
        ("s/d", 2, False),
    ]
    assert len({each.document for each in twin_entries(tmp_path / "ledger")}) == 5  # nothing of what has no twin
    texts = {"s/a": "one two", "s/b": "one 2", "s/c": "one two", "s/d": "x", "s/e": "y"}
    section = clusters_section(found, lambda uris: {uri: texts[uri] for uri in uris})
    assert [fold.title for fold in section.folds] == ["2 like s/a", "1 like s/d, which a later step dropped itself"]
    differing, equal = section.folds[0].passages
    assert (differing.name, differing.beside_name) == ("s/a", "s/b")
    assert [piece.text for piece in differing.beside if piece.change == "added"] == ["2"]
    assert equal.note.endswith("the text is that of s/a") and not equal.beside


def test_a_ledger_without_duplicates(tmp_path):
    write_ledger(tmp_path / "ledger", [entry("s/a", "one", verdict="kept"), entry("s/b", "one")])
    assert clusters_of(twin_entries(tmp_path / "ledger")) == []
    assert clusters_section([], lambda uris: {}).text == "No document was dropped as a duplicate."


def test_a_profile_counts_what_was_read_found_and_left(tmp_path):
    """Three documents with addresses: one stays and loses the surer of two, one stays whole, one goes."""
    steps = (
        Step("personal", marks={"pii.*": OnMark("redact", 0.5)}),
        Step("items", limits={"contamination": Limit(at_most=0.5)}),
    )
    texts = ["a@b.org or c@d.org, ünsure", "e@f.org", "g@h.org item"]
    shares, items = [0.2, 0.0, 0.9], ["set/1", None, "set/1"]
    scores = [[0.9, 0.4], [0.3], [0.9]]
    documents, rows = [], []
    for number, text in enumerate(texts):
        one = Document(
            text, f"s/{number}", "text/plain", "p", "1", "0" * 64, date=f"200{number}-05-01", licence="MIT", source="s"
        )
        starts = [0, 11][: len(scores[number])]
        marks = tuple(
            Mark("pii.email", start, start + 7, score) for start, score in zip(starts, scores[number], strict=True)
        )
        item = items[number]
        found = Annotations({"contamination": shares[number]}, marks, {"evaluation_item": item} if item else {})
        documents.append(one)
        rows.append(AnnotatedDocument(one.uri, one.hash, "text", len(text), len(text.encode()), found, source="s"))
    write_annotations(tmp_path / "a.parquet", rows)
    annotations = read_annotations(tmp_path / "a.parquet")
    shard = CorpusShard(0, "i", tmp_path)
    decided = Decided(shard, (tmp_path,), steps, tuple(judge(Policy(steps), annotations)))
    parts = [Profiler(), Profiler()]
    for place, one in enumerate(documents):
        parts[place % 2].add(one, live_through(one, place, annotations, decided), annotations, place)
    whole = Profiler()
    for part in parts:
        whole.add_rows(part.rows())
    profile = whole.profile()
    (personal,) = profile.personal
    assert (personal.found, personal.documents, personal.removed, personal.left) == (4, 3, 1, 2)
    (item,) = profile.items
    assert (item.item, item.documents, item.stay, item.share) == ("set/1", 2, 1, 0.9)
    assert profile.amounts(before=True) == {"s": Amount(3, sum(len(text.encode()) for text in texts))}
    assert profile.amounts(before=False) == {
        "s": Amount(2, len("<EMAIL> or c@d.org, ünsure".encode()) + len("e@f.org"))
    }
    years = {
        share.value: (share.before.documents, share.after.documents)
        for share in profile.shares
        if share.facet == "year"
    }
    assert years == {"2000": (1, 1), "2001": (1, 1), "2002": (1, 0)}
    cuts = [(cut.step, cut.rule, cut.documents, cut.places, cut.taken, cut.written) for cut in profile.cuts]
    assert cuts == [("personal", "pii.email", 2, 2, 14, 14)]


def test_kinds_are_told_with_the_steps_that_do_not_look_at_them():
    steps = (Step("pages", kinds=("web",), limits={"x": Limit(1.0)}), Step("any", limits={"x": Limit(1.0)}))
    counts = (
        ("a", "kind", "text", 3, 2),
        ("b", "kind", "text", 1, 0),
        ("b", "kind", "web", 5, 5),
        ("a", "all", "", 3, 2),
        ("a", "rows", "text", 3, 2),
    )
    made = tuple(Share(source, facet, kind, Amount(came), Amount(stay)) for source, facet, kind, came, stay in counts)
    section = kinds_section(steps, Profile(made, (), (), ()))
    (found,) = section.tables
    assert [alarm.startswith("3 rows of tables") and "pages do not" in alarm for alarm in section.alarms] == [True]
    assert kinds_section(steps[1:], Profile(made, (), (), ())).alarms == ()
    assert [(row[0], row[1], row[2], row[4]) for row in found.rows] == [("web", 5, 5, "none"), ("text", 4, 2, "pages")]
    assert all(bool(repairs_of(kind)) == (REPAIRED[kind] != "nothing") for kind in get_args(Kind))
