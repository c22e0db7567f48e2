"""One cleaning, two uses: answers and training shards come from the same documents, and lead back behind them."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import lmworks
from lmworks.artefact import read_manifest
from lmworks.build import build
from lmworks.corpus.documents import DocumentStore
from lmworks.data import TokenDataset
from lmworks.lineage import trace
from lmworks.recipe import load
from lmworks.tokenizer import Tokenizer

pytestmark = pytest.mark.weights

LEAVE = """# Leave

Every employee has twenty-eight days of paid leave a year. Leave is asked for by a mail to jane.miller@works-miller.com,
at least two weeks ahead.

At most five days are carried over into the next year, and they expire at the end of March.
"""
SECURITY = """# Security

Laptops are locked whenever you leave your desk. A lost laptop is reported to the security desk within one hour, by
telephone, at any time of the day.
"""
RECIPE = """
name = "handbook"

[models]
assistant = "smollm2-135m-instruct"
embedder = "all-minilm-l6-v2"

[stages.documents]
use = "corpus.read"
sources = [SOURCES]
licence = "CC-BY-4.0"

[stages.annotations]
use = "corpus.tag"
from = ["documents"]

[stages.duplicates]
use = "corpus.dedup"
from = ["documents", "annotations"]

[stages.cleaned]
use = "corpus.filter"
from = ["documents", "annotations", "duplicates"]

[stages.index]
use = "retrieve.index"
from = ["cleaned"]

[stages.questions]
use = "ground.questions"
from = ["cleaned"]
automatic = 10

[stages.calibration]
use = "ground.calibrate"
from = ["index", "questions"]

[stages.vocabulary]
use = "tokenizer.bpe"
from = ["cleaned"]
vocabulary_size = 300

[stages.shards]
use = "data.tokenize"
from = ["cleaned", "vocabulary"]
"""


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory, smollm2: Path, minilm: Path) -> Path:
    del smollm2, minilm  # they are pulled
    root = tmp_path_factory.mktemp("cleaned")
    (root / "docs").mkdir()
    for name, text in {"leave.md": LEAVE, "same.md": LEAVE, "security.md": SECURITY}.items():
        (root / "docs" / name).write_text(text, "utf-8")
    (root / "recipe.toml").write_text(RECIPE.replace("SOURCES", json.dumps(str(root / "docs"))))
    build(load(root / "recipe.toml"), root / "workspace")
    return root / "workspace"


def stage(workspace: Path, name: str) -> Path:
    return workspace / lmworks.open(workspace).current.stages[name]


def test_an_answer_leads_back_to_the_text_before_it_was_cleaned(handbook):
    answer = lmworks.open(handbook).ask("How is leave asked for?")
    cited = next(verdict for verdict in answer.verdicts if "Leave is asked for" in verdict.text)
    assert "<EMAIL>" in cited.text and "jane.miller" not in cited.text
    assert answer.citations, "it cites, so that there is something to follow"
    stream = StringIO()
    Console(file=stream, width=300).print(trace(handbook, answer.id))
    told = stream.getvalue()
    assert "cleaned from the text" in told and "there at" in told
    if any("<EMAIL>" in citation.text for citation in answer.citations):
        assert "'jane.miller@works-miller.com' became '<EMAIL>'" in told


def test_shards_and_index_hold_the_same_documents(handbook):
    cleaned = DocumentStore(stage(handbook, "cleaned"))
    assert sorted(document.uri for document in cleaned) == ["docs/leave.md", "docs/security.md"]
    tokenizer, shards = Tokenizer.load(stage(handbook, "vocabulary")), TokenDataset(stage(handbook, "shards"))
    texts = {
        tokenizer.decode(shards.read(start, end).tolist(), skip_special=True)
        for start, end in zip(shards.offsets, shards.offsets[1:], strict=False)
    }
    assert texts == {document.text for document in cleaned}
    index = lmworks.open(handbook).answerer.finder.index
    assert all(index.document(document.hash).text == document.text for document in cleaned)
    manifests = [read_manifest(stage(handbook, name)).parents for name in ("index", "shards")]
    content = read_manifest(stage(handbook, "cleaned")).content_hash
    assert all(content in parents.values() for parents in manifests)
