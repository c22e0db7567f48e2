"""Pages of votes and of runs: blind until the vote, every vote kept as it was meant, nothing that runs in a text."""

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from small_system import HOSTILE, Page, StandIn, index_of, inert, write_run

from lmworks.config import from_mapping
from lmworks.evaluate.metric import Metric, each
from lmworks.evaluate.votes import VOTES, VoteFile
from lmworks.records import Preference, Vote
from lmworks.serve.api_keys import add

LENGTH = Metric("length", each(lambda item, response: float(len(response.text))))
TEXTS = {
    "run-alpha": {str(n): f"alpha says {n}" for n in range(12)},
    "run-beta": {str(n): f"beta says {n}, and more" for n in range(12)},
}


@pytest.fixture
def service(tmp_path) -> Iterator[StandIn]:
    for name, texts in TEXTS.items():
        write_run(tmp_path / "runs" / name, texts, LENGTH)
    (tmp_path / "workspace").mkdir()
    made = StandIn(tmp_path / "workspace", index_of(tmp_path / "index", []))
    yield made
    made.close()


def begin(client, by: str = "ann") -> str:
    query = {"first": "run-alpha", "second": "run-beta", "by": by}
    answer = client.get(f"/compare/runs?{urlencode(query)}")
    assert answer.status_code == 303
    return answer.headers["location"]


def fields(text: str) -> dict[str, str]:
    """The hidden fields of the ballot, which is the first form of the page."""
    return {one["name"] or "": one["value"] or "" for one in reversed(Page(text).all("input", "name"))}


def sides(text: str) -> tuple[str, str]:
    """Who is left and who is right, by what they say."""
    page = Page(text).text
    return ("alpha", "beta") if page.index("alpha says") < page.index("beta says") else ("beta", "alpha")


def test_no_page_before_the_vote_names_a_system_or_gives_the_order_away(service):
    client = service.client()
    address = begin(client)
    shown = []
    for _ in range(12):
        answer = client.get(address)
        page = inert(answer.text)
        assert not any(name in answer.text or name in address for name in TEXTS)
        pair = fields(answer.text)["pair"]
        shown.append(sides(answer.text))
        names = {one["name"] for one in page.all("input", "name")} | {one["name"] for one in page.all("button", "name")}
        assert names == {"pair", "by", "choice"}
        address = client.post(address.split("?")[0], data={"pair": pair, "by": "ann", "choice": "tie"}).headers[
            "location"
        ]
    assert len(set(shown)) == 2
    last = client.get(address).text
    assert "12 of 12" in last and "run-alpha" in last and "run-beta" in last


@pytest.mark.parametrize("choice", ["left", "right", "tie", "both bad"])
def test_a_vote_is_kept_as_it_was_meant_once_and_can_be_undone(service, choice):
    client, votes = service.client(), VoteFile(service.workspace / VOTES)
    address, pair = begin(client), ""
    for _ in range(6):
        text = client.get(address).text
        pair, (left, right) = fields(text)["pair"], sides(text)
        data = {"pair": pair, "by": "ann", "choice": choice, "reason": "it is kind"}
        client.post(address.split("?")[0], data=data)
        answer = client.post(address.split("?")[0], data=data)  # the form is sent again
        vote = votes.standing()[-1]
        chosen = {"first": vote.completions[0], "second": vote.completions[1]}.get(vote.choice or "", "")
        assert chosen.startswith({"left": left, "right": right}.get(choice, "")) and vote.reason == "it is kind"
        assert chosen or vote.choice == choice
        assert vote.completions[vote.provenance.order or 0].startswith(left)
        assert all(text.startswith(name[4:]) for text, name in zip(vote.completions, vote.systems, strict=True))
        address = answer.headers["location"]
    assert len(votes.standing()) == 6 and "6 of 12" in client.get(address).text
    undone = client.post(address.split("?")[0], data={"pair": pair, "by": "ann", "choice": "undo"})
    assert len(votes.standing()) == 5 and fields(client.get(undone.headers["location"]).text)["pair"] == pair
    exported = client.get("/compare/preferences.jsonl").text.splitlines()
    rows = [from_mapping(Preference, json.loads(line)) for line in exported]
    assert len(rows) == (5 if choice in ("left", "right") else 0)


def test_annotators_vote_apart_and_see_an_order_of_their_own(service):
    client = service.client()
    seen = {}
    for by in ("ann", "ben"):
        address, seen[by] = begin(client, by), []
        for _ in range(12):
            text = client.get(address).text
            seen[by].append(sides(text))
            data = {"pair": fields(text)["pair"], "by": by, "choice": "left"}
            address = client.post(address.split("?")[0], data=data).headers["location"]
    assert seen["ann"] != seen["ben"]
    page = inert(client.get("/compare/results").text)
    assert "24 votes" in page.text and "kappa" in page.text


@pytest.mark.parametrize(
    ("data", "status"),
    [({"choice": "up"}, 400), ({"choice": "left", "reason": "x" * 10_001}, 400), ({"choice": "left", "pair": "0"}, 404),
     ({"pair": "0"}, 404)],
)  # fmt: skip
def test_what_is_no_vote_is_refused_and_not_kept(service, data, status):
    client = service.client()
    address = begin(client)
    data = {"pair": fields(client.get(address).text)["pair"]} | data
    assert client.post(address.split("?")[0], data=data).status_code == status
    assert client.post(address.split("?")[0], json=data).status_code == 400
    assert not (service.workspace / VOTES).exists()


@pytest.mark.parametrize("path", ["/compare/runs/0/1", "/compare/asked/0/1", "/compare/x/0/1", "/evaluation/runs/x",
                                  "/evaluation/runs/..%2Fworkspace"])  # fmt: skip
def test_what_is_not_there_is_said_so(service, path):
    answer = service.client().get(path)
    assert answer.status_code == 404
    inert(answer.text)


def test_texts_of_models_people_and_folders_do_nothing(service):
    client, name = service.client(), "<img src=x onerror=alert(1)>"
    for texts, run in (("one", name), ("two", "other")):
        write_run(service.workspace.parent / "runs" / run, {"1": HOSTILE + texts}, LENGTH, HOSTILE)
    (service.workspace.parent / "runs" / "broken").mkdir()
    (service.workspace.parent / "runs" / "broken" / "manifest.json").write_text("{")
    for path in ("/compare", "/evaluation"):
        page = inert(client.get(path).text)
        assert name in page.text and "broken" in page.text
    query = urlencode({"first": name, "second": "other", "by": HOSTILE})
    address = client.get(f"/compare/runs?{query}").headers["location"]
    text = client.get(address).text
    inert(text)
    client.post(address.split("?")[0], data=fields(text) | {"choice": "left", "by": HOSTILE, "reason": HOSTILE})
    inert(client.get(address).text)
    inert(client.get("/compare/results").text)
    report = client.get("/evaluation/runs/run-alpha")
    assert report.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_a_question_of_ones_own_is_asked_of_two_and_its_names_shown_after_the_vote(language):
    asked = {"question": "Which colour?", "first": "tiny", "second": "tiny", "first_temperature": "0.5",
             "second_temperature": "1.5", "by": "cat"}  # fmt: skip
    with language.http(follow_redirects=True) as http:
        assert http.post("/compare/ask", data=asked | {"second_temperature": "0.5"}).status_code == 400
        assert http.post("/compare/ask", data=asked | {"second": "nobody"}).status_code == 400
        page = http.post("/compare/ask", data=asked)
        assert page.status_code == 200 and "Which colour?" in page.text and "tiny, temp" not in page.text
        after = http.post(str(page.url).split("?")[0], data=fields(page.text) | {"choice": "left"})
        assert "tiny, temperature 1.5" in after.text and "1 of 1" in after.text
    (vote,) = VoteFile(language.service.workspace / VOTES).standing()
    assert isinstance(vote, Vote) and vote.provenance.annotator == "cat"


def test_votes_come_from_this_site_and_carry_the_name_of_their_key(start, tmp_path):
    for name, texts in TEXTS.items():
        write_run(tmp_path / "runs" / name, texts, LENGTH)
    secret = add(tmp_path / "keys.json", "laptop")
    with start(runs=str(tmp_path / "runs"), keys=str(tmp_path / "keys.json")) as running, running.http() as http:
        assert http.get("/compare").headers["location"].startswith("/sign-in")
        assert http.post("/compare/runs/0/1", data={"choice": "left"}).status_code == 401
        http.headers["Authorization"] = f"Bearer {secret}"
        address = begin(http)
        text = http.get(address).text
        data = fields(text) | {"choice": "left", "by": "somebody else"}
        crossing = {"Sec-Fetch-Site": "cross-site"}
        for path in (address.split("?")[0], "/compare/ask"):
            assert http.post(path, data=data, headers=crossing).status_code == 403
        assert not (running.service.workspace / VOTES).exists()
        assert http.post(address.split("?")[0], data=data).status_code == 303
        (vote,) = VoteFile(running.service.workspace / VOTES).standing()
        assert vote.provenance.annotator == "laptop"
        assert "laptop" in http.get("/compare").text
