"""The lineage of what stages made alone, outside of any workspace."""

import shutil
from io import StringIO

import pytest
from rich.console import Console

from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.lineage import trace


def shown(tree) -> str:
    stream = StringIO()
    Console(file=stream, width=200).print(tree)
    return stream.getvalue()


def test_a_folder_leads_to_those_beside_it(tmp_path):
    """A parent that lies beside it is told with its own settings; one that was moved away, by its hash."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("The cat sees the dog. The dog sees the cat.")
    run_alone("data.read", tmp_path / "documents", [], [], [f'sources=["{tmp_path}/texts"]'])
    run_alone("tokenizer.bpe", tmp_path / "words", [tmp_path / "documents"], [], ["vocabulary_size=270"])
    told = shown(trace(None, str(tmp_path / "words")))
    digests = {name: read_manifest(tmp_path / name).content_hash[:12] for name in ("documents", "words")}
    assert "words (tokenizer.bpe v" in told and f"content {digests['words']}" in told
    assert "documents (data.read v" in told and digests["documents"] in told and "texts" in told
    shutil.move(tmp_path / "documents", tmp_path / "texts" / "documents")
    told = shown(trace(None, str(tmp_path / "words")))
    assert f"from documents {digests['documents']}" in told and "data.read" not in told


def test_what_no_stage_made_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder that a stage made .* no system was built in this folder"):
        trace(None, str(tmp_path))
