"""A stage that is killed while it delivers what it trained is gone on from, and ends with the same files."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from lmworks.artefact import StageContext
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.train import fit, train_stages
from lmworks.train.config import PretrainConfig, TrainConfig
from lmworks.train.run_log import LOG
from lmworks.train.run_report import curve_section
from slow_cases import slow
from training_cases import stage_inputs

CONFIG = PretrainConfig(
    parameters=60_000, tokens=5_000, length=32, batch=8, train=TrainConfig(validate=None, precision="float32", log=5)
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    return stage_inputs(tmp_path_factory.mktemp("inputs"))


def pretrain(inputs: dict[str, Path], folder: Path, config: PretrainConfig = CONFIG) -> dict[str, str]:
    """One go, with an output of its own as a build gives it; the digests of its files, without the log's times."""
    shutil.rmtree(folder / "output", ignore_errors=True)
    (folder / "output").mkdir(parents=True)
    (folder / "work").mkdir(exist_ok=True)
    train_stages.pretrain(config, StageContext(inputs, folder / "output", folder / "work"))
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "output").iterdir()
        if path.name != LOG
    }


@pytest.fixture(scope="module")
def expected(inputs, tmp_path_factory) -> dict[str, str]:
    return pretrain(inputs, tmp_path_factory.mktemp("undisturbed"))


class Killed(BaseException):
    pass


def dying_at(number: int, function):
    """`function` until its call of this number, from 0; that one raises before it does anything."""
    calls = []

    def call(*arguments, **named):
        calls.append(1)
        if len(calls) > number:
            raise Killed
        return function(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (fit, "train", 0),
        (Checkpoint, "save", 0),
        (fit.shutil, "move", 0),
        (fit.shutil, "move", 2),
        (fit.shutil, "rmtree", 0),
        *slow((fit.shutil, "copyfile", 0)),
        *slow((fit, "curve_section", 0)),
    ],
)
def test_a_stage_is_gone_on_from_wherever_it_was_killed(owner, name, number, inputs, expected, tmp_path, monkeypatch):
    (tmp_path / "two" / "output").mkdir(parents=True)
    (tmp_path / "two" / "work").mkdir()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, dying_at(number, getattr(owner, name)))
        train_stages.pretrain(CONFIG, StageContext(inputs, tmp_path / "two" / "output", tmp_path / "two" / "work"))
    assert pretrain(inputs, tmp_path / "two") == expected
    assert (tmp_path / "two" / "output" / LOG).exists()
    assert load(tmp_path / "two" / "output").model.tokens.dtype == torch.float32


def test_a_log_without_a_step_has_a_section_all_the_same(tmp_path):
    (tmp_path / LOG).write_text(json.dumps({"kind": "event", "step": 0, "text": "the loss is nan at batch 0: skip"}))
    section, metrics = curve_section(tmp_path / LOG)
    assert metrics == {}
    assert section.figures == ()
    assert section.tables[-1].rows == ((0, "the loss is nan at batch 0: skip"),)


def test_a_report_tells_the_time_of_all_starts_of_a_run(tmp_path):
    clocks = [("step", 10.0), ("step", 70.0), ("step", 5.0), ("step", 95.0)]  # killed after 70 s
    lines = [
        {"kind": kind, "step": number, "seconds": seconds, "loss": 1.0, "tokens_per_second": 1.0}
        for number, (kind, seconds) in enumerate(clocks)
    ]
    (tmp_path / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    section, _ = curve_section(tmp_path / LOG)
    assert ("time, with validations", "3 min") in section.tables[0].rows
