"""Quotas by their definition: weights, temperature, bounds of languages, caps, and the size of a corpus without one."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmworks.data.balance.config import BalanceConfig, LanguageShare, SourceShare
from lmworks.data.balance.targets import Cell, find_targets


def amounts(**of_source):
    """Of sources the amounts by language: {"de": 5}, or a number for documents whose language has no bounds."""
    return {
        Cell(source, language): Fraction(amount)
        for source, given in of_source.items()
        for language, amount in (given if isinstance(given, dict) else {"": given}).items()
    }


def quotas(config, **of_source):
    found = find_targets(config, amounts(**of_source)).quotas
    return {(cell.source, cell.language) if cell.language else cell.source: quota for cell, quota in found.items()}


def weighted(**weights):
    return {name: SourceShare(weight) for name, weight in weights.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Worked by hand


def test_all_goes_where_nothing_is_asked_for():
    assert quotas(BalanceConfig(), a=100, b=7) == {"a": 100, "b": 7}
    assert quotas(BalanceConfig(max_epochs=3), a=100, b=7) == {"a": 300, "b": 21}
    assert quotas(BalanceConfig(max_epochs=0.5), a=100, b=50) == {"a": 50, "b": 25}


def test_the_scarcest_source_sets_the_size():
    config = BalanceConfig(sources=weighted(a=1, b=1))
    targets = find_targets(config, amounts(a=100, b=30))
    assert targets.total == 60 and targets.scarcest == Cell("b", "")
    assert quotas(config, a=100, b=30) == {"a": 30, "b": 30}
    often = BalanceConfig(sources={"a": SourceShare(1), "b": SourceShare(1, max_epochs=2)})
    assert quotas(often, a=100, b=30) == {"a": 60, "b": 60}


def test_temperature():
    """n = 100 and 400 at T = 2 are as 1 to 2, so the larger gives 200 to the 100 of the smaller."""
    assert quotas(BalanceConfig(temperature=2), a=100, b=400) == {"a": 100, "b": 200}
    assert quotas(BalanceConfig(temperature=1e9), a=100, b=400) == {"a": 100, "b": 100}


def test_what_a_capped_source_lacks_the_others_get():
    config = BalanceConfig(sources=weighted(a=1, b=1, c=2), total=80)
    assert quotas(config, a=100, b=100, c=20) == {"a": 30, "b": 30, "c": 20}
    assert find_targets(config, amounts(a=100, b=100, c=20)).capped == [Cell("c", "")]


def test_a_weight_of_nothing_takes_nothing():
    assert quotas(BalanceConfig(sources=weighted(a=0, b=1)), a=100, b=30) == {"b": 30}


def test_a_bound_that_holds_already_changes_nothing():
    of_source = {"a": {"": 60, "de": 40}, "b": {"": 10, "de": 90}}
    free = find_targets(BalanceConfig(sources=weighted(a=3, b=1), total=100), amounts(**of_source))
    bounded = BalanceConfig(sources=weighted(a=3, b=1), total=100, languages={"de": LanguageShare(0.5, 0.6)})
    assert find_targets(bounded, amounts(**of_source)).quotas == free.quotas
    assert free.quotas == {Cell("a", ""): 45, Cell("a", "de"): 30, Cell("b", ""): 3, Cell("b", "de"): 22}  # 2.5, 22.5


def test_a_bound_moves_all_sources_of_its_language_alike():
    """German has 40 of 100 by the weights, 30 of a and 10 of b; with at least 60 these are 45 and 15."""
    of_source = {"a": {"": 300, "de": 300}, "b": {"": 300, "de": 100}}
    config = BalanceConfig(sources=weighted(a=60, b=40), total=100, languages={"de": LanguageShare(at_least=0.6)})
    found = quotas(config, **of_source)
    assert (found["a", "de"], found["b", "de"]) == (45, 15)
    assert (found["a"], found["b"]) == (20, 20)  # as 30 to 30
    most = BalanceConfig(sources=weighted(a=60, b=40), total=100, languages={"de": LanguageShare(at_most=0.2)})
    assert quotas(most, **of_source) == {"a": 40, "b": 40, ("a", "de"): 15, ("b", "de"): 5}


def test_bounds_below_and_above_at_once():
    """By size fr 80, de 15, it 5. Of 100: at most 50 fr; at least 20 it; the rest is de's."""
    languages = {"fr": LanguageShare(at_most=0.5), "it": LanguageShare(0.2), "de": LanguageShare(0.05)}
    config = BalanceConfig(languages=languages, total=100, max_epochs=4)
    found = quotas(config, web={"fr": 800, "de": 150, "it": 50})
    assert found == {("web", "fr"): 50, ("web", "it"): 20, ("web", "de"): 30}


# ---------------------------------------------------------------------------------------------------------------------
# Properties


CELLS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "de", "fr", "it"])), st.integers(1, 5000), min_size=1
)
BOUNDS = st.dictionaries(
    st.sampled_from(["de", "fr", "it"]),
    st.tuples(st.integers(0, 10), st.integers(0, 10)).map(lambda pair: LanguageShare(min(pair) / 10, max(pair) / 10)),
)
WEIGHTS = st.fixed_dictionaries({name: st.integers(1, 9) for name in "abcd"})


@st.composite
def corpora(draw):
    languages = draw(BOUNDS)
    assume(sum(share.at_least for share in languages.values()) <= 1)
    cells: dict[Cell, Fraction] = {}
    for (source, language), amount in draw(CELLS).items():
        cell = Cell(source, language if language in languages else "")
        cells[cell] = cells.get(cell, Fraction(0)) + amount
    names = {cell.source for cell in cells}
    sources = {name: SourceShare(weight) for name, weight in draw(WEIGHTS).items() if name in names}
    total = draw(st.none() | st.integers(1, 20_000))
    epochs = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    return BalanceConfig(sources=sources, languages=languages, total=total, max_epochs=epochs), cells


@given(corpora())
def test_quotas_sum_to_the_total_within_all_caps_and_bounds(corpus):
    config, cells = corpus
    try:
        targets = find_targets(config, cells)
    except ValueError as error:
        assert any(word in str(error) for word in ("at_least", "most shares", "max_epochs"))
        return
    assert sum(targets.quotas.values()) == targets.total
    assert sum(targets.shares.values()) == 1
    for cell, quota in targets.quotas.items():
        assert 0 <= quota <= targets.caps[cell] <= config.max_epochs * cells[cell]
    for language, share in config.languages.items():
        got = sum(quota for cell, quota in targets.quotas.items() if cell.language == language)
        # Bounds are rounded outward to whole numbers.
        assert share.at_least * targets.total - 1 < got < share.at_most * targets.total + 1


@given(corpora())
def test_shares_are_weights_times_one_number_for_each_language(corpus):
    """The conditions of the nearest distribution (Karush, Kuhn and Tucker's): one multiplier where no bound holds, a
    larger one where the least holds, a smaller one where the most does."""
    config, cells = corpus
    try:
        shares = find_targets(config, cells).shares
    except ValueError:
        return
    multipliers: dict[str, set[Fraction]] = {}
    for cell, share in shares.items():
        of_source = sum(amount for other, amount in cells.items() if other.source == cell.source)
        weight = Fraction(config.sources[cell.source].weight or 0) * cells[cell] / of_source
        multipliers.setdefault(cell.language, set()).add(share / weight)
    assert all(len(found) == 1 for found in multipliers.values())
    one = {language: next(iter(found)) for language, found in multipliers.items()}
    for language, multiplier in one.items():
        bounds = config.languages.get(language, LanguageShare())
        got = sum(share for cell, share in shares.items() if cell.language == language)
        for other, its in one.items():
            if multiplier > its:  # then this one is held up, or the other one down
                its_got = sum(share for cell, share in shares.items() if cell.language == other)
                at_least = got == Fraction(repr(bounds.at_least))
                at_most = its_got == Fraction(repr(config.languages.get(other, LanguageShare()).at_most))
                assert at_least or at_most


@given(corpora())
def test_without_a_total_nothing_is_short_and_one_cell_gives_all(corpus):
    config, cells = corpus
    assume(config.total is None)
    try:
        targets = find_targets(config, cells)
    except ValueError:
        return
    assert targets.scarcest is not None
    for cell, quota in targets.quotas.items():
        # Rounding: of the total, of each bound, and of the quotas.
        assert abs(quota - targets.total * targets.shares[cell]) <= 2 + len(config.languages)
    more = (targets.total + 1) * targets.shares[targets.scarcest]
    assert more > targets.caps[targets.scarcest] or targets.total == sum(targets.caps.values())


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be done


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (BalanceConfig(sources=weighted(wikki=1)), 'unknown source "wikki"; did you mean "wiki"'),
        (BalanceConfig(sources=weighted(web=1)), "without one: wiki"),
        (BalanceConfig(total=10_000), r"asks for 10,000 bytes, the sources give 110 .*\(web 100, wiki 10\)"),
        (BalanceConfig(languages={"fr": LanguageShare(0.1)}), "no document is in fr"),
    ],
)
def test_what_is_refused(config, told):
    with pytest.raises(ValueError, match=told):
        find_targets(config, amounts(web=100, wiki=10))


def test_bounds_that_cannot_be_met_say_how_far_they_are():
    german = {"web": {"": 1000, "de": 50}}
    config = BalanceConfig(languages={"de": LanguageShare(0.2)}, total=500)
    with pytest.raises(ValueError, match=r"at_least=0\.2 asks for 100 of 500 bytes, there are 50 within max_epochs"):
        find_targets(config, amounts(**german))
    assert quotas(BalanceConfig(languages={"de": LanguageShare(0.2)}), **german) == {"web": 200, ("web", "de"): 50}
    config = BalanceConfig(languages={"de": LanguageShare(at_most=0.5)}, total=500)
    with pytest.raises(ValueError, match=r"the most shares .* sum to 0.5, less than 1 \(de 0.5\)"):
        find_targets(config, amounts(web={"de": 1000}))
    config = BalanceConfig(languages={"de": LanguageShare(at_most=0.5)}, total=500)
    with pytest.raises(ValueError, match="the most shares of the languages leave 270"):
        find_targets(config, amounts(web={"de": 1000, "": 20}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": 2.0, "sources": {"a": SourceShare(1)}}, "leave out one of the two"),
        ({"sources": {"a": SourceShare(0)}}, "all weights are 0"),
        ({"max_epochs": 0}, "max_epochs must be above 0"),
        ({"total": 0}, "total must be a positive number of bytes"),
        ({"languages": {"de": LanguageShare(0.6), "fr": LanguageShare(0.6)}}, "sum to 1.2, more than 1"),
        ({"augment": {"rewrapp": 0.1}}, 'did you mean "rewrap"'),
        ({"augment": {"rewrap": 0.6, "lowercase": 0.6}}, "sum to more than 1, for texts of the kind book"),
    ],
)
def test_settings_that_make_no_sense(settings, told):
    with pytest.raises(ValueError, match=told):
        BalanceConfig(**settings)
