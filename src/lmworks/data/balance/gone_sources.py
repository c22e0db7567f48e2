"""Sources that a config names and of which data.clean dropped every document: what is left of them is in its ledger."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmworks.artefact import REPORT
from lmworks.data.balance.config import BalanceConfig
from lmworks.data.cleaning.ledger import LEDGER
from lmworks.data.cleaning.policy import REPAIR


def without_gone(config: BalanceConfig, sources: Collection[str], inputs: Mapping[str, Path]) -> BalanceConfig:
    """The config without such sources of the weight 0, of which nothing is wanted anyway. `sources` are those that
    there are documents of; a name that no ledger has either stays as it is.

    ValueError for one that something is wanted of, with how many documents it had.
    """
    kept = dict(config.sources)
    for name in [each for each in config.sources if each not in sources]:
        for cleaned, folder in inputs.items():
            if not (documents := _documents_before(folder / LEDGER).get(name)):
                continue
            if config.sources[name].weight != 0:
                raise ValueError(
                    f"sources.{name}: data.clean ({cleaned}) dropped all of its {documents:,} documents. Leave "
                    f"sources.{name} out, or give it weight=0, or clean by a milder policy: {folder / REPORT} tells "
                    "which steps took them"
                )
            kept.pop(name, None)
    return config if len(kept) == len(config.sources) else replace(config, sources=kept)


def _documents_before(ledger: Path) -> dict[str, int]:
    """Source -> documents that went into the cleaning: each has one row of its first step. {} where there is none."""
    import pyarrow.compute
    import pyarrow.parquet as pq

    pc: Any = pyarrow.compute  # which makes its functions when it is imported
    found: dict[str, int] = {}
    if not ledger.is_file():
        return found
    parts = pq.ParquetFile(ledger)
    for number in range(parts.num_row_groups):
        rows = parts.read_row_group(number, columns=["source", "step"])
        first = rows.filter(pc.equal(rows["step"], REPAIR))
        for each in pc.value_counts(first["source"]).to_pylist():
            found[each["values"]] = found.get(each["values"], 0) + each["counts"]
    return found
