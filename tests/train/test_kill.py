"""20 steps are 10, a kill that nothing can catch, and 10 more: the same bits."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lmworks.train.run_log import read_log
from training_cases import write_text_dataset

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path

    from training_cases import loader_config, new_checkpoint

    from lmworks.data.loader import Loader
    from lmworks.train.config import CheckpointConfig, TrainConfig
    from lmworks.train.loop import train
    from lmworks.train.objectives.causal import CausalLanguageModel
    from lmworks.train.optimizer_config import AdamW
    from lmworks.train.run import Run

    dataset, folder, precision = sys.argv[1:]
    config = TrainConfig(
        optimizer=AdamW(rate=3e-3), micro_batch=3, precision=precision, average=0.9, log=1, validate=None,
        checkpoint=CheckpointConfig(steps=4),
    )
    train(Run(new_checkpoint(), CausalLanguageModel(), Loader(loader_config(dataset)), config, Path(folder)))
""")


def start(dataset: Path, folder: Path, precision: str) -> subprocess.Popen:
    paths = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(dataset), str(folder), precision], env=environment)


def digests(folder: Path) -> dict[str, str]:
    last = folder / "checkpoints" / "step-00000020"
    names = ("model.safetensors", "train_state/optimizers.safetensors", "train_state/average.safetensors")
    return {name: hashlib.sha256((last / name).read_bytes()).hexdigest() for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_run_ends_as_an_undisturbed_one(precision, tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")
    assert start(dataset, tmp_path / "one", precision).wait() == 0
    folder = tmp_path / "two"
    for step in (6, 13):
        process = start(dataset, folder, precision)
        log = folder / "log.jsonl"
        while process.poll() is None and not (log.exists() and any(line["step"] >= step for line in read_log(log))):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(dataset, folder, precision).wait() == 0
    assert digests(folder) == digests(tmp_path / "one")
    logs = [read_log(each / "log.jsonl") for each in (folder, tmp_path / "one")]
    steps = [[line["loss"] for line in log if line["kind"] == "step"] for log in logs]
    assert steps[0] == steps[1]
