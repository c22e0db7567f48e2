"""Quotas by their definition: weights, temperature, bounds of languages, caps, and the size of a corpus without one."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.balance.config import BalanceConfig, LanguageShare, SourceShare
from lmworks.corpus.balance.quotas import quotas
from lmworks.corpus.balance.strata import Stratum, find_targets


def amounts(**of_source):
    """Of sources the amounts by language: {"de": 5}, or a number for documents whose language has no bounds."""
    return {
        Stratum(source, language): Fraction(amount)
        for source, given in of_source.items()
        for language, amount in (given if isinstance(given, dict) else {"": given}).items()
    }


def weighted(**weights):
    return {name: SourceShare(weight) for name, weight in weights.items()}


GERMAN = {"a": {"": 300, "de": 300}, "b": {"": 300, "de": 100}}  # 40 of 100 by the weights 60 and 40: 30 and 10
WEIGHTED = {"sources": weighted(a=60, b=40), "total": 100}


@for_each(
    ("settings", "of_source", "expected"),
    [
        ({}, {"a": 100, "b": 7}, {"a": 100, "b": 7}),  # all of it where nothing is asked for
        ({"sources": {"a": SourceShare(1), "b": SourceShare(1, 2)}}, {"a": 100, "b": 30}, {"a": 60, "b": 60}),
        ({"sources": weighted(a=0, b=1, gone=0)}, {"a": 100, "b": 30}, {"b": 30}),
        ({"temperature": 2}, {"a": 100, "b": 400}, {"a": 100, "b": 200}),  # at T = 2 as 1 to 2
        # What c lacks, the others get.
        ({"sources": weighted(a=1, b=1, c=2), "total": 80}, {"a": 100, "b": 100, "c": 20}, {"a": 30, "b": 30, "c": 20}),
        # At least 60 are 45 and 15, and the rest as 30 to 30; at most 20 are 15 and 5.
        ({**WEIGHTED, "languages": {"de": LanguageShare(0.6)}}, GERMAN, {"a": 20, "b": 20, "a de": 45, "b de": 15}),
        ({**WEIGHTED, "languages": {"de": LanguageShare(0, 0.2)}}, GERMAN, {"a": 40, "b": 40, "a de": 15, "b de": 5}),
        # By size fr 80, de 15, it 5. Of 100: at most 50 fr; at least 20 it; the rest is de's.
        (
            {
                "languages": {"fr": LanguageShare(0, 0.5), "it": LanguageShare(0.2), "de": LanguageShare(0.05)},
                "total": 100,
                "max_epochs": 4,
            },
            {"web": {"fr": 800, "de": 150, "it": 50}},
            {"web fr": 50, "web it": 20, "web de": 30},
        ),
    ],
)
def test_worked_by_hand(settings, of_source, expected):
    found = find_targets(BalanceConfig(**settings), amounts(**of_source)).quotas
    assert {f"{each.source} {each.language}".strip(): quota for each, quota in found.items()} == expected


STRATA = st.dictionaries(
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
    strata: dict[Stratum, Fraction] = {}
    for (source, language), amount in draw(STRATA).items():
        each = Stratum(source, language if language in languages else "")
        strata[each] = strata.get(each, Fraction(0)) + amount
    names = {each.source for each in strata}
    sources = {name: SourceShare(weight) for name, weight in draw(WEIGHTS).items() if name in names}
    total = draw(st.none() | st.integers(1, 20_000))
    epochs = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    return BalanceConfig(sources=sources, languages=languages, total=total, max_epochs=epochs), strata


@given(corpora())
def test_quotas_sum_to_the_total_within_all_caps_and_bounds(corpus):
    config, strata = corpus
    try:
        targets = find_targets(config, strata)
    except ValueError as error:
        assert any(word in str(error) for word in ("at_least", "at_most", "max_epochs"))
        return
    assert sum(targets.quotas.values()) == targets.total
    assert sum(targets.shares.values()) == 1
    for each, quota in targets.quotas.items():
        assert 0 <= quota <= targets.caps[each] <= config.max_epochs * strata[each]
    for language, share in config.languages.items():
        got = sum(quota for each, quota in targets.quotas.items() if each.language == language)
        # Bounds are rounded outward to whole numbers.
        assert share.at_least * targets.total - 1 < got < share.at_most * targets.total + 1


@given(corpora())
def test_shares_are_weights_times_one_number_for_each_language(corpus):
    """The conditions of the nearest distribution (Karush, Kuhn and Tucker's): one multiplier where no bound holds, a
    larger one where the least holds, a smaller one where the most does."""
    config, strata = corpus
    try:
        shares = find_targets(config, strata).shares
    except ValueError:
        return
    multipliers: dict[str, set[Fraction]] = {}
    for each, share in shares.items():
        of_source = sum(amount for other, amount in strata.items() if other.source == each.source)
        weight = Fraction(config.sources[each.source].weight or 0) * strata[each] / of_source
        multipliers.setdefault(each.language, set()).add(share / weight)
    assert all(len(found) == 1 for found in multipliers.values())
    one = {language: next(iter(found)) for language, found in multipliers.items()}
    for language, multiplier in one.items():
        bounds = config.languages.get(language, LanguageShare())
        got = sum(share for each, share in shares.items() if each.language == language)
        for other, its in one.items():
            if multiplier > its:  # then this one is held up, or the other one down
                its_got = sum(share for each, share in shares.items() if each.language == other)
                at_least = got == Fraction(repr(bounds.at_least))
                at_most = its_got == Fraction(repr(config.languages.get(other, LanguageShare()).at_most))
                assert at_least or at_most


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.none() | st.integers(0, 500)), min_size=1, max_size=8),
    st.integers(1, 3000),
)
def test_quotas_are_water_filling(sources, total):
    weights, caps = [weight for weight, _ in sources], [cap for _, cap in sources]
    if None not in caps and sum(caps) < total:
        with pytest.raises(ValueError, match="max_epochs"):
            quotas(weights, caps, total)
        return
    found = quotas(weights, caps, total)
    assert sum(found) == total
    assert all(cap is None or quota <= cap for quota, cap in zip(found, caps, strict=True))
    # One level fits all: who is below its cap has level·weight, who is at its cap would have more; up to rounding.
    lowest = max((q - 1) / w for q, w in zip(found, weights, strict=True))
    highest = min(
        ((q + 1) / w for q, w, cap in zip(found, weights, caps, strict=True) if q != cap), default=float("inf")
    )
    assert lowest <= highest * (1 + 1e-12)
