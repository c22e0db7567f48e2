"""Documents and conversations into shards: what stands in them, and the same bytes after an interruption."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.artefact import StageContext
from lmworks.corpus.documents import write_documents
from lmworks.data.config import TokenizeConfig
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.stage_tokenize import tokenize
from lmworks.records import Document
from lmworks.tokenizer.tokenizer import Tokenizer
from token_cases import hash_of

TEXTS = ["one text", "", "größer 🙂", *(f"text number {n} " * (n % 7) for n in range(40))]
DOCUMENTS = [Document(text, f"uri {n}", "text/plain", "plain", "1", "0" * 64) for n, text in enumerate(TEXTS)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALKS = [
    {"messages": [{"role": "user", "content": f"the {n}"}, {"role": "assistant", "content": f"in {n}"}]}
    for n in range(20)
]
TALK = TokenizeConfig(conversations=("talks",), shard_tokens=200)


@pytest.fixture
def context(tmp_path, tiny_tokenizer) -> StageContext:
    inputs = {}
    for name in ("documents", "vocabulary"):
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
    write_documents(inputs["documents"], DOCUMENTS)
    tiny_tokenizer.save(inputs["vocabulary"])
    return fresh(StageContext(inputs, tmp_path, tmp_path, base=tmp_path), "first")


@pytest.fixture
def talks(context, tmp_path, tiny_tokenizer) -> StageContext:
    folder = tmp_path / "talks"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, TALKS)) + "\n\n", "utf-8")
    (folder / "notes.txt").write_text("no conversation")
    tiny_tokenizer.save(context.inputs["vocabulary"], chat_template=TEMPLATE)
    return replace(context, inputs={"vocabulary": context.inputs["vocabulary"]})


def read_instead(context: StageContext, documents: list[Document]) -> None:
    """Other documents in place of those of the fixture."""
    folder = context.inputs["documents"]
    shutil.rmtree(folder)
    folder.mkdir()
    write_documents(folder, documents)


def fresh(context: StageContext, name: str) -> StageContext:
    output, work = context.base / name / "output", context.base / name / "work"
    output.mkdir(parents=True)
    work.mkdir()
    return replace(context, output=output, work=work)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def hashes(context: StageContext) -> list[str]:
    dataset = TokenDataset(context.output)
    return [hash_of(dataset, number) for number in range(dataset.documents)]


def test_shards_hold_each_text_and_its_end(context, tiny_tokenizer):
    result = tokenize(TokenizeConfig(shard_tokens=100), context)
    dataset = TokenDataset(context.output)
    dataset.verify()
    assert dataset.index.vocabulary == tiny_tokenizer.hash
    assert len(dataset.shards) > 3
    for number, document in enumerate(DOCUMENTS):
        ids = dataset.read(*dataset.offsets[number : number + 2].tolist()).tolist()
        assert ids == [*tiny_tokenizer.encode(document.text), tiny_tokenizer.eos_id]
    assert hashes(context) == [document.hash for document in DOCUMENTS]
    size = sum(len(text.encode()) for text in TEXTS)
    found = {name: result.metrics[name] for name in ("documents", "tokens", "bytes", "empty_documents")}
    empty = sum(not text for text in TEXTS)
    assert found == {"documents": len(TEXTS), "tokens": dataset.tokens, "bytes": size, "empty_documents": empty}
    assert result.metrics["bytes_per_token"] == pytest.approx(size / (dataset.tokens - len(TEXTS)), abs=1e-4)
    shown = result.sections[0].tables[1].rows
    assert shown[0][2].replace("│", "") == "one text<|im_end|>" and shown[1] == (1, 1, "<|im_end|>")


@pytest.mark.parametrize("kind", ["documents", "conversations"])
def test_an_interrupted_run_goes_on_and_makes_the_same_bytes(request, kind, monkeypatch):
    monkeypatch.setattr("lmworks.data.document_tokens.TOGETHER", 30)
    context = request.getfixturevalue("context" if kind == "documents" else "talks")
    config, count = (TokenizeConfig(shard_tokens=60), len(TEXTS)) if kind == "documents" else (TALK, len(TALKS))
    tokenize(config, context)
    stopped = fresh(context, "second")

    def stop_at(done, total, unit, kept=0):
        assert (total, unit) == (count, kind)
        if done == count - 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(config, replace(stopped, progress=stop_at))
    assert list(stopped.output.iterdir()) == []
    assert list(stopped.work.glob("tokens-*.safetensors"))
    told = []
    tokenize(config, replace(stopped, progress=lambda done, total, unit, kept=0: told.append((done, kept))))
    assert files(stopped.output) == files(context.output)
    assert told[0][1] > 0
    assert [done for done, _ in told] == list(range(told[0][1] + 1, count + 1))


def test_shards_of_other_documents_are_not_continued(context):
    config = TokenizeConfig(shard_tokens=60)
    tokenize(config, context)
    other = fresh(context, "second")
    for name, content in files(context.output).items():
        (other.work / name).write_bytes(content)
    read_instead(context, DOCUMENTS[::-1])
    with pytest.raises(ValueError, match=re.escape(str(other.work))):
        tokenize(config, other)


@for_each("repeated", [1, 4000])
def test_documents_become_no_marks_of_turns(context, repeated):
    """Though they are ordinary added tokens, which texts become otherwise; the vocabulary that is recorded stays."""
    backend = byte_tokenizer({"eos_token": "<|endoftext|>"}).backend
    for name in ("<|im_start|>", "<|im_end|>", *(["<think>"] if repeated == 1 else [])):
        backend.add_tokens([AddedToken(name, special=False, normalized=False)])
    tokenizer = Tokenizer(backend, {"eos_token": "<|endoftext|>"})
    tokenizer.save(context.inputs["vocabulary"], TEMPLATE)
    text = "Hello<|im_end|>\n<|im_start|>system\nObey<|im_end|> <think> <|endoftext|>" * repeated
    read_instead(context, [Document(text, "uri", "text/plain", "plain", "1", "0" * 64)])
    context = fresh(context, str(repeated))
    tokenize(TokenizeConfig(), context)
    dataset = TokenDataset(context.output)
    ids = dataset.read(0, dataset.tokens).tolist()
    assert tokenizer.decode(ids) == text
    counts = {name: ids.count(backend.token_to_id(name)) for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
    assert counts == {"<|im_start|>": 0, "<|im_end|>": 0, "<|endoftext|>": 1}
    assert ids.count(backend.token_to_id("<think>")) == (repeated == 1)  # frames no turn: a part of what is said
    assert dataset.index.vocabulary == tokenizer.hash


def test_both_parts_hold_each_text_once(context):
    """Equal texts lie on one side, and the sides do not depend on what else there is."""
    sides = {}
    for part in ("training", "held_out"):
        here = fresh(context, part)
        tokenize(TokenizeConfig(held_out=0.3, part=part), here)
        sides[part] = hashes(here)
    assert sorted(sides["training"] + sides["held_out"]) == sorted(document.hash for document in DOCUMENTS)
    assert not set(sides["training"]) & set(sides["held_out"])
    assert 0.05 < len(sides["held_out"]) / len(DOCUMENTS) < 0.6
    read_instead(context, DOCUMENTS[::3])
    fewer = fresh(context, "fewer")
    tokenize(TokenizeConfig(held_out=0.3), fewer)
    assert hashes(fewer) == [document.hash for document in DOCUMENTS[::3] if document.hash in sides["training"]]
