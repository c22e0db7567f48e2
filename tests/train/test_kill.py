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

from kit.tables import for_each
from lmworks.train.run_log import read_log
from training_cases import write_text_dataset

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path

    from functools import partial

    from training_cases import loader_config, new_checkpoint

    from lmworks.adapt import LoraConfig, add_adapter
    from lmworks.data.loader import Loader
    from lmworks.train.config import CheckpointConfig, TrainConfig
    from lmworks.train.loop import train
    from lmworks.train.objectives.causal import CausalLanguageModel
    from lmworks.train.optimizer_config import AdamW
    from lmworks.train.run import Run

    dataset, folder, precision, method = sys.argv[1:]
    adapt = partial(add_adapter, method=LoraConfig()) if method != "full" else None
    config = TrainConfig(
        optimizer=AdamW(rate=3e-3), micro_batch=3, precision=precision, average=0.9, log=1, validate=None,
        checkpoint=CheckpointConfig(steps=4),
    )
    loader = Loader(loader_config(dataset))
    train(Run(new_checkpoint(), CausalLanguageModel(), loader, config, Path(folder), adapt=adapt))
""")


def start(dataset: Path, folder: Path, *settings: str) -> subprocess.Popen:
    paths = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(dataset), str(folder), *settings], env=environment)


def digests(folder: Path) -> dict[str, str]:
    last = folder / "checkpoints" / "step-00000020"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in last.rglob("*.safetensors")}


@pytest.mark.slow
@for_each("settings", [("float32", "full"), ("bfloat16", "full"), ("bfloat16", "lora")])
def test_a_killed_run_ends_as_an_undisturbed_one(settings, tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")
    assert start(dataset, tmp_path / "one", *settings).wait() == 0
    folder = tmp_path / "two"
    for step in (6, 13):
        process = start(dataset, folder, *settings)
        log = folder / "log.jsonl"
        while process.poll() is None and not (log.exists() and any(line["step"] >= step for line in read_log(log))):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert start(dataset, folder, *settings).wait() == 0
    assert len(found := digests(folder)) == 3 and found == digests(tmp_path / "one")
    logs = [read_log(each / "log.jsonl") for each in (folder, tmp_path / "one")]
    steps = [[line["loss"] for line in log if line["kind"] == "step"] for log in logs]
    assert steps[0] == steps[1]
