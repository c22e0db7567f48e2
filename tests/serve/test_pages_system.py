"""The system page: the lineage graph holds every parent and crosses no node; an answer leads back to what made it."""

from dataclasses import replace
from itertools import combinations
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_system import HOSTILE, StandIn, cited, index_of, inert, interaction, stage

from hashing_encoder import make_document
from lmworks.artefact import write_json
from lmworks.ground.conformal_risk_control import CALIBRATION, Certainty
from lmworks.records import RejectedRecord
from lmworks.serve.config import ServeConfig
from lmworks.serve.pages.lineage_graph import (
    HEIGHT,
    WIDTH,
    Item,
    ancestors,
    answer_items,
    layout,
    read_build,
    stage_items,
)
from lmworks.serve.service import Service
from lmworks.workspace import Current


@st.composite
def items(draw) -> list[Item]:
    """Any acyclic graph: the parents of an item stand before it, or do not exist."""
    count = draw(st.integers(0, 9))
    result = []
    for number in range(count):
        parents = draw(st.sets(st.sampled_from([*(f"i{n}" for n in range(number)), "unknown"]), max_size=4))
        result.append(Item(f"i{number}", "stage", str(number), "", "0" * 64, parents=tuple(sorted(parents))))
    return draw(st.permutations(result))


@given(items())
def test_the_graph_has_an_edge_for_each_parent_and_runs_from_left_to_right(found):
    graph = layout(found)
    known = {item.name for item in found}
    wanted = {(parent, item.name) for item in found for parent in item.parents if parent in known}
    assert {(edge.start, edge.end) for edge in graph.edges} == wanted and len(graph.edges) == len(wanted)
    place = {node.item.name: node for node in graph.nodes}
    assert all(place[edge.start].x < place[edge.end].x for edge in graph.edges)
    for one, other in combinations(graph.nodes, 2):
        assert one.x != other.x or abs(one.y - other.y) >= HEIGHT
    assert all(0 <= n.x <= graph.width - WIDTH and 0 <= n.y <= graph.height - HEIGHT for n in graph.nodes)


def test_what_is_made_from_itself_is_refused():
    a = Item("a", "stage", "a", "", "", parents=("b",))
    with pytest.raises(ValueError, match="a, b"):
        layout([a, replace(a, name="b", parents=("a",))])


@given(items())
def test_ancestors_are_what_something_was_made_from_and_itself(found):
    known = {item.name: item for item in found}
    for name in known:
        names = {item.name for item in ancestors(found, name)}
        assert name in names
        assert all(parent in names for one in names for parent in known[one].parents if parent in known)
        reached, waiting = set(), [name]
        while waiting:
            one = waiting.pop()
            reached.add(one)
            waiting += [parent for parent in known[one].parents if parent in known]
        assert names == reached


# ---------------------------------------------------------------------------------------------------------------------
# A workspace with two builds

document = make_document("The with statement wraps a block.", "docs:with")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("system")

    def build(documents: str, index: str) -> dict[str, str]:
        told = {
            "config": {"sources": [HOSTILE, "b"]},
            "metrics": {"documents": 2},
            "left_out": (RejectedRecord("a", "b"),),
        }
        made = {"models": {"embedder": "e" * 64}, "metrics": {"chunks": 12, "share": 0.5, "by": {}}}
        return {
            "documents": stage(root, "documents", "corpus.read", content_hash=documents, **told),
            "index": stage(
                root, "index", "retrieve.index", content_hash=index, parents={"documents": documents}, **made
            ),
        }

    build("1" * 64, "2" * 64)
    stages = build("3" * 64, "4" * 64)
    stages["calibration"] = stage(root, "calibration", "ground.calibrate", parents={"index": "4" * 64},
                                  models={"assistant": "a" * 64, "embedder": "e" * 64})  # fmt: skip
    write_json(root / stages["calibration"] / CALIBRATION, {"threshold": 0.5, "certainty": Certainty(100, 40, 33)})
    uses = {"documents": "corpus.read", "index": "retrieve.index", "calibration": "ground.calibrate"}
    current = Current("handbook", "", {"assistant": "/m/a", "embedder": "/m/e"}, stages, uses,
                      names={"assistant": HOSTILE}, description=HOSTILE)  # fmt: skip
    made = StandIn(root, index_of(root / "index", [document]), current)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service):
    return service.client()


def test_the_items_of_a_build_name_what_each_stage_was_made_from(service):
    stages, older = read_build(service.workspace, service.current, everything=True)
    found = {item.name: item for item in stage_items(stages)}
    assert found["index"].parents == ("documents", "model:embedder")
    assert found["documents"].parents == ("sources:documents",)
    assert found["calibration"].parents == ("index", "model:assistant", "model:embedder")
    assert found["index"].note == "12 chunks" and found["model:embedder"].detail == "e"
    assert [one.manifest.content_hash[0] for one in older] == ["1", "2"]


def test_an_answer_of_an_earlier_build_leads_to_that_build(service):
    stages, older = read_build(service.workspace, service.current, everything=True)
    lineage = {"documents": "1" * 64, "index": "2" * 64, "calibration": "9" * 64, "model:embedder": "e" * 64}
    one = interaction(1, verdicts=(cited(document, 0, 3),), lineage=lineage)
    found = {item.name: item for item in answer_items(one, stages, older)}
    assert found["answer"].parents == ("index", "calibration", "model:embedder")
    assert found["index"].digest == "2" * 64 and not found["index"].current
    assert found["calibration"].detail == "no longer in the workspace" and not found["calibration"].current
    assert found["documents"].digest == "1" * 64
    current = {"index": "4" * 64, "calibration": f"{'calibration':0<64}"}
    assert all(item.current for item in answer_items(replace(one, lineage=current), stages, older))


def test_the_page_shows_health_and_everything_as_text(client):
    page = inert(client.get("/system").text)
    assert "33 of 40" in page.text and "Nothing is guaranteed" in page.text
    assert "ready" in page.text and "2 waiting" not in page.text and "4 waiting" in page.text
    assert page.classes("path").count("edge") == 1 + 2 + 3
    assert "<script>alert(1)</script>" in page.text
    targets = [link.removeprefix("#") for link in page.links() if link.startswith("#")]
    assert {"stage-documents", "stage-index", "stage-calibration"} <= set(targets)
    assert set(targets) <= {attrs.get("id") for _, attrs in page.elements}


def test_the_lineage_of_an_answer_leads_to_its_passage(client, service):
    lineage = {"documents": "1" * 64, "index": "2" * 64, "calibration": f"{'calibration':0<64}"}
    service.log.record(interaction(5, "Why <b>?", "x [1]", verdicts=(cited(document, 4, 8),), lineage=lineage)).result()
    page = inert(client.get(f"/system?answer={5:016x}").text)
    assert f"/documents/{document.hash}?start=4&end=8#cite" in page.links()
    assert "Built anew since: documents, index" in " ".join(page.text.split())
    assert client.get("/system?answer=nothing").status_code == 404
    assert client.get("/system", params={"answer": HOSTILE}).status_code == 404


# ---------------------------------------------------------------------------------------------------------------------
# Every link of every page


@pytest.fixture
def untouched(workspace_copy, serve):
    """A server of the same system with a log of its own: what other tests have asked is not in it."""
    service = Service(workspace_copy, ServeConfig(drain_seconds=5.0))
    service.load()
    with serve(service) as running:
        yield running


def test_every_link_on_every_page_leads_somewhere(untouched):
    """From the five sections on, over a real server that has answered and abstained."""
    with untouched.http() as http:
        for question in ("By when must I report a lost laptop?", "Who won the cup?", "<script>alert(1)</script>"):
            body = {"model": "assistant", "messages": [{"role": "user", "content": question}]}
            assert http.post("/v1/chat/completions", json=body).status_code == 200
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        waiting, seen = ["/", "/documents", "/documents?q=laptop", "/log", "/evaluation", "/system"], set()
        while waiting and len(seen) < 300:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            answer = http.get(path)
            assert answer.status_code == 200, path
            if not answer.headers["content-type"].startswith("text/html"):
                continue
            page = inert(answer.text)
            for link in page.links():
                target = urlsplit(urljoin(path, link))
                fragment = target.fragment
                here = target._replace(fragment="").geturl()
                if fragment and here == path:
                    assert fragment in {a.get("id") for _, a in page.elements}, (path, link)
                waiting.append(here)
            waiting += [a["src"] for tag, a in page.elements if tag in ("script", "img") and a.get("src")]
    assert not waiting and len(seen) > 40
