"""The evaluation page: numbers are recognised, sorted and drawn to scale; figures are files that can do nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_system import HOSTILE, StandIn, index_of, inert, stage

from kit.tables import for_each
from lmworks.excerpts import Passage, Piece
from lmworks.records import Scored
from lmworks.report import Figure, Fold, Section, Table, line_plot
from lmworks.serve.pages.evaluation_page import StageReport, figure, grid, sorted_grid, stage_views
from lmworks.workspace import Current

numbers = st.floats(-50, 50).map(lambda value: round(value, 3))


@st.composite
def scores(draw) -> Scored:
    low, middle, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return Scored(middle, (low, high), draw(st.integers(1, 500)), "s")


@given(st.lists(scores(), min_size=1, max_size=4))
def test_a_score_is_recognised_as_it_is_written_and_drawn_on_the_scale_of_its_row(row):
    (cells,) = grid("t", Table(tuple("abcd"[: len(row)]), (tuple(map(str, row)),))).rows
    low = min([0.0, *(score.interval[0] for score in row)])
    for cell, score in zip(cells, row, strict=True):
        assert cell.bar is not None and cell.key == score.value and cell.n == str(score.n)
        assert 0 <= cell.bar.low <= cell.bar.value <= cell.bar.high <= 100
        assert (cell.bar.zero is not None) == (low < 0)
    if len({score.value for score in row}) > 1:
        by_value = sorted(zip(row, cells, strict=True), key=lambda pair: pair[0].value)
        places = [cell.bar.value for _, cell in by_value if cell.bar]
        assert places == sorted(places)


@given(st.lists(st.one_of(st.text(max_size=9), st.integers(-99, 99), numbers, scores().map(str)), max_size=12),
       st.booleans())  # fmt: skip
def test_sorting_keeps_all_rows_and_puts_numbers_in_order(column, descending):
    table = grid("t", Table(("name", "value"), tuple((str(n), value) for n, value in enumerate(column))))
    rows = sorted_grid(table, 1, descending=descending).rows
    assert sorted(row[0].text for row in rows) == sorted(str(n) for n in range(len(column)))
    keys = [row[1].key for row in rows]
    known = [key for key in keys if key is not None]
    assert keys[: len(known)] == sorted(known, reverse=descending)


TABLE = Table(("metric", "system"), (("recall", "0.500 [0.400, 0.600] n=9"), ("precision", "0.250 [0.100, 0.400] n=9"),
                                     (HOSTILE, "unscored: too few")), HOSTILE)  # fmt: skip
DRAWING = line_plot({"a": ([0, 1], [0, 1])}, x="x", y="y")
PASSAGE = Passage(HOSTILE, (Piece("kept "), Piece(HOSTILE, "removed")), HOSTILE, HOSTILE, (Piece(HOSTILE, "added"),))
EMPTY = Fold("Passages alone", passages=(PASSAGE,))
FOLD = Fold("What is long", HOSTILE, (TABLE,), (Figure("<svg>1</svg>", ""),), (PASSAGE,))
SECTIONS = (
    Section(HOSTILE, HOSTILE, (TABLE,), (Figure(DRAWING, HOSTILE),), (PASSAGE,), (FOLD,), (HOSTILE,)),
    Section("Second", figures=(Figure("<svg>2</svg>", ""),)),
)
TOLD = (
    StageReport("evaluation", "ground.evaluate", 1e9, 2.0, SECTIONS),
    StageReport("empty", "data.read", 1e9, 1.0, ()),
)


def test_figures_are_numbered_over_the_sections_of_a_stage():
    (view,) = stage_views(TOLD)
    parts = [part for section in view.sections for part in (section.part, *section.folds)]
    assert [one.link for part in parts for one in part.figures] == [
        f"/evaluation/figure/evaluation/{number}.svg" for number in range(3)]  # fmt: skip
    assert [figure(TOLD, "evaluation", number) for number in range(3)] == [DRAWING, "<svg>1</svg>", "<svg>2</svg>"]
    for stage_name, number in (("evaluation", 3), ("empty", 0), ("x", 0)):
        with pytest.raises(LookupError):
            figure(TOLD, stage_name, number)


def test_texts_as_they_were_before_cleaning_are_not_shown():
    (view,) = stage_views((StageReport("cleaned", "data.clean", 1e9, 2.0, (*SECTIONS, Section("s", folds=(EMPTY,)))),))
    parts = [part for section in view.sections for part in (section.part, *section.folds)]
    assert not any(part.passages for part in parts) and [one.withheld for one in view.sections] == [True, False, True]
    assert not any(one.withheld for one in stage_views(TOLD)[0].sections)
    assert [part.title for part in parts].count("What is long") == 1 and "Passages alone" not in [
        p.title for p in parts
    ]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    stages = {
        "documents": stage(root, "documents", "data.read", sections=(Section("Documents", "Two were read."),)),
        "evaluation": stage(root, "evaluation", "ground.evaluate", sections=SECTIONS, seconds=3.0),
    }
    uses = {"documents": "data.read", "evaluation": "ground.evaluate"}
    made = StandIn(root, index_of(root / "index", []), Current("r", "", {}, stages, uses))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service):
    return service.client()


def test_the_report_is_shown_as_text_with_the_evaluation_first(client):
    answer = client.get("/evaluation")
    page = inert(answer.text)
    assert answer.status_code == 200
    assert page.text.index("Second") < page.text.index("Two were read.")
    assert "<script>alert(1)</script>" in page.text
    targets = [link.removeprefix("#") for link in page.links() if link.startswith("#")]
    identifiers = {attrs.get("id") for _, attrs in page.elements}
    assert targets and set(targets) <= identifiers


def test_alarms_folds_and_passages_are_shown(client):
    page = inert(client.get("/evaluation").text)
    tags = [tag for tag, _ in page.elements]
    classes = [attributes.get("class") for _, attributes in page.elements]
    assert classes.count("report-alarm") == 1 and classes.count("report-fold") == 1 == tags.count("details")
    assert classes.count("passage") == 2 and tags.count("del") == 2 and tags.count("ins") == 2
    assert page.text.index("What is long") < page.text.rindex("Second")


@for_each(("sort", "first"), [("evaluation-0-0.1", "precision"), ("-evaluation-0-0.1", "recall"), ("", "recall")])
def test_a_table_is_sorted_by_its_links(client, sort, first):
    text = client.get("/evaluation", params={"sort": sort}).text
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    names = [name for name in ("recall", "precision") if name in body]
    assert min(names, key=body.index) == first
    assert body.index("unscored") > max(body.index(name) for name in names)


def test_a_figure_may_carry_its_own_style_and_nothing_else(client):
    answer = client.get("/evaluation/figure/evaluation/0.svg")
    assert answer.text == DRAWING and answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    for path in ("evaluation/7.svg", "evaluation/x.svg", "nothing/0.svg", "evaluation/-1.svg"):
        assert client.get(f"/evaluation/figure/{path}").status_code == 404
    assert client.get("/evaluation", params={"sort": "x"}).status_code == 400


def test_the_policy_of_a_figure_passes_through_the_server(grounded):
    with grounded.http() as http:
        link = next(one for one in inert(http.get("/evaluation").text).links() if one.endswith(".svg"))
        answer = http.get(link)
    assert answer.status_code == 200 and "'unsafe-inline'" in answer.headers["content-security-policy"]


def test_a_workspace_that_was_cleared_meanwhile_says_so(service, client):
    current = service.current
    try:
        service.current = Current("r", "", {}, {"gone": "stages/gone/0"}, {"gone": "data.read"})
        for path in ("/evaluation", "/system"):
            answer = client.get(path)
            assert answer.status_code == 404 and "not there any more" in answer.text
    finally:
        service.current = current
