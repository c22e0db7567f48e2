"""Clusters of a ledger: chains lead to who stays, in any order of entries, and what is shown does not depend on it."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.cleaning.cluster_view import Cluster, Difference, clusters_of, difference, shown_clusters
from lmworks.data.cleaning.ledger import Entry
from lmworks.data.cleaning.local import Reason


def entry(uri: str, step: str, twin: str = "", value: float = 0.9, characters: int = 10, verdict: str = "") -> Entry:
    told = verdict or ("dropped" if twin else "kept")
    reasons = (Reason(step, value, 0.8, twin=twin or None),) if told == "dropped" else ()
    after = 0 if told == "dropped" else characters
    return Entry(uri, "h", "s", "web", None, step, told, characters, after, characters, after, reasons)  # type: ignore[arg-type]


def test_a_chain_of_steps_is_one_cluster():
    """b went for a in the first step; a and c for d in the second; f for e, which went later for its own sake."""
    entries = [
        *(entry("a", "equal"), entry("a", "alike", "d", 0.85, 12)),
        *(entry("b", "equal", "a", 1.0, 11), entry("b", "alike", "d", 0.8, verdict="gone")),
        *(entry("c", "equal"), entry("c", "alike", "d", 0.8, 13)),
        *(entry("d", "equal", characters=20), entry("d", "alike", characters=20)),
        *(entry("e", "equal"), entry("e", "alike"), entry("e", "short", verdict="dropped", characters=3)),
        *(entry("f", "equal"), entry("f", "alike", "e")),
    ]
    first, second = clusters_of(entries)
    assert (first.survivor, first.size, first.characters, first.stays) == ("d", 4, 20, True)
    assert [(each.uri, each.twin, each.step, each.similarity, each.characters) for each in first.members] == [
        ("c", "d", "alike", 0.8, 13),
        ("a", "d", "alike", 0.85, 12),
        ("b", "a", "equal", 1.0, 11),
    ]
    assert (second.survivor, second.size, second.stays) == ("e", 2, False)


@given(st.lists(st.integers(0, 30), max_size=30), st.randoms(use_true_random=False))
def test_every_document_that_went_is_in_the_cluster_of_its_root(parents, generator):
    """`parents[n]` of document n + 1, a document before it or, made so, 0: a forest."""
    twin = {number + 1: parent % (number + 1) for number, parent in enumerate(parents)}
    twin = {number: parent for number, parent in twin.items() if number % 4}  # the others are roots
    entries = [
        entry(f"{number:02d}", "alike", f"{twin[number]:02d}" if number in twin else "")
        for number in range(len(parents) + 1)
    ]
    roots: dict[str, set[str]] = {}
    for number in twin:
        root = number
        while root in twin:
            root = twin[root]
        roots.setdefault(f"{root:02d}", set()).add(f"{number:02d}")
    found = clusters_of(entries)
    assert {cluster.survivor: {member.uri for member in cluster.members} for cluster in found} == roots
    assert [cluster.size for cluster in found] == sorted((cluster.size for cluster in found), reverse=True)
    generator.shuffle(entries)
    assert clusters_of(entries) == found


def stars(sizes: list[int]) -> list[Cluster]:
    return clusters_of(
        entry(f"{star:03d}/{member}", "alike", f"{star:03d}" if member else "")
        if member
        else entry(f"{star:03d}", "alike")
        for star, size in enumerate(sizes)
        for member in range(size)
    )


def test_the_largest_and_some_that_are_drawn():
    clusters = stars([*range(2, 42)])
    shown = shown_clusters(clusters, largest=4, drawn=6)
    assert [cluster.size for cluster in shown[:4]] == [41, 40, 39, 38]
    drawn = {cluster.survivor for cluster in shown[4:]}
    assert len(drawn) == 6 and not drawn & {cluster.survivor for cluster in shown[:4]}
    again = shown_clusters(clusters[::-1], largest=4, drawn=6)
    assert again == shown
    others = [
        {cluster.survivor for cluster in shown_clusters(clusters, largest=4, drawn=6, seed=seed)[4:]}
        for seed in range(1, 6)
    ]
    assert any(other != drawn for other in others)
    assert len(shown_clusters(clusters, largest=99)) == 40 and shown_clusters([]) == []


def test_only_the_texts_that_are_shown_are_asked_for():
    asked = []

    def texts(uris):
        asked.extend(uris)
        return {uri: f"{'the same for all of them ' * 9}and {uri}" for uri in uris}

    [cluster] = shown_clusters(stars([9]), texts, members=2)
    assert asked == ["000", "000/1", "000/2"]
    first, second, *others = cluster.members
    assert len(others) == 6 and all(member.difference is None for member in others)
    assert first.difference is not None and second.difference is not None
    assert first.difference.first.endswith("and 000") and first.difference.second.endswith("and 000/1")
    assert len(first.difference.first) < 100


@given(st.text("ab \n", max_size=40), st.text("ab \n", max_size=40), st.text("ab ", max_size=20))
def test_a_difference_shows_what_differs(first, second, before):
    found = difference(before + first, before + second, context=10, most=200)
    if first == second:
        assert found == Difference((before + first)[:200], (before + second)[:200])
    else:
        assert found.first != found.second
        assert found.first in before + first and found.second in before + second
