"""The page Rank: blind, every ranking kept as it was meant, nothing that runs in a text, agreement shown."""

import json
from collections.abc import Iterator

import pytest
from small_system import HOSTILE, Page, StandIn, index_of, inert

from kit.tables import for_each
from lmworks.data.training_rows import parse_preference_row
from lmworks.evaluate.release.votes import RANKINGS, read_votes

SYSTEMS = ("run-alpha", "run-beta", "run-gamma")


@pytest.fixture
def service(tmp_path) -> Iterator[StandIn]:
    (tmp_path / "workspace" / "rank").mkdir(parents=True)
    rows = [{"prompt": f"{n} {HOSTILE}", "completions": [f"{c}{n} {HOSTILE}" for c in "abc"]} for n in range(3)]
    (tmp_path / "workspace" / "rank" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [{"prompt": f"q{n}", "completions": [f"{name[4:]} says {n}" for name in SYSTEMS]} for n in range(4)]
    named = "\n".join(json.dumps({**row, "systems": SYSTEMS}) for row in texts)
    (tmp_path / "workspace" / "rank" / "systems.jsonl").write_text(named)
    made = StandIn(tmp_path / "workspace", index_of(tmp_path / "index", []))
    yield made
    made.close()


def cast(client, address: str, by_system: dict[str, int] | None = None, **fields: str):
    """Rank what is shown at an address by what the answers say; what was shown, and the answer."""
    text = client.get(address).text
    page = Page(text)
    hidden = {one["name"]: one["value"] for one in reversed(page.all("input", "name"))}
    shown = sorted(by_system or {}, key=lambda name: page.text.index(f"{name} says"))
    ranks = {f"rank{place}": str((by_system or {})[name]) for place, name in enumerate(shown)}
    return text, client.post(address.split("?")[0], data=hidden | ranks | {"choice": "keep"} | fields)


def test_rankings_are_blind_kept_as_meant_and_their_agreement_is_shown(service):
    client, orders = service.client(), set()
    wanted, other = {"alpha": 1, "beta": 3, "gamma": 1}, {"alpha": 2, "beta": 1, "gamma": 3}
    for by in ("ann", "ben", "eve"):
        address = f"/rank/file/systems.jsonl?by={by}"
        for number in range(4):
            text, answer = cast(client, address, other if by == "eve" else wanted, reason="kind")
            assert not any(name in text or name in address for name in SYSTEMS) and f"{number} of 4" in inert(text).text
            page = Page(text).text
            orders.add(tuple(sorted(wanted, key=lambda name: page.index(f"{name} says"))))
            address = answer.headers["location"]
        assert "4 of 4" in client.get(address).text
    assert len(orders) > 2
    rankings, _ = read_votes(service.workspace / RANKINGS)
    for one in rankings:
        ranks = dict(zip((name[4:] for name in one.systems), one.ranks or (), strict=True))
        assert ranks == ({"alpha": 1, "beta": 2, "gamma": 1} if one.provenance.annotator != "eve" else other)
        assert one.time > 1e9 and one.reason == "kind" and sorted(one.shown) == [0, 1, 2]
    results = inert(client.get("/rank").text).text
    assert "ann and ben agree on 12 of 12 pairs of answers; Cohen's kappa 1.000" in results
    assert "Of all 3: Krippendorff's alpha" in results and "ann and eve agree on 0 of 12" in results
    lines = client.get("/rank/preferences.jsonl").text.splitlines()
    rows = [parse_preference_row(json.loads(line), "") for line in lines]
    assert len(rows) == 4 * (2 + 2 + 3) and {row.provenance.annotator for row in rows} == {"ann", "ben", "eve"}


def test_an_undone_and_a_skipped_ranking(service):
    client = service.client()
    address = "/rank/file/rows.jsonl?by=ann"
    text, _ = cast(client, address, choice="skip")
    assert inert(text) and "1 of 3" in client.get(address).text
    (skipped,), _ = read_votes(service.workspace / RANKINGS)
    assert skipped.ranks == () and not skipped.preferences
    item = Page(text).all("input", "name", "item")[0]["value"]
    client.post(address.split("?")[0], data={"item": item, "by": "ann", "choice": "undo"})
    assert "0 of 3" in client.get(address).text and read_votes(service.workspace / RANKINGS) == ([], 0)


@pytest.mark.parametrize("fields", [{"choice": "up"}, {"rank0": "0"}, {"rank1": "²"}, {"rank2": ""}, {"item": "x"},
                                    {"reason": "x" * 10_001}])  # fmt: skip
def test_what_is_no_ranking_is_refused_and_not_kept(service, fields):
    client = service.client()
    whole = {f"rank{n}": "1" for n in range(3)}
    _, answer = cast(client, "/rank/file/rows.jsonl", **(whole | fields))
    assert answer.status_code == (404 if "item" in fields else 400) and inert(answer.text)
    assert not (service.workspace / RANKINGS).exists()


@for_each("path", ["file/x", "file/..%2Flog.sqlite", "runs/0"])
def test_answers_that_are_not_there_are_said_so(service, path):
    answer = service.client().get(f"/rank/{path}")
    assert answer.status_code == 404 and inert(answer.text)


def test_a_row_without_answers_says_where(service):
    client = service.client()
    (service.workspace / "rank" / "bad.jsonl").write_text('{"prompt": "Why?", "completions": ["a"]}')
    assert "line 1" in client.get("/rank/file/bad.jsonl").text and "/rank/file/bad.jsonl" in client.get("/rank").text
