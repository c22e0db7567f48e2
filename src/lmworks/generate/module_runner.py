"""Runs any decoder or encoder–decoder as it is, on any device: the runner for what the fused kernels do not know."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lmworks.adapt.lora import Lora
from lmworks.adapt.multi_lora import AdapterIndex, with_lora
from lmworks.generate.page_storage import CacheDtype, PagedView, PageStorage
from lmworks.generate.runner import LogitRows, Work, begun_pages, require_same_shapes
from lmworks.model.attention import Memory
from lmworks.model.quantised_linear import load_state, packed_bytes, shapes_of
from lmworks.model.transformer import Transformer

_GRID = 256  # tokens of a prefill forward: enough to fill a machine, few enough to be waited for


class ModuleRunner:
    """Each prefill chunk is a forward of its own; all sequences that bring one token share one (of an
    encoder–decoder: the beams of one source).

    Matrix products round differently for different shapes, so the shapes a request sees must not depend on its
    neighbours: its chunks lie on a grid, and one token alone gets an empty row next to it, since the kernels for a
    single row differ from those for many. (Most of such a step is reading the weights: the row costs it a tenth.)
    """

    def __init__(self, model: Transformer, pages: int, cache_dtype: CacheDtype | None = None) -> None:
        if model.decoder is None:
            raise ValueError("only a model with a decoder generates")
        parameter = next(model.parameters())
        self.model, self.device, self.grid = model, parameter.device, _GRID
        self.vocabulary = model.config.embedding.vocabulary
        dtype = cache_dtype or str(parameter.dtype).removeprefix("torch.")
        self._storage = PageStorage(model.decoder.config, pages, dtype, parameter.dtype, self.device)  # type: ignore[arg-type]
        self.windows = self._storage.windows
        self.copy_page, self.clear_pages = self._storage.copy, self._storage.clear
        self.read_pages, self.write_pages = self._storage.read, self._storage.restore
        self._base = model  # without adapters
        self._shared = True  # its weights are somebody else's, too
        self._loras: Sequence[Lora] = ()
        self._index = AdapterIndex()

    @property
    def sizes(self) -> Mapping[str, int]:
        tensors = {tensor.data_ptr(): tensor.nbytes for tensor in self.model.state_dict().values()}
        return {
            "weights": sum(tensors.values()) + packed_bytes(self.model),
            "cache": self._storage.nbytes,
            "buffers": 0,
        }

    def encode(self, ids: Sequence[int]) -> Memory:
        """An encoder–decoder's source, for `CachedSequence.memory`."""
        return self.model.encode(torch.tensor([ids], device=self.device))

    def forward(self, works: Sequence[Work], hidden: bool = False) -> tuple[LogitRows, Tensor | None]:
        self.clear_pages(begun_pages(works))
        rows: dict[int, Tensor] = {}  # number of the work -> (logits_to_keep, width)
        together: dict[int, list[int]] = {}  # one token each, of decoders or of one source's beams
        for n, work in enumerate(works):
            together.setdefault(id(work.sequence.memory) if len(work.ids) == 1 else -1 - n, []).append(n)
        for numbers in together.values():
            states = self._hidden([works[n] for n in numbers])  # (batch, length, width)
            for n, state in zip(numbers, states, strict=False):
                rows[n] = state[len(works[n].ids) - works[n].logits_to_keep :]
        last_states = torch.cat([rows[n] for n in range(len(works))])
        adapters = [work.sequence.adapter for work in works for _ in range(work.logits_to_keep)]
        logits = self._logits(last_states, adapters)
        return LogitRows.from_logits(logits), last_states.float() if hidden else None

    def _hidden(self, works: Sequence[Work]) -> Tensor:
        """Last hidden states (batch, length, width) of works with equally many tokens."""
        tables = [work.sequence.tables for work in works]
        starts = [work.sequence.length for work in works]
        ids = [list(work.ids) for work in works]
        memory = works[0].sequence.memory
        if len(works) == 1 and len(ids[0]) == 1 and memory is None:
            tables, starts, ids = [*tables, []], [*starts, 0], [*ids, [0]]
        view = PagedView(self._storage, tables, starts, len(ids[0]))
        tokens = torch.tensor(ids, device=self.device)
        adapters = [work.sequence.adapter for work in works] + [-1] * (len(ids) - len(works))
        with self._using(adapters, batched=True):
            if memory is None:
                return self.model.hidden(tokens, cache=view)
            assert isinstance(memory, Memory)
            return self.model.decode(tokens, _repeat(memory, len(ids)), cache=view)

    def _logits(self, rows: Tensor, adapters: Sequence[int]) -> Tensor:
        """(rows, width) → (rows, vocabulary) float32; a single row has company here as well."""
        count = len(rows)
        if count == 0:
            return torch.empty(0, self.vocabulary, device=self.device)
        if count == 1:
            rows, adapters = rows.expand(2, -1), [*adapters, -1]
        with self._using(adapters, batched=False):
            return self.model.logits(rows)[:count].float()

    def _using(self, adapters: Sequence[int], batched: bool) -> AbstractContextManager[None]:
        """The adapter of each row, for a tensor (rows, length, width) if `batched`, else (rows, width)."""
        if not self._loras:
            return nullcontext()
        numbers = torch.tensor(adapters, device=self.device)
        return self._index.using(numbers[:, None] if batched else numbers)

    def set_adapters(self, loras: Sequence[Lora]) -> None:
        self.model = with_lora(self._base, loras, self._index) if loras else self._base
        self._loras = tuple(loras)

    def shares(self, model: Transformer) -> bool:
        parameters = dict(self._base.named_parameters())
        return all(parameters.get(name) is parameter for name, parameter in model.named_parameters())

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        require_same_shapes(shapes_of(self._base), state)
        if self._shared:
            self._base, self._shared = copy.deepcopy(self._base), False
        load_state(self._base, state)
        self.set_adapters(self._loras)


def _repeat(memory: Memory, count: int) -> Memory:
    """One source for several rows. Their first step was one row, so that its keys and values are known."""
    if count == 1:
        return memory
    projected = {
        layer: (key.expand(count, -1, -1, -1), value.expand(count, -1, -1, -1))
        for layer, (key, value) in memory.projected.items()
    }
    return Memory(memory.hidden.expand(count, -1, -1), memory.mask, projected)
