"""A table of examples as one test: every row is tried, and a failure names each row that fails."""

import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import pytest


def for_each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call the test with each row of values for these arguments.

    `tmp_path` and `monkeypatch` are new for each row; all rows share the other fixtures. Skipped if all rows are.
    """
    arguments, table = (names,) if isinstance(names, str) else names, tuple(rows)
    if any(hasattr(row, "marks") for row in table):
        raise TypeError("rows with marks of their own are cases: use pytest.mark.parametrize")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def over_all_rows(*instance: Any, **fixtures: Any) -> None:
            failures: list[tuple[object, BaseException]] = []
            skipped: list[BaseException] = []
            for number, row in enumerate(table):
                values = dict(zip(arguments, (row,) if isinstance(names, str) else row, strict=True))
                of_row = dict(fixtures)
                if "tmp_path" in of_row:
                    of_row["tmp_path"] = fixtures["tmp_path"] / f"row{number}"
                    of_row["tmp_path"].mkdir()
                with fixtures["monkeypatch"].context() if "monkeypatch" in fixtures else nullcontext() as patch:
                    of_row |= {"monkeypatch": patch} if patch else {}
                    try:
                        test(*instance, **of_row, **values)
                    except pytest.skip.Exception as reason:
                        skipped.append(reason)
                    except (Exception, pytest.fail.Exception) as error:
                        failures.append((row, error))
            if failures:
                lines = [f"{str(row)[:300]}: {error!r:.500}" for row, error in failures]
                summary = f"{len(failures)} of {len(table)} rows fail\n" + "\n".join(lines)
                raise AssertionError(summary) from failures[0][1]
            if skipped and len(skipped) == len(table):
                raise skipped[0]

        parameters = inspect.signature(test).parameters.values()
        over_all_rows.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter for parameter in parameters if parameter.name not in arguments]
        )
        return over_all_rows

    return decorate
