"""Runs a lowered decoder: one call of the kernels for all new tokens of a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from lmworks.adapt.lora import Lora
from lmworks.generate.lowering import lower_adapter
from lmworks.generate.page_storage import PageTensors
from lmworks.generate.paged_cache import DROPPED
from lmworks.generate.runner import LogitRows, Work, begun_pages
from lmworks.kernels.fused_operations import run
from lmworks.kernels.kv_pages import PAGE
from lmworks.kernels.program import Program, RaggedBatch
from lmworks.model.transformer import Transformer


class FusedRunner:
    """A `Runner` on a `Program`. A token's logits are bitwise the same whatever shares its forward.

    windows   of the groups of layers, see `layer_groups`.
    prefix    the pages of an adapter's prefix (`lower_prefix`), behind which every sequence begins.
    relower   from a state dict by our names to the program with these weights, for `load_weights`; None: the weights
              are another runner's.
    """

    grid = None

    def __init__(
        self,
        program: Program,
        windows: tuple[int | None, ...],
        relower: Callable[[Mapping[str, Tensor]], Program] | None = None,
        prefix: Sequence[int] = (),
    ) -> None:
        self.program, self.windows, self.prefix = program, windows, prefix
        self.vocabulary = program.vocabulary
        self.device = program.embedding.values.device
        self._relower = relower
        groups = [[layer.pages.data for layer in program.layers if layer.group == n] for n in range(len(windows))]
        self._pages = PageTensors(groups)
        self.copy_page, self.clear_pages = self._pages.copy, self._pages.clear
        self.read_pages, self.write_pages = self._pages.read, self._pages.restore

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"weights": self.program.nbytes, "cache": self._pages.nbytes}

    def forward(self, works: Sequence[Work], hidden: bool = False) -> tuple[LogitRows, Tensor | None]:
        self.clear_pages(begun_pages(works))
        rows = run(self.program, _ragged(works, len(self.windows), self.prefix), hidden=hidden)
        return LogitRows(rows.logits, rows.best, rows.log_normaliser), rows.hidden

    def set_adapters(self, loras: Sequence[Lora]) -> None:
        self.program = replace(self.program, adapters=tuple(lower_adapter(lora, self.program) for lora in loras))

    def shares(self, model: Transformer) -> bool:
        return False  # the program's matrices are packed copies

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        if self._relower is None:
            raise ValueError(
                "weights that another runner shares, or that have a prefix next to them, are not replaced here: load "
                "them there, or make a new engine"
            )
        made = self._relower(state)
        pairs = zip(made.layers, self.program.layers, strict=True)
        layers = tuple(replace(new, pages=old.pages) for new, old in pairs)
        self.program = replace(made, layers=layers, adapters=self.program.adapters)


def _ragged(works: Sequence[Work], groups: int, prefix: Sequence[int]) -> RaggedBatch:
    """The works as the kernels take them."""
    before = len(prefix)
    ids: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    logits_indices: list[int] = []
    for row, work in enumerate(works):
        ids += work.ids
        start = before * PAGE + work.sequence.length
        positions += range(start, start + len(work.ids))
        sequences += [row] * len(work.ids)
        logits_indices += range(len(ids) - work.logits_to_keep, len(ids))
    adapters = [works[row].sequence.adapter for row in sequences]
    tables = []
    for group in range(groups):
        longest = max(len(work.sequence.tables[group]) for work in works)
        pages = np.full((len(works), before + longest), DROPPED, np.int32)
        pages[:, :before] = prefix
        for row, work in enumerate(works):
            table = work.sequence.tables[group]
            pages[row, before : before + len(table)] = np.frombuffer(table, np.int32)
        tables.append(pages)
    return RaggedBatch(
        ids=np.array(ids, np.int32),
        positions=np.array(positions, np.int32),
        sequences=np.array(sequences, np.int32),
        tables=tuple(tables),
        logits_indices=np.array(logits_indices, np.int32),
        adapters=np.array(adapters, np.int32) if max(adapters) >= 0 else None,
    )
