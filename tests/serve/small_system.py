"""A stand-in for the service behind the pages: a real index, a real log and a real workspace, but no models."""

import html.parser
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.testclient import TestClient

from hashing_encoder import HashingEncoder
from lmworks.artefact import MANIFEST, REPORT, SECTIONS, Manifest, hash_json, write_json, write_text
from lmworks.evaluate.metric import Item, Metric, Response
from lmworks.evaluate.results import Result, task_score, write_results
from lmworks.monitor.log import Log
from lmworks.records import Document, Interaction, Message, RejectedRecord, Span, Verdict
from lmworks.report import Section, to_html
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.index import Index
from lmworks.serve.config import ServeConfig
from lmworks.serve.pages import (
    compare_page,
    documents_page,
    evaluation_page,
    forms,
    log_page,
    overview_page,
    rank_page,
    review_page,
    system_page,
)
from lmworks.serve.served_models import ServedModel
from lmworks.workspace import Current

HOSTILE = (
    "</title></textarea><script>alert(1)</script>\"'><img src=x onerror=alert(1)> \u202egnorw \x00\x1b {{ 7*7 }} [1]"
)


class ModelsStandIn(tuple[ServedModel, ...]):
    def encoder(self, name: str) -> HashingEncoder:
        assert name == "hashing"
        return HashingEncoder()

    def occupancy(self, name: str) -> tuple[int, int, float]:
        assert name in ("assistant", "hashing")
        return 1, 2, 0.25


class StandIn:
    """What the pages ask of `lmworks.serve.service.Service`, in one thread."""

    def __init__(self, workspace: Path, index: Index, current: Current | None = None) -> None:
        self.workspace = workspace
        self.index = index
        self.current = current
        self.remaining = None
        self.config = ServeConfig()
        self.state = "ready"
        self.failure = ""
        self.started = time.time() - 61
        self.log = Log(workspace / "log.sqlite")
        assistant = ServedModel("assistant", "assistant", "f" * 64, None, 0)
        self.models = ModelsStandIn((assistant, ServedModel("hashing", "embedding", index.encoder_fingerprint, 254, 0)))

    async def read_index(self, function):
        return function(self.index)

    async def read_log(self, function):
        return function(self.log.reader)

    async def feedback(self, feedback) -> None:
        self.log.attach(feedback).result()

    def client(self) -> TestClient:
        app = FastAPI()
        votes = (compare_page, rank_page, review_page)
        for module in (documents_page, log_page, overview_page, evaluation_page, *votes, system_page, forms):
            app.include_router(module.router(self))  # type: ignore[arg-type]
        return TestClient(app, follow_redirects=False)

    def close(self) -> None:
        self.log.close()
        self.index.close()


def index_of(folder: Path, texts: Iterable[Document]) -> Index:
    encoder = HashingEncoder()
    index = Index.create(folder, encoder, ChunkConfig(20, 30))
    index.sync(list(texts), encoder)
    return index


def stage(
    workspace: Path,
    name: str,
    use: str,
    *,
    parents: dict[str, str] | None = None,
    sections: tuple[Section, ...] = (),
    left_out: tuple[RejectedRecord, ...] | None = None,
    **fields,
) -> str:
    """Write the artefact of a stage by hand; its folder, relative to the workspace."""
    content = fields.pop("content_hash", f"{name:0<64}")
    folder = workspace / "stages" / name / content[:16]
    manifest = Manifest(use, 1, content[:16], content, fields.pop("config", {}), parents or {}, started=1e9, **fields)
    write_json(folder / "manifest.json", manifest)
    write_json(folder / SECTIONS, sections)
    if left_out is not None:
        import dataclasses
        import json

        rows = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) + "\n" for one in left_out]
        (folder / "rejected.jsonl").write_text("".join(rows), "utf-8")
    return folder.relative_to(workspace).as_posix()


def write_run(folder: Path, texts: Mapping[str, str], metric: Metric, suite: str = "small") -> None:
    """A run of one task as the stage leaves it; `texts` are responses by the id of their item."""
    items = [Item(name, f"Question {name}?", (name,)) for name in texts]
    responses = [Response(text) for text in texts.values()]
    values = metric.measure(items, responses)
    rows = [Result("task", *row[:2], {metric.name: row[2]}) for row in zip(items, responses, values, strict=True)]
    write_results(folder, rows, {"task": {metric.name: task_score(metric, items, values, None)}})
    write_text(folder / REPORT, to_html("Report", "", (Section(folder.name, HOSTILE),)))
    digest = hash_json([folder.name, texts])
    write_json(folder / MANIFEST, Manifest("evaluate.suite", 1, "k", digest, {"suite": [suite]}, {}, started=1e9))


def interaction(number: int = 0, question: str = "Why?", response: str = "", **fields) -> Interaction:
    defaults = {"route": "assistant", "timings": {"queued": 0.1, "search": 0.3, "decide": 0.1, "total": 0.5}}
    return Interaction(f"{number:016x}", 1.7e9 + number, (Message("user", question),), response, **(defaults | fields))


def cited(document: Document, start: int, end: int, verdict: str = "cited") -> Verdict:
    text = document.text[start:end]
    return Verdict(text, "quoted", Span(document.hash, start, end), document.uri, 0.75, None, verdict)  # type: ignore[arg-type]


class Page(html.parser.HTMLParser):
    """Elements with their attributes, and the text, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.by_id: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(dict(attrs).get("id") or "")

    def handle_endtag(self, tag):
        if self._open:
            self._open.pop()

    def handle_data(self, data):
        self.text += data
        if self._open and self._open[-1]:
            self.by_id[self._open[-1]] = self.by_id.get(self._open[-1], "") + data

    def all(self, tag: str, name: str = "", value: str | None = None) -> list[dict[str, str | None]]:
        """Attributes of the elements of this tag that have an attribute (of that value; a class among others)."""
        found = [attrs for element, attrs in self.elements if element == tag and (not name or name in attrs)]
        return [a for a in found if value is None or value in (a[name] or "").split() or a[name] == value]

    def links(self) -> list[str]:
        return [attrs["href"] or "" for tag, attrs in self.elements if tag == "a" and "href" in attrs]

    def classes(self, tag: str) -> list[str]:
        return [attrs.get("class") or "" for name, attrs in self.elements if name == tag]


def inert(text: str) -> Page:
    """The page, after checking that nothing in it runs, and that nothing is styled or fetched from elsewhere."""
    page = Page(text)
    for tag, attrs in page.elements:
        assert tag not in ("iframe", "object", "embed", "style", "base", "b"), tag
        assert not any(name.startswith("on") or name in ("style", "srcdoc", "formaction") for name in attrs), attrs
        if tag == "script":
            assert (attrs.get("src") or "").startswith("/static/"), attrs
        if tag == "img":
            assert (attrs.get("src") or "").startswith(("/evaluation/figure/", "data:image/svg+xml,")), attrs
        for name in ("href", "src", "action"):
            address = urlsplit((attrs.get(name) or "").removeprefix("data:image/svg+xml,"))
            assert not address.scheme and not address.netloc, attrs
    assert "\x00" not in text and "\x1b" not in text and "49" not in page.by_id.values()
    return page
