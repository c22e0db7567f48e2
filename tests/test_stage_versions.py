"""A stage's version rises when what it makes changes: cached artefacts of the old code would be taken for new.

Stages that compute the same everywhere are built on `tests/stage_fixture/`, and a digest of what they made is compared
with the recorded one. The results of the others depend on the machine's arithmetic: of these the source of the few
modules that shape them is compared, without comments and docstrings. After a change:

    python tests/test_stage_versions.py     # records, and refuses a changed result under an unchanged version
"""

import ast
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console

import lmworks
from kit.tables import for_each
from lmworks.artefact import MANIFEST, REPORT, SECTIONS, hash_json
from lmworks.build import build
from lmworks.recipe import load
from lmworks.stages import STAGES

FIXTURE = Path(__file__).with_name("stage_fixture")
RECORDED = Path(__file__).with_name("stage_versions.json")
PACKAGE = Path(lmworks.__file__).parent
# What shapes the result of a stage whose bytes depend on the machine.
MODULES = {
    "corpus.perplexity": "generate/perplexity generate/scoring",
    "embeddings.words": "embeddings/stage embeddings/corpus embeddings/word2vec embeddings/subwords",
    "embeddings.glove": "embeddings/stage embeddings/corpus embeddings/glove",
    "train.pretrain": "train/train_stages train/derived_settings train/fit train/loop train/gradient_accumulation "
    "train/objectives/causal",
    "train.finetune": "train/train_stages train/settings train/fit train/loop train/gradient_accumulation "
    "train/objectives/causal",
    "train.sweep": "train/sweep/stage train/sweep/ladder train/sweep/findings",
    "train.embedder": "train/stage_embedder train/loop train/objectives/contrastive",
    "train.cross_encoder": "train/stage_cross_encoder train/objectives/cross_encoder_objective",
    "align.offline": "align/stage_offline align/dpo align/kto align/reward_model align/reward_report",
    "align.critique_and_revision": "align/critique_and_revision",
    "align.online": "align/stage_online align/rollout_loader align/completions align/grpo align/advantages align/ppo",
    "compress.quantise": "compress/stage compress/quantisation compress/gptq "
    "compress/weight_grid compress/channel_scales compress/block_calibration compress/bit_allocation",
    "compress.lsq": "compress/lsq compress/weight_grid train/train_stages train/loop",
    "compress.compare": "compress/compression_report",
    "compress.prune": "compress/stage compress/structured_pruning compress/sparsity compress/gptq",
    "compress.teacher": "compress/teacher_columns compress/distillation_losses",
    "compress.sequences": "compress/teacher_sequences",
    "compress.distil": "compress/stage_distil compress/distillation compress/distillation_losses compress/on_policy",
    "evaluate.suite": "evaluate/suite evaluate/task evaluate/choice_metrics",
    "evaluate.learned": "evaluate/learned_metric evaluate/bertscore",
    "retrieve.index": "retrieve/stage retrieve/chunk retrieve/document_structure generate/text_embedding",
    "ground.calibrate": "ground/calibration ground/grounded_answer ground/features ground/selection",
    "ground.refusals": "ground/refusal_rows ground/asked_questions evaluate/refusal_metrics",
    "evaluate.judge": "evaluate/judge evaluate/judge_calibration",
    "ground.evaluate": "ground/grounding_evaluation ground/grounded_answer ground/selection",
}


def made(workspace: Path) -> dict[str, str]:
    """Build the fixture: the stage, as a recipe's `use` names it → a digest of what it made."""
    folder = workspace / "fixture"
    shutil.copytree(FIXTURE, folder)
    outcomes = build(load(folder / "recipe.toml"), workspace / "workspace", Console(quiet=True))
    return {outcome.manifest.stage: digest_of_artefact(outcome.folder) for outcome in outcomes}


def digest_of_artefact(folder: Path) -> str:
    """Names and contents of its files. Of a Parquet file the rows, since its bytes name the version of the library."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name in (MANIFEST, SECTIONS, REPORT):
            continue
        if path.suffix == ".parquet":
            files[path.relative_to(folder).as_posix()] = hash_json(pyarrow.parquet.read_table(path).to_pylist())
        else:
            files[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hash_json(files)[:16]


def digest_of_modules(use: str) -> str:
    """The syntax trees of a stage's modules, without docstrings."""
    digest = hashlib.sha256()
    for module in MODULES[use].split():
        tree = ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            match getattr(node, "body", None):
                case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                    docstring.value = ""
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def current(results: dict[str, str]) -> dict[str, dict[str, object]]:
    return {
        use: {"version": stage.version}
        | ({"made": results[use]} if use in results else {"source": digest_of_modules(use)})
        for use, stage in STAGES.items()
    }


@pytest.fixture(scope="module")
def now(tmp_path_factory):
    return current(made(tmp_path_factory.mktemp("stages")))


@for_each("use", STAGES)
def test_what_a_stage_makes_changes_with_its_version(use, now):
    recorded, found = json.loads(RECORDED.read_text("utf-8"))[use], now[use]
    if "made" in found and found["version"] == recorded["version"]:
        assert found == recorded, f"{use} makes something else than before: raise its version in stages.py, then record"
    assert found == recorded, (
        "record it with `python tests/test_stage_versions.py`; raise the version in stages.py if the stage makes "
        "something else than before"
    )


def test_every_stage_is_built_or_names_its_modules(now):
    assert {use for use in STAGES if "made" in now[use]} == set(STAGES) - set(MODULES)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = current(made(Path(folder)))
    old = json.loads(RECORDED.read_text("utf-8"))
    for name, entry in found.items():
        was = old.get(name, {})
        if "made" in entry and was.get("made", entry["made"]) != entry["made"] and was["version"] == entry["version"]:
            sys.exit(f"{name} makes something else than before: raise its version in its package's stages.py first")
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
