"""The evaluation page: scores are drawn to scale; figures are files that can do nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_system import HOSTILE, StandIn, index_of, inert, stage

from lmworks.excerpts import Passage, Piece
from lmworks.records import Scored, Unscored
from lmworks.report import Figure, Fold, Section, Table, line_plot, table_html
from lmworks.serve.pages.evaluation_page import StageReport, figure, stage_views
from lmworks.workspace import Current

numbers = st.floats(-50, 50).map(lambda value: round(value, 3))


@st.composite
def scores(draw) -> Scored:
    low, middle, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
    return Scored(middle, (low, high), draw(st.integers(1, 500)), "s")


def drawn(score: Scored, html: str) -> tuple[float, float, float]:
    """Where the interval begins and ends, and where the value stands, in percent of the scale."""
    (cell,) = re.findall(rf'<td data-key="{re.escape(str(score.value))}">.*?</td>', html)
    start, width, value = (
        float(number[1])
        for name, attribute in (("span", "x"), ("span", "width"), ("value", "x"))
        if (number := re.search(rf'class="{name}"[^>]*? {attribute}="([-\d.]+)"', cell))
    )
    return start, start + width, value + 0.6


@given(st.lists(scores(), min_size=2, max_size=4, unique_by=lambda score: score.value))
def test_the_scores_of_a_row_are_drawn_on_one_scale(row):
    html = table_html(Table(tuple("abcd"[: len(row)]), (tuple(row),)))
    ends = [0.0, *(end for score in row for end in (score.value, *score.interval))]
    low, high = min(ends), 1.0 if min(ends) >= 0 and 0.01 <= max(ends) <= 1 else max(ends)
    assert ('class="zero"' in html) == (low < 0)
    for score in row:
        exact = [100 * (x - low) / ((high - low) or 1.0) for x in (*score.interval, score.value)]
        exact[1] = max(exact[1], exact[0] + 0.8)  # an interval is never invisible
        assert drawn(score, html) == pytest.approx(exact, abs=0.011)
        assert str(score) in html


def test_scores_of_different_kinds_are_drawn_each_on_its_scale():
    first, second = Scored(0.5, (0.5, 0.5), 9, "s"), Scored(50.0, (50.0, 50.0), 9, "s")
    html = table_html(Table(("metric", "value", "difference"), (("a", first, second),)))
    assert [drawn(score, html)[2] for score in (first, second)] == [50, 100]


SCORES = Scored(0.5, (0.4, 0.6), 9, "s"), Scored(0.25, (0.1, 0.4), 9, "s"), Unscored("too few")
TABLE = Table(("metric", "system"), tuple(zip(("recall", "precision", HOSTILE), SCORES, strict=True)), HOSTILE)
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
    StageReport("empty", "corpus.read", 1e9, 1.0, ()),
)


def links(view) -> list[str]:
    html = "".join(part for section in view.sections for part in (section.html, *(html for _, html in section.folds)))
    return re.findall(r'<img src="([^"]*)"', html)


def test_figures_are_numbered_over_the_sections_of_a_stage():
    (view,) = stage_views(TOLD)
    assert links(view) == [f"/evaluation/figure/evaluation/{number}.svg" for number in range(3)]
    assert [figure(TOLD, "evaluation", number) for number in range(3)] == [DRAWING, "<svg>1</svg>", "<svg>2</svg>"]
    for stage_name, number in (("evaluation", 3), ("empty", 0), ("x", 0)):
        with pytest.raises(LookupError):
            figure(TOLD, stage_name, number)


def test_texts_as_they_were_before_cleaning_are_not_shown():
    (view,) = stage_views(
        (StageReport("cleaned", "corpus.filter", 1e9, 2.0, (*SECTIONS, Section("s", folds=(EMPTY,)))),)
    )
    html = "".join(part for section in view.sections for part in (section.html, *(html for _, html in section.folds)))
    assert 'class="passage"' not in html and [one.withheld for one in view.sections] == [True, False, True]
    assert not any(one.withheld for one in stage_views(TOLD)[0].sections)
    assert [title for section in view.sections for title, _ in section.folds] == ["What is long"]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    stages = {
        "documents": stage(root, "documents", "corpus.read", sections=(Section("Documents", "Two were read."),)),
        "evaluation": stage(root, "evaluation", "ground.evaluate", sections=SECTIONS, seconds=3.0),
    }
    uses = {"documents": "corpus.read", "evaluation": "ground.evaluate"}
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


def test_a_figure_may_carry_its_own_style_and_nothing_else(client):
    answer = client.get("/evaluation/figure/evaluation/0.svg")
    assert answer.text == DRAWING and answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    for path in ("evaluation/7.svg", "evaluation/x.svg", "nothing/0.svg", "evaluation/-1.svg"):
        assert client.get(f"/evaluation/figure/{path}").status_code == 404


def test_the_policy_of_a_figure_passes_through_the_server(grounded):
    with grounded.http() as http:
        link = next(one for one in inert(http.get("/evaluation").text).links() if one.endswith(".svg"))
        answer = http.get(link)
    assert answer.status_code == 200 and "'unsafe-inline'" in answer.headers["content-security-policy"]


def test_a_workspace_that_was_cleared_meanwhile_says_so(service, client):
    current = service.current
    try:
        service.current = Current("r", "", {}, {"gone": "stages/gone/0"}, {"gone": "corpus.read"})
        for path in ("/evaluation", "/system"):
            answer = client.get(path)
            assert answer.status_code == 404 and "not there any more" in answer.text
    finally:
        service.current = current
