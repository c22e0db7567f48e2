"""A trace made to fit: lengths that a context holds, arrivals at a rate, percentiles against numpy's."""

import gzip

import numpy as np
import pytest
from contenders.arrivals import Arrival, at_rate, capped, percentile, read_trace
from contenders.servers import Stream
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each

_TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:18:04.0781490,110,27
"""
_ARRIVALS = st.lists(st.floats(0.001, 50), min_size=1, max_size=30).map(
    lambda gaps: [Arrival(float(second), 10, 5) for second in np.cumsum([0.0, *gaps])]
)


@for_each("name", ["trace.csv", "trace.csv.gz"])
def test_reads_the_first_requests_of_a_trace(tmp_path, name) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(_TRACE.encode()) if name.endswith("gz") else _TRACE.encode())
    first, second, third = read_trace(path, 10)
    assert first == Arrival(0.0, 4808, 10)
    assert (second.prompt, second.new) == (3180, 8)
    assert second.seconds == pytest.approx(0.052, abs=1e-6)
    assert third.seconds == pytest.approx(60.098189, abs=1e-6)  # past a full minute
    assert read_trace(path, 2) == [first, second]


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(2, 8192), st.data())
def test_what_is_capped_fits_and_what_fits_is_left(prompt, new, context, data) -> None:
    most_new = data.draw(st.integers(1, context - 1))
    fitted = capped(Arrival(1.5, prompt, new), context, most_new)
    assert fitted.seconds == 1.5
    assert fitted.prompt >= 1 and 1 <= fitted.new <= most_new and fitted.prompt + fitted.new <= context
    if 1 <= new <= most_new and prompt >= 1 and prompt + new <= context:
        assert fitted == Arrival(1.5, prompt, new)


def test_the_completion_is_cut_first_and_the_prompt_gets_the_rest() -> None:
    assert capped(Arrival(0, 5000, 300), context=4096, most_new=256) == Arrival(0, 3840, 256)
    assert capped(Arrival(0, 5000, 30), context=4096, most_new=256) == Arrival(0, 4066, 30)


def test_a_completion_may_not_take_the_whole_context() -> None:
    with pytest.raises(ValueError, match="most_new"):
        capped(Arrival(0, 5, 5), context=100, most_new=100)


@given(_ARRIVALS, st.floats(0.01, 100))
def test_arrivals_come_at_the_rate_in_their_own_pattern(arrivals, rate) -> None:
    stretched = at_rate(arrivals, rate)
    assert stretched[0].seconds == 0
    assert (len(arrivals) - 1) / stretched[-1].seconds == pytest.approx(rate)
    factor = stretched[-1].seconds / arrivals[-1].seconds
    assert [a.seconds for a in stretched] == pytest.approx([a.seconds * factor for a in arrivals])


@for_each("seconds", [[0.0], [0.0, 0.0]])
def test_no_rate_without_time(seconds) -> None:
    with pytest.raises(ValueError, match="two requests"):
        at_rate([Arrival(second, 1, 1) for second in seconds], 1.0)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50), st.integers(1, 100))
def test_percentiles_are_numpys_by_the_nearest_rank(values, percent) -> None:
    assert percentile(values, percent) == np.percentile(values, percent, method="inverted_cdf")


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="needs values"):
        percentile([], 50)


def test_gaps_lie_between_the_pieces_of_one_stream() -> None:
    stream = Stream((0.5, 0.75, 1.75), new=3)
    assert (stream.first, stream.gaps) == (0.5, [0.25, 1.0])
