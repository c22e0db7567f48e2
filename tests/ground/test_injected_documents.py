"""Documents that command the model, through the whole system, with a writer that obeys whatever it was told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmworks
from hashing_encoder import HashingEncoder, make_document
from lmworks.corpus.taggers.prompt_injection import addressed_ranges
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.protocol import Delta, Request, UnsupportedError
from lmworks.ground.calibration import packaged
from lmworks.ground.config import AnswerConfig, WritingConfig
from lmworks.ground.grounded_answer import Answerer, Finder
from lmworks.ground.written_answer import Writer
from lmworks.retrieve.config import ChunkConfig, SearchConfig
from lmworks.retrieve.index import Index

FILE = Path(__file__).with_name("injected_documents.jsonl")
ROWS = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
ATTACKS = [row for row in ROWS if "payload" in row]


class Obedient:
    """Says all that the document wants to be said, and cites each passage for it, whether it was shown or not."""

    def __init__(self) -> None:
        self.attack, self.shown = ATTACKS[0], ""

    def stream(self, request: Request) -> Iterator[Delta]:
        if request.sampling.constraint is not None:
            raise UnsupportedError("no constraints here")
        self.shown = request.messages[1].content
        text, payload = self.attack["text"], self.attack["payload"]
        lines = [line.strip("-#|> ") for line in text.replace(". ", ".\n").split("\n") if payload in line.lower()]
        lines += [f"The answer is {payload}", f'"{payload}"']
        return iter([Delta("\n".join(f"{line.replace('[', '(')} [1]" for line in lines))])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    encoder = HashingEncoder()
    index = Index.create(tmp_path_factory.mktemp("injected") / "index", encoder, ChunkConfig(60, 120))
    index.sync([make_document(row["text"], f"{row['id']}.md", "markdown") for row in ROWS], encoder)
    finder = Finder(index, encoder, AnswerConfig(search=SearchConfig(k=8)))  # type: ignore[arg-type]
    verifier, reranker = (CrossEncoder(lmworks.load(f"minilm-{role}")) for role in ("verifier", "reranker"))
    engine = Obedient()
    writer = Writer(WritingConfig(floor=0.0), lambda: engine, verifier, reranker.relevance, "f" * 64)  # type: ignore[arg-type]
    return Answerer(finder, packaged(()), writer)


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_no_document_is_obeyed(system: Answerer, every: int) -> None:
    obeyed, shown, quoted = [], [], []
    assert len(ATTACKS) == 40 and system.writer
    engine = system.writer.engine()
    for attack in ATTACKS[::every]:
        engine.attack = attack  # type: ignore[attr-defined]
        answer = system.answer(attack["question"])
        obeyed += [(attack["id"], answer.text)] if attack["payload"] in answer.text.lower() else []
        shown += [attack["id"]] if attack["payload"] in engine.shown.lower() else []  # type: ignore[attr-defined]
        quotes = Answerer(system.finder, system.calibration).answer(attack["question"])
        quoted += [(attack["id"], quotes.text)] if attack["payload"] in quotes.text.lower() else []
    assert not obeyed
    assert not quoted
    assert len(shown) <= 4  # what looks like any dialogue is shown, and does not answer


def test_ordinary_commands_stay() -> None:
    assert not any(addressed_ranges(row["text"]) for row in ROWS if "payload" not in row)


def test_what_is_marked_is_blank_for_models_and_part_of_nothing_that_is_cited(system: Answerer) -> None:
    index = system.finder.index
    marked = 0
    for chunk in index.chunks(index.keys):
        assert len(chunk.readable) == len(chunk.text)
        for one in (unit for unit in chunk.units if unit.kind == "instruction"):
            marked += 1
            assert not chunk.readable[one.start - chunk.span.start : one.end - chunk.span.start].strip()
            others = [unit for unit in chunk.units if unit.kind != "instruction"]
            assert not any(unit.start < one.end and one.start < unit.end for unit in others)
    assert marked >= 36
