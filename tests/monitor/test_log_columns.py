"""Columns of the log: what every payload would give, without one being decoded, also of a log of an earlier version."""

import zlib
from math import isfinite
from statistics import fmean

import numpy as np
import pyarrow.parquet
import pytest
from events import event, full_event, random_events

from kit.tables import for_each
from lmworks.monitor import FilterError, Log, Reader
from lmworks.monitor.columns import NAMES
from lmworks.monitor.export import to_parquet
from lmworks.monitor.rows import storable
from lmworks.records import Interaction, question_of

EVENTS = [
    *random_events(40, seed=3),
    full_event(100),
    event(101, experiment="tone", arm="B", confidence=0.5, query_embedding=(0.25, -1.0)),
]
PHASES = ("timings.prefill", "timings.total")


@pytest.fixture
def logged(location):
    with Log(location) as log:
        for future in [log.record(one) for one in EVENTS]:
            future.result(20)
    return location


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """The payloads that were decoded."""
    np.random.default_rng()  # whose import decompresses, too
    payloads, decompress = [], zlib.decompress
    monkeypatch.setattr(zlib, "decompress", lambda payload: payloads.append(payload) or decompress(payload))
    return payloads


def value(interaction: Interaction, name: str):
    """A column's value, from the whole interaction; None for NaN."""
    thumbs = [one.value or "" for one in interaction.feedback if one.kind == "thumbs"]
    finite = [one for one in interaction.token_log_probabilities if isfinite(one)]
    derived = {
        "seconds": interaction.timings.get("total"),
        "log_probability": fmean(finite) if finite else None,
        "question": storable(question_of(interaction.messages)),
        "thumbs": thumbs[-1] if thumbs else "",
        "notes": sum(one.kind == "note" for one in interaction.feedback),
    }
    if name.startswith("timings."):
        return interaction.timings.get(name.removeprefix("timings."))
    found = derived[name] if name in derived else getattr(interaction, name)
    return storable(found) if isinstance(found, str) else found


def plain(value):
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return None if isinstance(value, float) and np.isnan(value) else value


@for_each("text", ["", "abstained:yes", "experiment:tone", "route:nobody"])
def test_columns_equal_what_every_payload_gives(logged, decoded, text):
    names = (*NAMES, *PHASES)
    decoded.clear()
    with Reader.open(logged) as reader:
        found = reader.columns(names, text)
        batches = list(reader.column_batches(names, text, size=7))
        assert not decoded
        expected = list(reader.interactions(text))
    assert len(decoded) == len(expected)
    for name in names:
        column = [value(interaction, name) for interaction in expected]
        assert [plain(each) for each in found[name]] == column, name
        assert [plain(each) for batch in batches for each in batch[name]] == column, name
    assert {found[name].dtype.kind for name in ("confidence", "seconds", *PHASES)} == {"f"}
    assert (found["input_tokens"].dtype.kind, found["abstained"].dtype.kind) == ("i", "b")


def test_a_file_of_numbers_is_written_without_a_payload(logged, decoded, tmp_path):
    with Reader.open(logged) as reader:
        assert to_parquet(reader, tmp_path / "numbers.parquet", "arm:B", content=False) == 2
        assert not decoded
        to_parquet(reader, tmp_path / "all.parquet", "arm:B")
    numbers, everything = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("numbers", "all"))
    assert not {"question", "response", "messages", "rendered_prompt"} & set(numbers.column_names)
    assert {"experiment", "confidence", "query_embedding", "seconds"} < set(numbers.column_names)
    assert numbers.to_pylist() == everything.select(numbers.column_names).to_pylist()


def test_what_does_not_exist_is_refused(logged):
    with Reader.open(logged) as reader:
        with pytest.raises(ValueError, match='unknown column "confidense"; did you mean "confidence"'):
            reader.columns(["confidense"])
        with pytest.raises(ValueError, match="unknown column"):
            reader.columns(["timings.a' OR 1"])
        with pytest.raises(FilterError):
            reader.columns(["id"], "nonsense:1")
