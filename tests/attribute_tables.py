"""Tables of attributes for tests of what goes by them."""

from collections.abc import Mapping, Sequence

import numpy as np

from lmworks.corpus.attributes import AttributeTable, Ranges, TaggedSpan
from lmworks.records import Edit


def table(
    uris: Sequence[str],
    kinds: Sequence[str] = (),
    scores: Mapping[str, Sequence[float]] | None = None,
    spans: Sequence[tuple[TaggedSpan, ...]] = (),
    characters: Sequence[int] = (),
    **labels: Sequence[str | None],
) -> AttributeTable:
    """Of documents of these uris, which begin with their sources; without edits."""
    return AttributeTable(
        uris=list(uris),
        hashes=[str(number) for number in range(len(uris))],
        kinds=list(kinds) or ["text"] * len(uris),
        characters=np.array(list(characters) or [100] * len(uris)),
        bytes=np.full(len(uris), 100),
        scores={name: np.array(values, float) for name, values in (scores or {}).items()},
        labels=labels,
        edits=Ranges.of([()] * len(uris), Edit),
        spans=Ranges.of(spans, TaggedSpan),
        sources=[uri.partition("/")[0] for uri in uris],
    )
