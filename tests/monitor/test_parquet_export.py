"""Parquet files of a log, read by pyarrow."""

import json
from datetime import UTC, datetime

import pyarrow
import pyarrow.parquet
import pytest
from events import event, full_event, random_events

from lmworks.config import to_mapping
from lmworks.monitor import FilterError, Log
from lmworks.monitor import export as export_module
from lmworks.monitor.export import to_parquet

_WAIT = 20.0


def _log(folder, events) -> Log:
    log = Log(folder / "log.sqlite")
    for future in [log.record(one) for one in events]:
        future.result(_WAIT)
    return log


def test_every_field_has_its_column(tmp_path) -> None:
    with _log(tmp_path, [full_event(7)]) as log:
        assert to_parquet(log.reader, tmp_path / "out" / "log.parquet") == 1
    table = pyarrow.parquet.read_table(tmp_path / "out" / "log.parquet")
    (row,) = table.to_pylist()
    plain = full_event(7)
    texts = ("operation", "route", "conversation", "parent", "model", "prompt", "index")
    for name in (*texts, "experiment", "unit", "arm", "error"):
        assert row[name] == getattr(plain, name)
    for name in ("messages", "parameters", "retrieved", "verdicts", "timings", "lineage", "feedback"):
        assert json.loads(row[name]) == to_mapping(getattr(plain, name))
    assert row["time"] == datetime.fromtimestamp(plain.time, UTC)
    assert tuple(row["prompt_ids"]) == plain.prompt_ids
    assert tuple(row["token_log_probabilities"]) == plain.token_log_probabilities
    assert tuple(row["query_embedding"]) == plain.query_embedding
    assert (row["seed"], row["confidence"], row["abstained"]) == (2**64 - 1, 0.625, True)
    assert (row["seconds"], row["thumbs"], row["notes"]) == (0.3, "down", 1)
    assert row["response"] == "It closes. [1] ? \0"
    assert table.schema.field("query_embedding").type == pyarrow.list_(pyarrow.float32())
    assert table.schema.field("token_ids").type == pyarrow.list_(pyarrow.int32())


def test_what_is_not_known_is_null(tmp_path) -> None:
    with _log(tmp_path, [event(1, timings={})]) as log:
        to_parquet(log.reader, tmp_path / "log.parquet")
    (row,) = pyarrow.parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row[name] for name in ("seed", "confidence", "parent", "seconds", "thumbs")] == [None] * 5
    assert row["query_embedding"] == row["token_ids"] == []


def test_groups_of_rows_join_to_what_the_filter_lets_through(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(export_module, "_ROWS", 7)
    with _log(tmp_path, random_events(40, seed=2)) as log:
        expected = [row.id for row in log.reader.find("abstained:yes", limit=1000)]
        assert to_parquet(log.reader, tmp_path / "log.parquet", "abstained:yes") == len(expected)
        assert to_parquet(log.reader, tmp_path / "none.parquet", "route:nobody") == 0
    file = pyarrow.parquet.ParquetFile(tmp_path / "log.parquet")
    assert file.num_row_groups == -(-len(expected) // 7)
    assert file.read().column("id").to_pylist() == expected
    assert pyarrow.parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path, monkeypatch) -> None:
    path = tmp_path / "log.parquet"
    with _log(tmp_path, [event(1)]) as log:
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="exists already, and is never overwritten: choose a new name"):
            to_parquet(log.reader, path)
        assert path.read_text() == "mine"
        path.unlink()
        with pytest.raises(FilterError):
            to_parquet(log.reader, path, "nonsense:1")

        def appear_then_fail(*arguments: object) -> None:
            path.write_text("faster")
            raise OSError("disk full")

        monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", appear_then_fail)
        with pytest.raises(OSError, match="disk full"):
            to_parquet(log.reader, path)
        monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", lambda *arguments: None)
        path.unlink()
        monkeypatch.setattr(export_module.json, "dumps", lambda value: path.write_text("faster") and "")
        with pytest.raises(FileExistsError):  # it came while we were writing
            to_parquet(log.reader, path)
    assert path.read_text() == "faster"
    assert {file.name for file in tmp_path.iterdir()} == {"log.sqlite", "log.parquet"}
