"""From a tree of code and texts through a vocabulary to token shards, by commands alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app
from lmworks.corpus.documents import DocumentStore
from lmworks.data.token_dataset import TokenDataset
from lmworks.tokenizer.tokenizer import Tokenizer
from token_cases import hash_of

FILES = {
    "docs/guide.md": "# Guide\n\nHow to lay an egg, größer 🙂.\n" * 20,
    "code/egg.py": 'def lay(hen):\n    """Lays."""\n    return [hen] * 3\n' * 20,
    "code/egg.c": "int lay(int hen)\r\n{\r\n\treturn 3 * hen;\r\n}\r\n" * 20,
    "code/Makefile": "all:\n\tcc egg.c\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(text.encode())
    Path("code/picture.png").write_bytes(b"\x89PNG\xff")
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def read(folder: str, tokenizer: Tokenizer) -> list[str]:
    dataset = TokenDataset(Path(folder))
    bounds = dataset.offsets.tolist()
    return [
        tokenizer.decode(dataset.read(*bounds[number : number + 2]).tolist()) for number in range(dataset.documents)
    ]


def test_every_character_of_the_tree_comes_back_from_the_shards(tree):
    told = run(
        "stage", "corpus.read", "--set", 'sources=["docs", "code"]', "--set", "source_code=whole", "--out", "texts"
    )  # fmt: skip
    assert "4 documents with" in told and "1 files were left out" in told and "no reader for .png" in told
    run("tokenizer", "train", "docs", "code", "--vocabulary-size", "350", "--out", "trained")
    run("stage", "tokenizer.bpe", "--from", "texts", "--set", "vocabulary_size=350", "--out", "staged")
    told = run("stage", "data.tokenize", "--from", "texts", "--set", "tokenizer=trained", "--out", "shards")
    assert "4 documents are" in told and "<|endoftext|>" in told
    run("stage", "data.tokenize", "--from", "texts", "--from", "staged", "--out", "others")
    whole = [
        FILES[name].replace("\r\n", "\n") for name in ("docs/guide.md", "code/Makefile", "code/egg.c", "code/egg.py")
    ]
    for folder, vocabulary in (("shards", "trained"), ("others", "staged")):
        tokenizer = Tokenizer.load(Path(vocabulary))
        assert TokenDataset(Path(folder)).index.vocabulary == tokenizer.hash
        assert read(folder, tokenizer) == whole
    hashes = list(DocumentStore(Path("texts")).hashes())
    assert [hash_of(TokenDataset(Path("shards")), number) for number in range(4)] == hashes


def test_conversations_become_shards_of_a_vocabulary_that_was_trained_for_them(tree):
    row = {"messages": [{"role": "user", "content": "An egg?"}, {"role": "assistant", "content": "Laid."}]}
    Path("talks.jsonl").write_text(json.dumps(row) + "\n")
    run("tokenizer", "train", "docs", "--vocabulary-size", "320", "--family", "chatml", "--out", "trained")
    told = run(
        "stage", "data.tokenize", "--set", 'conversations=["talks.jsonl"]', "--set", "tokenizer=trained",
        "--out", "talks",
    )  # fmt: skip
    assert "1 conversations are" in told
    tokenizer, dataset = Tokenizer.load(Path("trained")), TokenDataset(Path("talks"))
    ids, mask = dataset.read(0, dataset.tokens), dataset.mask(0, dataset.tokens)
    assert tokenizer.decode(ids[mask].tolist(), skip_special=False) == "Laid.<|im_end|>"
