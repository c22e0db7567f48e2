"""A table of examples as one test: every row is tried, and a failure names each row that fails."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def for_each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call the test with each row of values for these arguments; fixtures are shared by all rows."""
    arguments, table = (names,) if isinstance(names, str) else names, tuple(rows)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def over_all_rows(**fixtures: Any) -> None:
            failures: list[tuple[object, BaseException]] = []
            for row in table:
                values = dict(zip(arguments, (row,) if isinstance(names, str) else row, strict=True))
                try:
                    test(**fixtures, **values)
                except (Exception, pytest.fail.Exception) as error:
                    failures.append((row, error))
            if failures:
                lines = [f"{str(row)[:300]}: {error!r:.500}" for row, error in failures]
                told = f"{len(failures)} of {len(table)} rows fail\n" + "\n".join(lines)
                raise AssertionError(told) from failures[0][1]

        parameters = inspect.signature(test).parameters.values()
        over_all_rows.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter for parameter in parameters if parameter.name not in arguments]
        )
        return over_all_rows

    return decorate
