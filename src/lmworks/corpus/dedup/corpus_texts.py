"""The repaired texts of a corpus by their numbers."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from lmworks.corpus.corpus_shards import CorpusShard
from lmworks.corpus.documents import Shard
from lmworks.corpus.edits import apply_edits
from lmworks.records import Edit


class CorpusTexts(Sequence[str]):
    """Each text is read when it is asked for, and repaired. `edits` are those of each document of each shard; they are
    all that stays in memory."""

    def __init__(self, shards: Sequence[CorpusShard], edits: Sequence[Sequence[Sequence[Edit]]]) -> None:
        self._shards = [Shard(shard.path) for shard in shards]
        self._edits = edits
        self._starts = np.cumsum([0, *map(len, edits)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        place = number - int(self._starts[shard])
        return apply_edits(self._shards[shard].read(place).text, self._edits[shard][place]).text
