"""Retrievers against direct computations of their definitions; fusion, duplicates and budget against closed forms."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.evaluate.passage_selection import fitting, unlike
from lmworks.records import Document, Span
from lmworks.retrieve.bm25 import lexical, match_expression
from lmworks.retrieve.config import ChunkConfig, SearchConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.fusion import fuse, union
from lmworks.retrieve.hits import Hits
from lmworks.retrieve.index import Filters, Index
from lmworks.retrieve.named import named
from lmworks.retrieve.query_expansion import read_queries
from lmworks.retrieve.search import fused, late, ranked, rerank, search

Make = Callable[..., Document]
NUMBERS = ["one", "two", "four", "five", "six", "ten"]  # their own Porter stems, and no stop words


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, document: Make, make_encoder):
    """An index of 60 one-chunk documents over a small vocabulary, the documents, and the encoder."""
    encoder = make_encoder()
    rng = random.Random(0)
    documents = [
        document(
            " ".join(rng.choices(NUMBERS, weights=[8, 4, 2, 1, 1, 1], k=rng.randrange(3, 30))), f"{'ab'[n % 2]}/{n:02}"
        )
        for n in range(60)
    ]
    index = Index.create(tmp_path_factory.mktemp("index"), encoder, ChunkConfig())
    index.sync(documents, encoder)
    yield index, documents, encoder
    index.close()


def uris(index: Index, hits: Hits) -> list[str]:
    return [one.uri for one in index.chunks(hits.keys)]


def bm25(documents: list[Document], question: list[str]) -> dict[str, float]:
    """The formula in SQLite's documentation of FTS5 (k1 = 1.2, b = 0.75) over words and pairs; no idf below 1e-6."""
    texts = {value.uri: value.text.split() for value in documents}
    average = sum(map(len, texts.values())) / len(documents)
    scores: dict[str, float] = {}
    for term in dict.fromkeys([(word,) for word in question] + list(pairwise(question))):
        frequency = {
            uri: sum(tuple(words[at : at + len(term)]) == term for at in range(len(words)))
            for uri, words in texts.items()
        }
        holding = sum(count > 0 for count in frequency.values())
        idf = max(math.log((len(documents) - holding + 0.5) / (holding + 0.5)), 1e-6)
        for uri, count in frequency.items():
            if count:
                length = 0.25 + 0.75 * len(texts[uri]) / average
                scores[uri] = scores.get(uri, 0.0) + idf * count * 2.2 / (count + 1.2 * length)
    return scores


@for_each("question", [["ten"], ["five", "six"], ["four", "ten", "one"], ["two", "absent"]])
def test_lexical_is_bm25(built, question: list[str]) -> None:
    index, documents, _ = built
    expected = bm25(documents, question)
    hits = lexical(index, " ".join(question), 100)
    found = dict(zip(uris(index, hits), (score["bm25"] for score in hits.scores), strict=True))
    assert found == pytest.approx(expected, rel=1e-9)
    order = sorted(expected, key=lambda uri: (-expected[uri], uri))
    assert [found[uri] for uri in uris(index, hits)] == pytest.approx([expected[uri] for uri in order])
    assert [score["bm25_rank"] for score in hits.scores] == list(range(1, len(expected) + 1))
    assert uris(index, lexical(index, " ".join(question), 7)) == uris(index, hits)[:7]


def test_dense_is_the_cosine(built) -> None:
    index, documents, encoder = built
    query = encoder.encode(["two six"], "query")[0]
    vectors = encoder.encode([value.text for value in documents], "passage")
    cosine = vectors.astype(np.float64) @ query.astype(np.float64)
    order = np.argsort(-cosine, kind="stable")
    for k in (1, 5, 60, 100):
        hits = dense(index, query, k)
        # float32 sums of 32 products of size < 1: an error below 1e-6
        assert [s["dense"] for s in hits.scores] == pytest.approx(cosine[order[:k]].tolist(), abs=1e-6)
        assert uris(index, hits) == [documents[position].uri for position in order[:k]]


def test_equal_scores_are_ordered_by_uri(tmp_path: Path, encoder, document: Make) -> None:
    with Index.create(tmp_path, encoder, ChunkConfig()) as index:
        documents = [document("same text", uri) for uri in ("d", "b", "e", "a", "c")]
        index.sync(documents, encoder)
        query = encoder.encode(["same"], "query")[0]
        assert uris(index, dense(index, query, 3)) == ["a", "b", "c"]
        assert uris(index, lexical(index, "same", 3)) == ["a", "b", "c"]


@for_each("k", [1, 5, 40])
def test_filters_apply_before_the_choice(built, k: int) -> None:
    index, documents, encoder = built
    query = encoder.encode(["one"], "query")[0]
    some = frozenset(value.hash for value in documents[:20])
    cases = {
        Filters(include=some): {value.uri for value in documents if value.hash in some},
        Filters(exclude=some): {value.uri for value in documents if value.hash not in some},
        Filters(uri_prefix="a/"): {value.uri for value in documents if value.uri.startswith("a/")},
        Filters(include=some, exclude=frozenset([documents[0].hash]), uri_prefix="a/0"): {
            v.uri for v in documents[1:20] if v.uri.startswith("a/0") and v.hash != documents[0].hash
        },
        Filters(include=frozenset()): set(),
    }
    for filters, allowed in cases.items():
        everything = [uri for uri in uris(index, dense(index, query, 100)) if uri in allowed]
        assert uris(index, dense(index, query, k, filters)) == everything[:k]
        everything = [uri for uri in uris(index, lexical(index, "one two", 100)) if uri in allowed]
        assert uris(index, lexical(index, "one two", k, filters)) == everything[:k]


_URIS = ["a", "a/1", "a/10", "a/1é", "a/2", "b", "b/", "b/\U0001f600", "b/\uffff"]


@pytest.fixture(scope="module")
def sectioned(tmp_path_factory: pytest.TempPathFactory, document: Make, make_encoder):
    """An index of documents of several chunks, some of equal text, one of none."""
    encoder, rng = make_encoder(), random.Random(1)
    texts = [
        "\n\n".join(f"# {word}\n\n{' '.join(rng.choices(NUMBERS, k=12))}" for word in NUMBERS[:n]) for n in range(5)
    ]
    index = Index.create(tmp_path_factory.mktemp("index"), encoder, ChunkConfig(target_tokens=8, max_tokens=16))
    documents = [document(texts[n % 5], uri) for n, uri in enumerate(_URIS)]
    index.sync([document("gone now", "gone"), *documents], encoder)
    index.sync(documents, encoder)
    assert len(index) > 2 * len(documents)
    yield index, documents, encoder
    index.close()


@given(st.data())
def test_what_filters_let_through_is_what_they_say(sectioned, data: st.DataObject) -> None:
    index, documents, encoder = sectioned
    hashes = st.frozensets(st.sampled_from(sorted({value.hash for value in documents} | {"0" * 64})))
    places = st.tuples(st.sampled_from(documents), st.integers(0, 300), st.integers(1, 80))
    spans = [Span(value.hash, at, at + length) for value, at, length in data.draw(st.lists(places, max_size=3))]
    prefixes = st.sampled_from(["", "a", "a/1", "b/", "b/\U0001f600", "c", "\U0010ffff", *_URIS])
    filters = Filters(data.draw(st.none() | hashes), data.draw(hashes), data.draw(prefixes), tuple(spans))

    def passes(key: int) -> bool:
        [one] = index.chunks([key])
        hidden = any(
            one.span.document == span.document and one.span.start < span.end and span.start < one.span.end
            for span in filters.hidden
        )
        included = filters.include is None or one.span.document in filters.include
        excluded = one.span.document in filters.exclude
        return included and not excluded and one.uri.startswith(filters.uri_prefix) and not hidden

    question = "one `two` five"
    query = encoder.encode([question], "query")[0]
    for retriever in (
        lambda *given: dense(index, query, 1000, *given),
        lambda *given: lexical(index, question, 1000, *given),
        lambda *given: named(index, question, *given),
    ):
        assert retriever(filters).keys == tuple(key for key in retriever().keys if passes(key))


def test_a_filtered_search_asks_the_catalogue_as_often_for_many_chunks_as_for_few(built) -> None:
    index, documents, encoder = built
    asked: list[str] = []
    counts = []
    for k in (2, 2, 20):  # at first the layout is read
        index._passing = None
        index._connection.set_trace_callback(asked.append)
        search(
            index, "one two", encoder, SearchConfig(k=k, candidates=k), Filters(exclude=frozenset([documents[0].hash]))
        )
        index._connection.set_trace_callback(None)
        ours = [query for query in asked if not query.startswith("--")]  # and not those of FTS5 itself
        assert not [query for query in ours if "FROM documents" in query and "WHERE" not in query]
        counts.append(len(ours))
        asked.clear()
    assert counts[1] == counts[2]


@given(st.text(max_size=40) | st.lists(st.sampled_from(
    ['"', "'", "one", "AND", "OR", "NOT", "NEAR(", ")", "*", "^", ":", "text:", "{", "-", "+", "__", "\x00", "é", "١"]
)).map(" ".join))  # fmt: skip
def test_no_question_is_syntax(built, question: str) -> None:
    index, _, _ = built
    hits = lexical(index, question, 5)
    if "one" in question.lower().split():
        assert len(hits) == 5


def test_words_and_pairs_of_a_question(built) -> None:
    assert match_expression("What does max_tokens do?") == '"max_tokens" OR "does max_tokens" OR "max_tokens do"'
    assert match_expression("The with statement") == '"statement" OR "with statement"'
    assert match_expression('what is "this"') == '"what" OR "is" OR "this"'  # nothing but stop words
    assert match_expression("Twice") == '"twice"'
    assert match_expression("?! __ ") == ""
    assert len(lexical(built[0], "?!", 5)) == 0


def test_names_are_phrases_and_words_are_stemmed(tmp_path: Path, encoder, document: Make) -> None:
    texts = ["set max_tokens here", "tokens at the max", "It serialises objects", "naïve café"]
    with Index.create(tmp_path, encoder, ChunkConfig()) as index:
        index.sync([document(t, str(n)) for n, t in enumerate(texts)], encoder)
        assert uris(index, lexical(index, "max_tokens", 5)) == ["0"]
        assert uris(index, lexical(index, "serialising an object", 5)) == ["2"]
        assert uris(index, lexical(index, "NAIVE", 5)) == ["3"]


def test_fusion_is_a_weighted_sum() -> None:
    rankings = [
        Hits((1, 2, 3), ({"dense": 0.9}, {"dense": 0.7}, {"dense": 0.5})),
        Hits((3, 4), ({"bm25": 5.0}, {"bm25": 4.0})),
        Hits((4,), ({"dense": 0.6},)),
    ]
    fused = fuse(union(rankings), {"dense": 1.0, "bm25": 3.0})
    expected = {3: 0.5 + 3 * 5 / 5, 4: 0.6 + 3 * 4 / 5, 1: 0.9, 2: 0.7}  # BM25 over the highest
    assert dict(zip(fused.keys, (s["fused"] for s in fused.scores), strict=True)) == pytest.approx(expected)
    assert fused.keys == (3, 4, 1, 2)
    assert fused.scores[0] == {"dense": 0.5, "bm25": 5.0, "fused": pytest.approx(3.5)}
    assert fuse(Hits()) == Hits()


def test_near_duplicates_keep_the_better_ranked() -> None:
    texts = ["a b c d e f", "x y z", "A, b c d e f!", "a b c d e g", "x", ""]
    assert unlike(texts, 0.99) == [0, 1, 3, 4, 5]
    # {abc bcd cde def} and {abc bcd cde deg} share 3 of 5 shingles
    assert unlike(texts, 0.6) == [0, 1, 4, 5]
    assert unlike(texts, 0.61) == [0, 1, 3, 4, 5]


def test_the_budget_is_kept_and_filled() -> None:
    assert fitting([5, 9, 4, 1], 10) == [0, 2, 3]
    assert fitting([11, 12, 13, 14], 10) == []


def test_search_gives_spans_and_the_scores_of_each_retriever(built) -> None:
    index, documents, encoder = built
    found = search(index, "five ten", encoder, SearchConfig(k=4, candidates=10))
    assert len(found) == 4
    by_hash = {value.hash: value for value in documents}
    for one in found:
        assert by_hash[one.span.document].quote(one.span) == one.text
        assert by_hash[one.span.document].uri == one.uri
        assert {"fused", "dense", "late_interaction"} <= set(one.scores)
    assert [one.scores["fused"] for one in found] == sorted((one.scores["fused"] for one in found), reverse=True)


def test_duplicates_do_not_take_the_place_of_others(tmp_path: Path, encoder, document: Make) -> None:
    twins = [document("alpha beta gamma delta", f"twin/{n:03}") for n in range(200)]
    others = [document(f"alpha something else {n} {n * 7} {n * 13}", f"other/{n}") for n in range(3)]
    with Index.create(tmp_path, encoder, ChunkConfig()) as index:
        index.sync([*twins, *others], encoder)
        found = search(index, "alpha beta gamma delta", encoder, SearchConfig(k=4, candidates=4))
        assert sorted(one.uri for one in found) == ["other/0", "other/1", "other/2", "twin/000"]


def test_a_search_keeps_its_budget(built) -> None:
    index, _, encoder = built
    found = search(index, "one two", encoder, SearchConfig(k=8, budget_tokens=40))
    assert 0 < sum(encoder.count_tokens([one.text])[0] for one in found) <= 40


def test_an_empty_index_finds_nothing(tmp_path: Path, encoder) -> None:
    with Index.create(tmp_path, encoder, ChunkConfig()) as index:
        assert search(index, "anything", encoder) == []


def test_late_interaction_is_one_more_retriever(built) -> None:
    index, _, encoder = built
    question = "five ten two"
    (query,) = read_queries(index, [question], encoder)
    rankings = [dense(index, query.vector, 50), lexical(index, question, 50)]
    first = union(rankings).take(range(5))
    ((tokens, *texts)) = encoder.encode_both([question, *(one.text for one in index.chunks(first.keys))], "query")[1]
    expected = [float((tokens @ passage.T).max(axis=1).mean()) for passage in texts]
    hits = late(index, query, first)
    scores = dict(zip(hits.keys, (own["late_interaction"] for own in hits.scores), strict=True))
    # int8 rounds a component of at most 1 by 1/254, and a cosine of 32 such products by less than 0.02
    assert [scores[key] for key in first.keys] == pytest.approx(expected, abs=0.02)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    found = ranked(index, [query], SearchConfig(k=8, candidates=50, near_duplicate=1))
    everything = union(rankings)
    assert found.keys == fuse(union([everything, late(index, query, everything)])).keys[:8]


def test_a_name_that_is_asked_for_is_found_first(tmp_path: Path, encoder, document: Make) -> None:
    text = "# module functools\n\nTools.\n\n## lru_cache(maxsize=128)\n\nLeast recently used.\n"
    offsets = " ".join(str(text.index(heading)) for heading in ("# module", "## lru"))
    functools = document(text, "functools", "python-docstrings", metadata={"headings": offsets})
    others = [document(f"What does functools.lru_cache do? {n} lru_cache", f"other/{n}") for n in range(9)]
    options = document("# Options\n\nSome.\n\n## `--no-cache`\n\nLeave the cache alone.\n", "options", "markdown")
    with Index.create(tmp_path, encoder, ChunkConfig()) as index:
        index.sync([functools, options, *others], encoder)
        for question, start in (("What does functools.lru_cache do?", 1), ("lru_cache()", 1), ("--no-cache?", 1)):
            found = search(index, question, encoder)
            assert found[0].uri == ("options" if "--" in question else "functools"), question
            assert len(found) > start and "named" in found[0].scores
        hidden = Filters(hidden=(search(index, "lru_cache()", encoder)[0].span,))
        assert search(index, "lru_cache()", encoder, filters=hidden)[0].uri != "functools"


def test_the_reranker_orders_the_first_hits_and_no_others(built):
    index, _, encoder = built
    query = read_queries(index, ["six ten"], encoder)
    hits = fused(index, query)

    class Longest:
        def relevance(self, question, passages):
            return np.array([float(len(passage)) for passage in passages])

    found = rerank(index, "six ten", hits, 5, Longest())
    lengths = [len(chunk.text) for chunk in index.chunks(found.keys[:5])]
    assert lengths == sorted(lengths, reverse=True) and set(found.keys[:5]) == set(hits.keys[:5])
    assert [scores["relevance"] for scores in found.scores[:5]] == lengths
    assert found.keys[5:] == hits.keys[5:] and not any("relevance" in scores for scores in found.scores[5:])
    config = SearchConfig(k=3, rerank=5)
    assert ranked(index, query, config, reranker=Longest()).keys == found.keys[:3]
    returned = search(index, "six ten", encoder, config, reranker=Longest())
    assert [one.scores["relevance"] for one in returned] == lengths[:3]
    assert ranked(index, query, SearchConfig(k=3, rerank=0), reranker=Longest()).keys == hits.keys[:3]
