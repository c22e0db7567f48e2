"""The repaired texts of a corpus by their numbers."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lmworks.corpus.attributes import CorpusAttributes
from lmworks.corpus.documents import CorpusShard, Shard
from lmworks.corpus.edits import apply_edits


class CorpusTexts(Sequence[str]):
    """Each text is read when it is asked for, and repaired. The edits of a few shards stay in memory."""

    def __init__(self, shards: Sequence[CorpusShard], tables: CorpusAttributes) -> None:
        self._shards = [Shard(shard.path) for shard in shards]
        self._edits = lru_cache(maxsize=4)(lambda shard: tables.only("edits")[shard].edits)
        self._starts = np.cumsum([0, *map(len, tables.only())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> str:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        place = number - int(self._starts[shard])
        return apply_edits(self._shards[shard].read(place).text, self._edits(shard)[place]).text
