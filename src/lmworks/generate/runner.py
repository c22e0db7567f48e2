"""A model runner: one ragged batch of new tokens in, logits out.

Everything the engine does is a list of `Work`: prefill chunks, decoding, checking of guesses, scoring and search differ
only in how many tokens they bring and how many logits they want.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.adapt.lora import Lora
from lmworks.generate.paged_cache import PAGE, CachedSequence
from lmworks.model.transformer import Transformer

_BLOCK = 256
# What /proc/cpuinfo calls an instruction that multiplies bfloat16: x86 (AVX-512, AMX) and ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def default_dtype(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo")) -> torch.dtype:
    """bfloat16 on CUDA and on a CPU that multiplies it in hardware, float32 elsewhere.

    A CPU without such instructions emulates bfloat16, which is several times slower than float32. Linux lists them in
    /proc/cpuinfo; where that file does not exist the answer is float32, which is right everywhere.
    """
    if device.type == "cuda":
        return torch.bfloat16
    if not cpuinfo.exists():
        return torch.float32
    names = ("flags", "Features")
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    flags = next((value.split() for name, _, value in lines if name.strip() in names), [])
    return torch.bfloat16 if _BFLOAT16_FLAGS.intersection(flags) else torch.float32


class LogitRows(NamedTuple):
    """One row for each wanted position.

    logits           (rows, vocabulary) float32, the model's raw ones.
    best             (rows,) int64, the id of the largest logit.
    log_normaliser   (rows,) float32, ln Σ exp(logits). Not finite exactly where no token can be chosen: a logit is NaN
                     or +inf, or all are -inf.
    """

    logits: Tensor
    best: Tensor
    log_normaliser: Tensor

    @classmethod
    def from_logits(cls, logits: Tensor) -> "LogitRows":
        """The rows of (rows, vocabulary) float32; on the CPU the same bits for a row whatever stands next to it."""
        best = logits.argmax(-1)
        largest = logits.gather(1, best[:, None])  # (rows, 1)
        # On a CPU few rows at a time, so that the temporaries stay in the cache.
        few = 4 if logits.device.type == "cpu" else max(1, len(logits))
        pieces = zip(logits.split(few), largest.split(few), strict=True)
        return cls(logits, best, torch.cat([_log_sum(*piece) for piece in pieces]))

    def select(self, rows: Sequence[int]) -> "LogitRows":
        """The rows with these numbers, in this order."""
        return LogitRows(*(values[list(rows)] for values in self))


def _log_sum(logits: Tensor, largest: Tensor) -> Tensor:
    """ln Σ exp(logits) of each row, float32: (rows, vocabulary), their maxima (rows, 1) -> (rows,).

    A sum over one long row would be cut among the threads and one over many rows not, and they would round differently.
    So blocks of a fixed length are summed, and the few sums of a row in their order, in float64, which MPS lacks.
    """
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    weights = F.pad(logits - largest, (0, -logits.shape[1] % _BLOCK), value=-torch.inf).exp_()
    sums = weights.unflatten(1, (-1, _BLOCK)).sum(-1)  # (rows, blocks)
    return (sums.cumsum(-1, dtype=wide)[:, -1].log() + largest.squeeze(1)).float()


@dataclass(slots=True)
class Work:
    """New tokens of one sequence, in one forward.

    ids              the tokens, at the positions behind what `sequence` holds; its pages have room for them.
    logits_to_keep   for how many of the last of them logits are computed: none for a part of a prompt that is not its
                     end, one to continue, more to check guesses or to score.
    """

    sequence: CachedSequence
    ids: Sequence[int]
    logits_to_keep: int


def begun_pages(works: Sequence[Work]) -> list[tuple[int, int]]:
    """(group, page) of the pages that the works begin and do not fill. What these held before is to be cleared: it is
    masked, but attention multiplies it by zero, and 0 · NaN is NaN."""
    begun = []
    for work in works:
        index, filled = divmod(work.sequence.length + len(work.ids), PAGE)
        if filled and index * PAGE >= work.sequence.length:
            begun += [(group, table[index]) for group, table in enumerate(work.sequence.tables)]
    return begun


def require_same_shapes(shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor]) -> None:
    """ValueError unless these weights have the names and shapes of a model's own."""
    wrong = sorted(shapes.keys() ^ state.keys()) or [
        name for name, shape in shapes.items() if state[name].shape != shape
    ]
    if wrong:
        raise ValueError(
            f"the weights do not fit this model; names that are missing, unknown or of other shape: {wrong}"
        )


class Runner(Protocol):
    """A model with its key/value pages.

    windows     of the cache's groups of layers, as `PagedCache` takes them.
    grid        None: a token's logits are bitwise the same however its text was cut into forwards. Else forwards must
                begin at multiples of `grid`, and end there or at the end of the prompt, to be so.
    device      where the logits are.
    """

    @property
    def windows(self) -> tuple[int | None, ...]: ...

    @property
    def grid(self) -> int | None: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by what they are for: weights, cache, buffers."""
        ...

    def forward(self, works: Sequence[Work], hidden: bool = False) -> tuple[LogitRows, Tensor | None]:
        """The wanted rows, in the order of the works, and, if asked for, their last hidden states (rows, width)
        float32. Keys and values of all new tokens are stored."""
        ...

    def copy_page(self, group: int, source: int, target: int) -> None: ...

    def clear_pages(self, pages: Sequence[tuple[int, int]]) -> None:
        """Zero the (group, page)s: attention multiplies what is masked by zero, and 0 · NaN is NaN."""
        ...

    def read_pages(self, pages: Sequence[tuple[int, int]]) -> object:
        """The content of (group, page)s, to be written back into other ones by `write_pages`."""
        ...

    def write_pages(self, pages: Sequence[tuple[int, int]], content: object) -> None: ...

    def set_adapters(self, loras: Sequence[Lora]) -> None:
        """Those that `CachedSequence.adapter` counts. ValueError, and nothing changed, for one that does not fit."""
        ...

    def shares(self, model: Transformer) -> bool:
        """The runner computes with the very tensors of this model, and needs no `load_weights` when they change."""
        ...

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Replace the weights, each in the format that it has; ValueError, and nothing changed, when names or shapes
        differ."""
        ...
