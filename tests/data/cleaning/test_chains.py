"""Chains of twins: whoever went is led to the end, in any order of rows, and nobody is said to stay who went."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.cleaning.chains import Chains, Gone, twin_in_words
from lmworks.data.cleaning.ledger import Entry, write_ledger
from lmworks.data.cleaning.local import Reason


def entry(uri: str, step: str, twin: str = "", verdict: str = "") -> Entry:
    told = verdict or ("dropped" if twin else "kept")
    reasons = (Reason("near", 0.9, 0.8, twin=twin or None),) if told != "kept" else ()
    return Entry(uri, "0" * 64, "s", "web", None, step, told, 9, 0, 9, 0, reasons)  # type: ignore[arg-type]


ROWS = (
    *(entry("a", "equal", "b"), entry("a", "alike", "x", "gone")),
    *(entry("b", "equal"), entry("b", "alike", "c")),
    *(entry("c", "equal"), entry("c", "alike")),
    *(entry("d", "equal", "e"), entry("e", "equal"), entry("e", "nothing_left", verdict="dropped")),
    *(entry("f", "alike", "c"), entry("g", "alike", "h"), entry("h", "alike", verdict="dropped")),
)


def test_a_chain_is_followed_to_who_stays_or_to_another_reason(tmp_path):
    write_ledger(tmp_path / "ledger", ROWS)
    found = Chains(tmp_path / "ledger").of(["a", "b", "c", "e"])
    to_c, to_b = Gone("b", "alike", "near", 0.9, "c"), Gone("a", "equal", "near", 0.9, "b")
    assert found == {"a": (to_b, to_c), "b": (to_c,), "c": (), "e": (Gone("e", "nothing_left", "near", 0.9),)}


def test_all_that_went_for_one_are_those_of_its_chain_too(tmp_path):
    write_ledger(tmp_path / "ledger", ROWS)
    chains = Chains(tmp_path / "ledger")
    assert [gone.document for gone in chains.went_for("c")] == ["a", "b", "f"]
    assert [gone.document for gone in chains.went_for("b")] == ["a"]
    assert chains.went_for("a") == chains.went_for("x") == []


def test_who_stays_is_said_only_of_one_that_does(tmp_path):
    write_ledger(tmp_path / "ledger", ROWS)
    found = Chains(tmp_path / "ledger").of("bceh")
    assert twin_in_words("c", "alike", found["c"]) == "c, which stays"
    assert twin_in_words("b", "equal", found["b"]) == "b, which went later (alike) for the sake of c, which stays"
    assert twin_in_words("e", "equal", found["e"]) == "e, which went later (nothing_left)"
    assert twin_in_words("h", "alike", found["h"]) == "h, which went too (alike)"


@given(st.lists(st.integers(0, 9), max_size=20))
def test_whoever_is_led_to_one_is_among_those_that_went_for_it(tmp_path_factory, parents):
    """Each document's twin is one before it, or itself: then it stays."""
    rows = [entry(f"{n:02d}", "alike", f"{min(p, n):02d}" if p < n else "") for n, p in enumerate(parents)]
    path = tmp_path_factory.mktemp("chains") / "ledger"
    write_ledger(path, rows)
    chains, names = Chains(path), [row.document for row in rows]
    of = chains.of(names)
    for name in names:
        mine = {gone.document for gone in chains.went_for(name)}
        assert mine == {other for other in names if name in {gone.twin for gone in of[other]}}
