"""The training throughput of this machine for a model's shape: measured by `step_timer.py`, and cached."""

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from lmworks.artefact import hash_json, write_json
from lmworks.config import from_mapping
from lmworks.model.config import ModelConfig
from lmworks.progress import Report, no_report
from lmworks.train.parallel.ranks import device_of_rank
from lmworks.train.planning.layout import Layout
from lmworks.train.planning.plan import Speed
from lmworks.train.planning.step_timer import Calibration, Dtype, is_beaten, measure

_VERSION = 4  # of what is measured: an older measurement is made again


def calibrate(
    config: ModelConfig,
    sequences: int = 1,
    length: int | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    folder: Path | None = None,
    progress: Report = no_report,
) -> Calibration:
    """Measured on this machine, or what was measured for the same shape before and kept in `folder` (default:
    `$LMWORKS_HOME/calibrations`, `~/.cache/lmworks/calibrations`). Takes about five seconds; what was kept is tried for
    a moment, and measured anew where this machine is much faster now: something ran beside it then.

    `sequences` × `length` (default: what the model was made for) is the micro-batch; where a step of that would be
    long, fewer tokens are measured, and `Calibration` says how many. What another program disturbed so much that
    nothing was left for the ends is given, and not kept. ValueError for a model that is no decoder or encoder alone,
    and for one of which not even two blocks fit into the memory.
    """
    if len(config.stacks) != 1:
        raise ValueError("an encoder–decoder cannot be measured like this: plan with a device and a utilisation")
    kept = kept_calibration(config, sequences, length, dtype, device, folder)
    if kept is not None and not is_beaten(kept, config, dtype, device):
        return kept
    measured = measure(config, sequences, length or config.context_length, dtype, device, progress)
    if not _clipped(measured):
        path = _path(config, sequences, length, dtype, device, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(measured))
    return measured


def kept_calibration(
    config: ModelConfig,
    sequences: int = 1,
    length: int | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    folder: Path | None = None,
) -> Calibration | None:
    """The cached measurement of `calibrate` for this shape, None where there is none."""
    path = _path(config, sequences, length, dtype, device, folder)
    if not path.is_file():
        return None
    kept = from_mapping(Calibration, json.loads(path.read_text("utf-8")))
    return None if _clipped(kept) else kept


def _path(
    config: ModelConfig, sequences: int, length: int | None, dtype: Dtype, device: str, folder: Path | None
) -> Path:
    length = min(length or config.context_length, config.context_length)
    key = hash_json([_VERSION, asdict(config), sequences, length, dtype, _machine(device)])
    return (folder or _home() / "calibrations") / f"{key[:24]}.json"


def _clipped(measured: Calibration) -> bool:
    return measured.ends == 0


def measured_speed(config: ModelConfig, layout: Layout, numbers: str, progress: Report = no_report) -> Speed:
    """The speed of this machine for a plan: on its first GPU, or its processor. ValueError as `calibrate`."""
    device, dtype = _here(numbers)
    found = calibrate(config, layout.sequences, layout.length, dtype, device, progress=progress)
    # Of the time, as the rate counts queries times keys in full and so may lie above that of the products. Above 1, as
    # when something else ran meanwhile, the share says nothing.
    share = (
        f"; {found.share:.0%} of the whole model's time is that of its blocks' matrix products"
        if found.share < 1
        else ""
    )
    return Speed(found.rate, f"measured here: {found.method}{share}", whole_run=False)


def is_measured(config: ModelConfig, layout: Layout, numbers: str) -> bool:
    """Whether `measured_speed` has its answer already."""
    device, dtype = _here(numbers)
    return kept_calibration(config, layout.sequences, layout.length, dtype, device) is not None


def _here(numbers: str) -> tuple[str, Dtype]:
    """The device of this machine, and what a run computes in."""
    return device_of_rank().type, "float32" if numbers == "float32" else "bfloat16"


def _machine(device: str) -> list[str]:
    """The machine and libraries that a measurement is valid for."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return [device, name, platform.node(), str(torch.get_num_threads()), torch.__version__]


def _home() -> Path:
    home = os.environ.get("LMWORKS_HOME")
    return Path(home) if home else Path.home() / ".cache" / "lmworks"
