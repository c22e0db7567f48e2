"""Examples of what rules did: the nearest misses, places in the right text, the same ones however the work is split."""

import random

import numpy as np
import pytest

from lmworks.data.annotation import Annotations, Mark
from lmworks.data.annotation_table import AnnotatedDocument, AnnotationTable, read_annotations, write_annotations
from lmworks.data.cleaning.examples import SHOWN, Drawn, Example, Examples
from lmworks.data.cleaning.examples_section import examples_section, note_of
from lmworks.data.cleaning.local import judge
from lmworks.data.cleaning.margins import margins_of
from lmworks.data.cleaning.policy import Limit, OnMark, Policy, Step
from lmworks.data.cleaning.writing import Decided, live_through
from lmworks.data.corpus import CorpusShard
from lmworks.data.edits import apply_edits
from lmworks.excerpts import Piece
from lmworks.records import Document, Edit

STEPS = (
    Step("long", limits={"words": Limit(at_least=100, at_most=1000)}),
    Step("web", kinds=("web",), limits={"share": Limit(at_most=0.0)}),
    Step("personal", marks={"pii.*": OnMark("redact", 0.5)}),
)


def row(document: Document, measures=None, marks=(), edits=()) -> AnnotatedDocument:
    repaired = apply_edits(document.text, edits).text
    found = Annotations(measures or {}, tuple(sorted(marks)))
    return AnnotatedDocument(
        document.uri, document.hash, "text", len(repaired), len(repaired.encode()), found, edits, "s"
    )


def document(name: str, text: str = "some text") -> Document:
    return Document(text, f"s/{name}", "text/plain", "plain", "1", "0" * 64, source="s")


def examples_of(folder, corpus: list[tuple[Document, AnnotatedDocument]], steps=STEPS) -> Drawn:
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    write_annotations(path, [annotated for _, annotated in corpus])
    table = read_annotations(path)
    decided = Decided(CorpusShard(0, "i", path), (path,), steps, tuple(judge(Policy(steps), table)))
    examples = Examples(steps, table)
    for place, (each, _) in enumerate(corpus):
        examples.add(live_through(each, place, table, decided), place)
    return examples.drawn


def measured(count: int) -> list[tuple[Document, AnnotatedDocument]]:
    documents = [document(f"{number}") for number in range(count)]
    return [(each, row(each, {"words": float(number)})) for number, each in enumerate(documents)]


def test_the_nearest_on_the_side_that_stays_of_each_threshold(tmp_path):
    found = list(examples_of(tmp_path, measured(1500)))
    near = [(example.threshold, example.value) for example in found if example.how == "nearly dropped"]
    lower = [(100, value) for value in (100, 101, 102, 103, 104)]
    assert near == [*lower, *((1000, value) for value in (1000, 999, 998, 997, 996))]
    dropped = [example.value for example in found if example.how == "dropped"]
    assert len(dropped) == SHOWN and all(value is not None and not 100 <= value <= 1000 for value in dropped)


def test_what_is_far_from_a_threshold_is_no_near_miss(tmp_path):
    corpus = [
        (each := document("a"), row(each, {"words": 400.0})),
        (each := document("b"), row(each, {"words": 120.0})),
    ]
    found = [example for example in examples_of(tmp_path, corpus) if example.how == "nearly dropped"]
    assert [example.document for example in found] == ["s/b"]


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_share_near_is_told_by_the_nearer_end_of_its_scale(tmp_path, turned):
    """Beside at least 0.8 up to 0.85; and the same documents by the share of all else, of which at most 0.2 may be."""
    values = [0.79, 0.8, 0.84, 0.86, 0.9949, 1.0]
    limit = Limit(at_most=0.2) if turned else Limit(at_least=0.8)
    corpus = [
        (each := document(f"{value}"), row(each, {"letters": round(1 - value, 6) if turned else value}))
        for value in values
    ]
    found = examples_of(tmp_path, corpus, (Step("words", limits={"letters": limit}),))
    assert [each.document for each in found if each.how == "nearly dropped"] == ["s/0.8", "s/0.84"]


@pytest.mark.parametrize(
    ("threshold", "scale"),
    [(100.0, 100.0), (1.0, 1.0), (0.75, 0.25), (0.25, 0.25), (0.125, 0.125), (-3.0, 3.0), (0, 0)],
)
def test_the_scale_of_a_threshold(threshold, scale):
    sizes = np.zeros(1, np.int64)
    table = AnnotationTable(["s/a"], [""], ["web"], sizes, sizes, {"x": np.zeros(1)}, sources=["s"])
    (found,) = margins_of((Step("one", limits={"x": Limit(at_most=threshold)}),), table)
    assert found.scale == scale


def test_a_document_that_another_step_drops_is_no_near_miss(tmp_path):
    steps = (*STEPS[:1], Step("other", limits={"x": Limit(at_most=0.0)}))
    each = document("a")
    found = examples_of(tmp_path, [(each, row(each, {"words": 101.0, "x": 1.0}))], steps)
    assert [example.how for example in found] == ["dropped"]


def test_margins_are_of_those_that_a_step_looks_at():
    sizes = np.zeros(3, np.int64)
    values = np.array([-1.0, -1.0, 1.0])  # one of a kind that the step is not about, one that it drops
    table = AnnotationTable(
        ["s/a", "s/b", "s/c"], [""] * 3, ["web", "text", "web"], sizes, sizes, {"share": values}, sources=["s"] * 3
    )
    (found,) = margins_of(STEPS[1:2], table)
    np.testing.assert_array_equal(found.distance, [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.values, [-1.0, np.nan, 1.0])


def test_ties_and_draws_do_not_depend_on_the_order_or_on_shards(tmp_path):
    corpus = [(each := document(f"{number}"), row(each, {"words": float(90 + number % 13)})) for number in range(200)]
    whole = list(examples_of(tmp_path, corpus))
    shuffled = random.Random(0).sample(corpus, len(corpus))
    joined = Drawn()
    for part in (shuffled[:50], shuffled[50:51], shuffled[51:]):
        joined.add_rows(examples_of(tmp_path, part).rows())
    assert list(joined) == whole and len(whole) == 2 * SHOWN


def test_a_repair_is_shown_in_the_text_that_it_repaired_and_a_cut_in_the_repaired_one(tmp_path):
    """Their places are of different texts: a repair before a cut moves it."""
    text = "xx removed words, and then a@b.org writes."
    each = document("a", text)
    edit = Edit(0, 11, "", "repair.x")
    repaired = apply_edits(text, [edit]).text
    start = repaired.index("a@b.org")
    marks = [Mark("pii.email", start, start + 7, 0.9), Mark("pii.name", 0, 5, 0.4)]
    found = {
        example.rule: example for example in examples_of(tmp_path, [(each, row(each, marks=marks, edits=(edit,)))])
    }
    assert found["repair.x"].pieces == (Piece("xx removed ", "removed"), Piece(text[11:]))
    email = found["pii.email"].pieces
    assert [piece for piece in email if piece.change] == [Piece("a@b.org", "removed"), Piece("<EMAIL>", "added")]
    assert "".join(piece.text for piece in email if piece.change != "added") == repaired
    unsure = found["pii.name"]
    assert unsure.how == "nearly cut" and unsure.pieces[0] == Piece("words", "marked")
    assert note_of(unsure) == "left as it is: its score is 0.4, and 0.5 is asked for"


def test_what_other_rules_cut_is_told_apart(tmp_path):
    steps = (Step("one", marks={"a": OnMark()}), Step("two", marks={"b": OnMark()}))
    each = document("x", "aaa bbb ccc")
    marks = [Mark("a", 0, 3), Mark("b", 4, 7)]
    found = {example.rule: example for example in examples_of(tmp_path, [(each, row(each, marks=marks))], steps)}
    assert [(p.text, p.change) for p in found["b"].pieces] == [
        ("aaa", "other"), (" ", ""), ("bbb", "removed"), (" ccc", ""),
    ]  # fmt: skip
    assert [p.change for p in found["a"].pieces] == ["removed", ""]  # what a later step cuts is there still


def test_a_place_that_made_a_document_go_is_marked(tmp_path):
    each = document("x", "before " * 200 + "SECRET" + " after" * 200)
    start = each.text.index("SECRET")
    steps = (Step("one", marks={"key": OnMark("drop")}),)
    (found,) = examples_of(tmp_path, [(each, row(each, marks=[Mark("key", start, start + 6)]))], steps)
    assert Piece("SECRET", "marked") in found.pieces and sum(len(piece.text) for piece in found.pieces) < 400


def example(how: str = "dropped", value=None, threshold=None, label=None, twin=None) -> Example:
    return Example("s", "r", how, "d", "", (), value, threshold, label, twin)  # type: ignore[arg-type]


def test_the_section_has_a_part_for_each_rule_in_the_order_of_the_policy():
    examples = [
        Example("two", "b", "dropped", "d", "0", ()),
        Example("one", "z", "nearly dropped", "e", "0", (), 5.0, 5.0),
        Example("one", "z", "dropped", "f", "1", ()),
        Example("one", "a", "cut", "f", "1", ()),
    ]
    section = examples_section(("repair", "one", "two"), examples)
    titles = ["one: a (1 cut)", "one: z (1 dropped, 1 nearly dropped)", "two: b (1 dropped)"]
    assert [fold.title for fold in section.folds] == titles
    assert "it holds the personal data and credentials that were cut: do not pass it on" in section.text
    assert [passage.name for passage in section.folds[1].passages] == ["f", "e"]
