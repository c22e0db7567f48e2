"""Pages of votes and of runs: blind until the vote, every vote kept as it was meant, nothing that runs in a text."""

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from small_system import HOSTILE, Page, StandIn, index_of, inert, write_run

from kit.tables import for_each
from lmworks.config import from_mapping
from lmworks.evaluate.comparison import compare_runs
from lmworks.evaluate.metric import Metric, each
from lmworks.evaluate.release.votes import VOTES, read_votes
from lmworks.records import Preference
from lmworks.serve.api_keys import add

LENGTH = Metric("length", each(lambda item, response: float(len(response.text))))
NAMES = ("run-alpha", "run-beta")


def write_runs(folder) -> None:
    for name in NAMES:
        texts = {str(n): f"{name[4:]} says {n}" for n in range(12)}
        write_run(folder / name, texts, LENGTH)


@pytest.fixture
def service(tmp_path) -> Iterator[StandIn]:
    write_runs(tmp_path / "runs")
    (tmp_path / "workspace").mkdir()
    made = StandIn(tmp_path / "workspace", index_of(tmp_path / "index", []))
    yield made
    made.close()


def begin(client, by: str = "ann", names: tuple[str, str] = NAMES) -> str:
    query = urlencode({"first": names[0], "second": names[1], "by": by})
    return client.get(f"/compare?{query}").headers["location"]


def cast(client, address: str, **fields: str):
    """Vote at an address on the pair that it shows; what it showed, and the answer."""
    shown = client.get(address).text
    hidden = {
        one["name"]: one["value"] for one in reversed(Page(shown).all("input", "name"))
    }  # the ballot is the first
    return shown, client.post(address.split("?")[0], data=hidden | fields)


def sides(text: str) -> tuple[str, str]:
    """Who is left and who is right, by what they say."""
    page = Page(text).text
    return ("alpha", "beta") if page.index("alpha says") < page.index("beta says") else ("beta", "alpha")


def test_no_page_before_the_vote_names_a_system_or_gives_the_order_away(service):
    client, seen = service.client(), {}
    for by in ("ann", "ben"):
        address, seen[by] = begin(client, by), []
        for _ in range(12):
            text, answer = cast(client, address, choice="tie")
            page = inert(text)
            assert not any(name in text or name in address for name in NAMES)
            named = {one["name"] for tag in ("input", "button", "textarea") for one in page.all(tag, "name")}
            assert named == {"pair", "by", "choice", "reason"}
            seen[by].append(sides(text))
            address = answer.headers["location"]
        last = client.get(address).text
        assert "12 of 12" in last and all(name in last for name in NAMES)
    assert len(set(seen["ann"])) == len(set(seen["ben"])) == 2 and seen["ann"] != seen["ben"]
    results = inert(client.get("/compare/results").text).text
    assert "24 votes" in results and "ann and ben agree on 12 of 12 pairs" in results


@pytest.mark.parametrize("choice", ["left", "right", "tie", "both bad"])
def test_a_vote_is_kept_as_it_was_meant_once_and_can_be_undone(service, choice):
    client, file = service.client(), service.workspace / VOTES
    address = begin(client)
    for _ in range(6):
        text, answer = cast(client, address, choice=choice, reason="it is kind")
        left, right = sides(text)
        vote = read_votes(file)[0][-1]
        client.post(address.split("?")[0], data={"pair": vote.id, "by": "ann", "choice": choice})  # sent again
        chosen = {"first": vote.completions[0], "second": vote.completions[1]}.get(vote.choice or "", "")
        assert chosen.startswith({"left": left, "right": right}.get(choice, "")) and (chosen or vote.choice == choice)
        assert vote.reason == "it is kind" and vote.completions[vote.shown.index(0)].startswith(left)
        assert all(text.startswith(name[4:]) for text, name in zip(vote.completions, vote.systems, strict=True))
        address = answer.headers["location"]
    assert len(read_votes(file)[0]) == 6 and "6 of 12" in client.get(address).text
    undone = client.post(address.split("?")[0], data={"pair": vote.id, "by": "ann", "choice": "undo"})  # type: ignore
    assert len(read_votes(file)[0]) == 5 and f'value="{vote.id}"' in client.get(undone.headers["location"]).text  # type: ignore
    lines = client.get("/compare/preferences.jsonl").text.splitlines()
    rows = [from_mapping(Preference, json.loads(line)) for line in lines]
    assert len(rows) == (5 if choice in ("left", "right") else 0)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"choice": "up"}, 400),
        ({"choice": "left", "reason": "x" * 10_001}, 400),
        ({"choice": "left", "pair": "0"}, 404),
    ],
)
def test_what_is_no_vote_is_refused_and_not_kept(service, fields, status):
    client = service.client()
    address = begin(client)
    assert cast(client, address, **fields)[1].status_code == status
    assert client.post(address.split("?")[0], json=fields).status_code == 400
    assert not (service.workspace / VOTES).exists()


@for_each("path", ["/compare/runs/0/1", "/compare/asked/0/1", "/compare/x/0/1", "/evaluation/runs/x"])
def test_what_is_not_there_is_said_so(service, path):
    answer = service.client().get(path)
    assert answer.status_code == 404 and inert(answer.text)


def test_texts_of_models_people_and_folders_do_nothing(service):
    client, name, runs = service.client(), "<img src=x onerror=alert(1)>", service.workspace.parent / "runs"
    for end, run in (("one", name), ("two", "other")):
        write_run(runs / run, {"1": HOSTILE + end}, LENGTH, HOSTILE)
    (runs / "broken").mkdir()
    (runs / "broken" / "manifest.json").write_text("{")
    for path in ("/compare", "/evaluation"):
        page = inert(client.get(path).text)
        assert name in page.text and "broken is no run" in page.text
    text, answer = cast(client, begin(client, HOSTILE, (name, "other")), choice="left", reason=HOSTILE)
    for shown in (text, client.get(answer.headers["location"]).text, client.get("/compare/results").text):
        inert(shown)
    report = client.get("/evaluation/runs/run-alpha")
    assert report.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_two_runs_are_compared_and_shown_where_they_differ_most_first(service):
    client, runs = service.client(), service.workspace.parent / "runs"
    texts = {str(n): f"{'y' * n}{HOSTILE}" for n in range(30)}
    write_run(runs / "new", texts | {"7": HOSTILE + "z" * 99}, LENGTH)
    write_run(runs / "old", dict.fromkeys(texts, HOSTILE), LENGTH)
    page = inert(client.get("/evaluation/runs", params={"first": "new", "second": "old"}).text)
    assert "better" in page.text and "9 items more" in page.text  # of the 29 that differ, 20 are shown
    shown = [one["aria-label"] for one in page.all("article", "aria-label")]
    assert shown[:3] == ["Item 7", "Item 29", "Item 28"] and len(shown) == 20
    assert all(f"{row.difference}" in page.text for row in compare_runs(runs / "new", runs / "old"))
    same = inert(client.get("/evaluation/runs", params={"first": "old", "second": "old"}).text)
    assert "identical" in same.text and not same.all("article")
    write_run(runs / "part", {"7": HOSTILE, "x": "y"}, LENGTH)
    part = inert(client.get("/evaluation/runs", params={"first": "new", "second": "part"}).text)
    assert "on the items that both have" in part.text and len(part.all("article")) == 1
    for folder, items in (("one", {"a": "x"}), ("two", {"b": "x"}), ("same", {"a": "x"})):
        write_run(runs / folder, items, LENGTH)
    nothing = client.get("/compare", params={"first": "one", "second": "two"})
    assert nothing.status_code == 400 and "share no item" in inert(nothing.text).text
    other = client.get("/evaluation/runs", params={"first": "one", "second": "two"})
    assert other.status_code == 400 and "share no item" in inert(other.text).text
    beta = runs / "run-beta" / "items.jsonl"
    beta.write_text(beta.read_text().replace("Question", "Task"))
    differently = client.get("/evaluation/runs", params={"first": "new", "second": "run-beta"})
    assert differently.status_code == 400 and "new and run-beta hold" in inert(differently.text).text
    equal = client.get("/compare", params={"first": "one", "second": "same"})
    assert "the same answers to all 1 items" in inert(equal.text).text


def test_a_question_of_ones_own_is_asked_of_two_and_its_names_shown_after_the_vote(language):
    asked = {"question": "Which colour?", "first": "tiny", "second": "tiny", "first_temperature": "0.5", "by": "cat"}
    with language.http() as http:
        assert http.post("/compare/ask", data=asked | {"second_temperature": "0.5"}).status_code == 400
        assert http.post("/compare/ask", data=asked | {"second": "nobody"}).status_code == 400
        address = http.post("/compare/ask", data=asked | {"second_temperature": "1.5"}).headers["location"]
        text, answer = cast(http, address, choice="left")
        assert "Which colour?" in text and "tiny, temp" not in text
        after = http.get(answer.headers["location"]).text
        assert "tiny, temperature 1.5" in after and "1 of 1" in after
    ((vote,), _) = read_votes(language.service.workspace / VOTES)
    assert vote.provenance.annotator == "cat"


def test_votes_come_from_this_site_and_carry_the_name_of_their_key(start, tmp_path):
    write_runs(tmp_path / "runs")
    secret = add(tmp_path / "keys.json", "laptop")
    with start(runs=str(tmp_path / "runs"), keys=str(tmp_path / "keys.json")) as running, running.http() as http:
        file = running.service.workspace / VOTES
        assert http.get("/compare").headers["location"].startswith("/sign-in")
        assert http.post("/compare/runs/0/1", data={"choice": "left"}).status_code == 401
        http.headers["Authorization"] = f"Bearer {secret}"
        address = begin(http)
        http.headers["Sec-Fetch-Site"] = "cross-site"
        assert cast(http, address, choice="left")[1].status_code == http.post("/compare/ask").status_code == 403
        http.headers["Sec-Fetch-Site"] = "same-origin"
        assert not file.exists() and cast(http, address, choice="left", by="somebody else")[1].status_code == 303
        ((vote,), _) = read_votes(file)
        assert vote.provenance.annotator == "laptop" and "laptop" in http.get("/compare").text
