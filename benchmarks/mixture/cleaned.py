"""The mixture through lmworks: the recipe, the builds of both halves, and what came out of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixture.planting import Mixture
from mixture.versions import ITEMS


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One half after its build.

    texts      Document → its cleaned text.
    languages  Document → the language that it is told to be in.
    rejected   What the readers named as left out.
    reasons    Document → the ledger's account of why it went, for the reader of the samples; no score is made of it.
    seconds    Of the build.
    """

    texts: Mapping[str, str]
    languages: Mapping[str, str]
    rejected: frozenset[str]
    reasons: Mapping[str, str]
    seconds: float


def write_recipe(mixture: Mixture, half: str) -> Path:
    """A `corpus.read` stage for each source that has files in this half, and the stages that clean them."""
    names = [name for name in mixture.sources if (mixture.folder / half / name).is_dir()]
    lines = ['name = "mixture"', 'description = "A messy mixture of known defects"']
    for name in names:
        source = mixture.sources[name]
        settings = {"kind": source.kind, "licence": source.licence, **source.settings}
        lines += [f"\n[stages.{name}]", 'use = "corpus.read"', f'sources = ["{half}/{name}"]', "exclude = []"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    inputs = ", ".join(f'"{name}"' for name in names)
    lines += ["\n[stages.annotations]", 'use = "corpus.tag"', f"from = [{inputs}]", f'evaluation = ["{ITEMS}"]']
    lines += ["\n[stages.duplicates]", 'use = "corpus.dedup"', f'from = [{inputs}, "annotations"]']
    lines += ["\n[stages.cleaned]", 'use = "corpus.filter"', f'from = [{inputs}, "annotations", "duplicates"]']
    path = mixture.folder / f"{half}.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def build(recipe: Path) -> Cleaned:
    """Clean one half, in a process of its own; RuntimeError with what it said where it fails."""
    workspace = recipe.with_suffix("")
    workspace = workspace.with_name(f"{workspace.name}-workspace")
    began = time.perf_counter()
    command = [sys.executable, "-m", "lmworks", "build", str(recipe), "--workspace", str(workspace)]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return _read(workspace, time.perf_counter() - began)


def _read(workspace: Path, seconds: float) -> Cleaned:
    from lmworks.corpus.documents import DOCUMENTS, REJECTED, Shard, shard_paths
    from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
    from lmworks.workspace import read_current

    folders = [workspace / folder for folder in read_current(workspace).stages.values()]
    folder = next(each for each in folders if (each / LEDGER).is_file())
    assert (folder / DOCUMENTS).is_dir()
    documents = [document for path in shard_paths(folder) for document in Shard(path)]
    rejected = [json.loads(line)["uri"] for line in (folder / REJECTED).read_text("utf-8").splitlines()]
    reasons: dict[str, str] = {}
    for entry in read_ledger(folder / LEDGER):
        if entry.verdict == "dropped":
            first = entry.reasons[0]
            told = "" if first.value is None else f" {first.value:.3g}"
            reasons.setdefault(
                entry.document, f"{entry.step}: {first.rule}{told} {first.kept_duplicate or first.label or ''}".strip()
            )
    return Cleaned(
        {document.uri: document.text for document in documents},
        {document.uri: document.language or "" for document in documents},
        frozenset(rejected),
        reasons,
        seconds,
    )
