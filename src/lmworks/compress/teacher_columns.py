"""Columns of a teacher, stored once: at each place of token shards the likeliest next tokens, and all others together.

    columns.json          the shards by `TokenDataset.fingerprint`, and the `TeacherConfig`
    N-ids.npy             (sequences, length, k) uint16 or uint32, of the shards number N
    N-log-p.npy           (sequences, length, k + 1) float32; see `distillation_losses.Likeliest`

A sequence is one of the loader's plan, which documents, `length` and `seed` decide: a student that reads it, in
whatever order, finds next to it what the teacher said in this very context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmworks.artefact import write_json
from lmworks.compress.distillation_config import TeacherConfig
from lmworks.compress.distillation_losses import Likeliest, likeliest
from lmworks.config import to_mapping
from lmworks.data.batches import make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.data.token_dataset import TokenDataset
from lmworks.data.token_shard import token_dtype
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.tokenizer.tokenizer_folder import read_json
from lmworks.train.losses import LOGITS_AT_A_TIME
from lmworks.train.objectives.causal import CausalLanguageModel

COLUMNS = "columns.json"
_ROWS = 8  # sequences in a forward


@dataclass(frozen=True, slots=True, eq=False)
class TeacherColumns:
    """The columns of a loader's sources, in their order: (ids, log-probabilities) of each, on the disk."""

    arrays: Sequence[tuple[NDArray, NDArray[np.float32]]]

    def rows(self, sources: Tensor, sequences: Tensor) -> Likeliest:
        """ids (rows, length, k) int64, log-probabilities (rows, length, k or k + 1) of these sequences (rows,)."""
        pairs = list(zip(sources.tolist(), sequences.tolist(), strict=True))
        ids, log_p = (np.stack([self.arrays[s][column][q] for s, q in pairs]) for column in (0, 1))
        return Likeliest(torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(log_p))


def open_columns(
    folder: Path, datasets: Sequence[TokenDataset], length: int, seed: int, temperature: float
) -> TeacherColumns:
    """ValueError for columns of other shards, or of other settings than the loader's, naming what to set."""
    index = read_json(folder / COLUMNS)
    for name, expected in (("length", length), ("seed", seed), ("temperature", temperature)):
        if (made := index["config"][name]) != expected:
            raise ValueError(
                f"the teacher's columns were made with {name}={made}, the run has {expected}: set it alike"
            )
    arrays = []
    for dataset in datasets:
        if dataset.fingerprint not in index["shards"]:
            raise ValueError(f"the teacher's columns are not of the shards {dataset.folder}: read from one stage")
        number = index["shards"].index(dataset.fingerprint)
        ids, log_p = (np.load(folder / f"{number}-{column}.npy", mmap_mode="r") for column in ("ids", "log-p"))
        arrays.append((ids, log_p))
    return TeacherColumns(arrays)


def write_columns(
    folder: Path,
    teacher: Transformer,
    shards: Mapping[str, TokenDataset],
    config: TeacherConfig,
    progress: Report = no_report,
) -> None:
    """The columns of all `shards` into a new folder, by a frozen `teacher`."""
    length, vocabulary, device = config.length, teacher.config.embedding.vocabulary, teacher.tokens.device
    k = min(config.k, vocabulary)
    plans = {name: plan_sequences(texts.lengths, length, "pack", config.seed) for name, texts in shards.items()}
    total, done = sum(plan.sequences for plan in plans.values()), 0
    for number, (name, dataset) in enumerate(shards.items()):
        plan, outcomes = plans[name], k + (k < vocabulary)
        shapes = {"ids": (token_dtype(vocabulary), k), "log-p": (np.dtype("<f4"), outcomes)}
        files = [
            np.lib.format.open_memmap(folder / f"{number}-{column}.npy", "w+", dtype, (plan.sequences, length, last))
            for column, (dtype, last) in shapes.items()
        ]
        for start in range(0, plan.sequences, _ROWS):
            rows = np.arange(start, min(start + _ROWS, plan.sequences))
            batch = make_batch([dataset], [plan], np.zeros_like(rows), rows).to(device)
            hidden = CausalLanguageModel().hidden(teacher, batch).flatten(0, 1)  # (rows · length, width)
            parts = hidden.split(max(LOGITS_AT_A_TIME // vocabulary, 1))
            top_k = [likeliest(teacher.logits(states).float(), k, config.temperature) for states in parts]
            for file, pieces in zip(files, zip(*top_k, strict=True), strict=True):
                file[rows] = torch.cat(pieces).cpu().numpy().reshape(len(rows), length, -1)
            done += len(rows)
            progress(done, total, "sequences under the teacher")
        for file in files:
            file.flush()
    prints = [dataset.fingerprint for dataset in shards.values()]
    write_json(folder / COLUMNS, {"shards": prints, "config": to_mapping(config)})
