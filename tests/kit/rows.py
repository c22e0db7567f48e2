"""A table of examples as one test, of which a failure names its rows."""

import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import pytest


def each_row(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """In place of `pytest.mark.parametrize`: all rows are tried in one test, and those that fail are listed.

    `tmp_path` and `monkeypatch` are anew for each row; other fixtures are shared by all of them.
    """
    columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = [tuple(row) if len(columns) > 1 else (row,) for row in rows]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def test_all(*arguments: Any, **fixtures: Any) -> None:
            failures = []
            for number, row in enumerate(table):
                of_row = dict(fixtures)
                if "tmp_path" in of_row:
                    of_row["tmp_path"] = fixtures["tmp_path"] / f"row{number}"
                    of_row["tmp_path"].mkdir()
                patches = fixtures["monkeypatch"].context() if "monkeypatch" in fixtures else nullcontext()
                with patches as patch:
                    of_row |= {"monkeypatch": patch} if patch else {}
                    try:
                        test(*arguments, **of_row, **dict(zip(columns, row, strict=True)))
                    except (Exception, pytest.fail.Exception) as error:
                        failures.append(f"row {number}, {row!r:.300}:\n{type(error).__name__}: {error}")
            assert not failures, "\n\n".join([f"{len(failures)} of {len(table)} rows fail", *failures])

        signature = inspect.signature(test)
        fixtures = [parameter for name, parameter in signature.parameters.items() if name not in columns]
        test_all.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return test_all

    return decorate
