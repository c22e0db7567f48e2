"""The resume proof with real processes: three worlds, each killed without warning, make the stream of one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from token_cases import counted, write_dataset

RANK = """
import hashlib, json, sys
from lmworks.config import from_mapping
from lmworks.data import Loader
from lmworks.data import LoaderConfig
config, rank, world_size, state = (json.loads(argument) for argument in sys.argv[1:])
loader = Loader(from_mapping(LoaderConfig, config), rank, world_size, state)
for batch in loader:
    fields = [getattr(batch, name).numpy() for name in batch.__slots__]
    rows = [hashlib.sha256(b"".join(field[row].tobytes() for field in fields)).hexdigest() for row in range(len(batch))]
    print(json.dumps([rows, loader.state()]), flush=True)
"""


def run(config: dict, world_size: int, state: dict | None, steps: int) -> tuple[list[list[str]], dict]:
    """Start all ranks, read `steps` global batches, kill them: (digests of the rows of each batch, state)."""
    arguments = [json.dumps(value) for value in (config, world_size, state)]
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, arguments[0], str(rank), *arguments[1:]], stdout=subprocess.PIPE)
        for rank in range(world_size)
    ]
    batches = []
    for _ in range(steps):
        lines = [json.loads(rank.stdout.readline()) for rank in ranks if rank.stdout is not None]
        batches.append([row for rows, _ in lines for row in rows])
        assert all(found == lines[0][1] for _, found in lines)
        state = lines[0][1]
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
        rank.communicate()
    assert state is not None
    return batches, state


@pytest.mark.slow
def test_killed_worlds_of_one_two_and_three_processes_make_the_stream_of_one(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number, name in enumerate(("web", "code")):
        documents = counted(rng.integers(1, 300, 400).tolist(), first=number * 2**19)
        write_dataset(tmp_path / name, documents, shard_tokens=10_000)
    sources = {"web": {"folder": str(tmp_path / "web")}, "code": {"folder": str(tmp_path / "code"), "max_epochs": 2}}
    config = {"sources": sources, "length": 128, "batch": 8, "steps": 120, "temperature": 2.0}
    whole, _ = run(config, 1, None, 120)
    assert len({row for batch in whole for row in batch}) > 480  # of 960 rows: about two epochs
    shown, state = [], None
    for world_size, workers, steps in ((1, 1, 37), (2, 3, 41), (3, 2, 42)):
        batches, state = run(config | {"workers": workers}, world_size, state, steps)
        shown += batches
    assert shown == whole
