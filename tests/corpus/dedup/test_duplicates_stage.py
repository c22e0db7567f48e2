"""The stage and the decisions on it: the same whatever the order, the shards and the workers; nothing that grows by a
square."""

import random
from pathlib import Path

import pytest
from duplicate_cases import edited, random_text
from duplicate_corpora import Corpus, Given, cut_out, cuts, decide, gone, run_duplicates, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.corpus.dedup import near_duplicates
from lmworks.corpus.dedup.match_tables import Pairs, Places, read_matches
from lmworks.records import Edit

EQUAL = {"name": "equal", "duplicates": "exact"}
NEAR = {"name": "alike", "duplicates": "near", "similarity": 0.7}
PARAGRAPHS = {"name": "paragraphs", "duplicates": "paragraphs"}
PASSAGES = {"name": "passages", "duplicates": "passages"}
CONFIG = {"near": {"threshold": 0.7}, "passages": 60, "paragraph": 30}


def families(generator: random.Random) -> list[Given]:
    """Texts, edits of them, the same with other punctuation, and some that share a paragraph."""
    texts = [random_text(generator, 60) for _ in range(4)]
    for _ in range(20):
        texts.append(edited(generator, generator.choice(texts), generator.randrange(4)))
    texts += [text.upper() + "!" for text in texts[:6]] + texts[3:7]
    shared = random_text(generator, 12)
    texts += [f"{random_text(generator, 30)}\n\n{shared}\n\n{random_text(generator, 9)}" for _ in range(3)]
    return [
        Given(
            text, measures={"quality": number % 5 / 4} if number % 2 else {}, licence="MIT" if number % 3 == 0 else ""
        )
        for number, text in enumerate(texts)
    ]


def told(folder: Path, corpus: Corpus) -> object:
    """All that was found and decided, by uris."""
    uris = [uri for uri, _ in corpus]
    pairs = read_matches(Pairs, folder / "duplicates", "near")
    rows = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), strict=True)
    found = {(frozenset((uris[first], uris[second])), value) for first, second, value in rows}
    groups: dict[tuple[str, int], set[tuple[str, int, int]]] = {}
    for method in ("paragraphs", "passages"):
        places = read_matches(Places, folder / "duplicates", method)
        for group, document, start, end in zip(places.group, places.document, places.start, places.end, strict=True):
            groups.setdefault((method, int(group)), set()).add((uris[document], int(start), int(end)))
    judged = decide(folder, EQUAL, NEAR, PARAGRAPHS, PASSAGES)
    dropped = {step: gone(folder, each) for step, each in judged.items()}
    taken = {step: cuts(folder, each) for step, each in judged.items()}
    return found, {frozenset(each) for each in groups.values()}, dropped, taken


@settings(max_examples=2)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 2000, 1 << 26]))
def test_order_and_shards_change_nothing(tmp_path_factory, generator, shard_bytes):
    corpus = [(f"s/{number:02d}", each) for number, each in enumerate(families(random.Random(4)))]
    shuffled = corpus.copy()
    generator.shuffle(shuffled)
    results = []
    for name, each, size in (("a", corpus, 1 << 26), ("b", shuffled, shard_bytes)):
        folder = tmp_path_factory.mktemp("corpus") / name
        write_corpus(folder, each, size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near_duplicates, "BUCKET_LIMIT", 4)
            run_duplicates(folder, **CONFIG)
        results.append(told(folder, each))
    assert results[0] == results[1]
    found, groups, dropped, taken = results[0]
    assert found and groups and all(dropped[step] for step in ("equal", "alike"))
    assert taken["paragraphs"] and taken["passages"]


def hot(number: int) -> list[tuple[str, Given]]:
    """Short texts of their own, as many with the same words, and as many that differ in one word."""
    generator = random.Random(7)
    page = random_text(generator, 60)
    texts = [random_text(generator, 30) for _ in range(number)]
    texts += [f"{page}{'!' * (place % 50)}" for place in range(number)]
    texts += [f"{page} number {place}" for place in range(number)]
    return [(f"s/{place:06d}", Given(text)) for place, text in enumerate(texts)]


def test_many_equal_and_alike_documents_make_no_square(tmp_path):
    """All pairs of 2 x 500 would be half a million."""
    number = 500
    write_corpus(tmp_path, hot(number))
    counts = run_duplicates(tmp_path).metrics
    assert counts["pairs"] < 4 * number and counts["candidates"] < number and not counts["uncompared"]
    judged = decide(tmp_path, NEAR | {"similarity": 0.8})
    assert len(gone(tmp_path, judged["alike"])) == 2 * number - 1


def test_places_are_those_of_the_repaired_text(tmp_path):
    shared = random_text(random.Random(3), 40)
    noise = Edit(0, 4, "", "noise")
    texts = {
        "s/a": Given(f"XXXXBefore it. {shared} Behind it.", edits=(noise,), measures={"quality": 1.0}),
        "s/b": Given(
            f"XXXX{shared} It ends here.", edits=(noise, Edit(4, 4, "Ünter ", "said")), measures={"quality": 0.5}
        ),
    }
    write_corpus(tmp_path, list(texts.items()))
    run_duplicates(tmp_path, passages=100)
    [judged] = decide(tmp_path, PASSAGES).values()
    assert cuts(tmp_path, judged).keys() == {"s/b"}
    ranges = cuts(tmp_path, judged)["s/b"]
    assert cut_out(texts["s/b"].repaired, ranges).split() == ["Ünter", "It", "ends", "here."]


def test_of_texts_with_the_same_words_each_has_its_similarity_to_the_one_that_stays(tmp_path):
    words = random_text(random.Random(5), 60).split()
    other = [*words[:-1], "otherwise"]
    first, second = ({tuple(text[at : at + 5]) for at in range(56)} for text in (words, other))
    texts = {"s/a": " ".join(words), "s/b": " ".join(other), "s/c": " ".join(other).upper()}
    write_corpus(
        tmp_path, [(uri, Given(text, measures={"quality": float(uri == "s/a")})) for uri, text in texts.items()]
    )
    run_duplicates(tmp_path, **CONFIG)
    dropped = gone(tmp_path, decide(tmp_path, NEAR)["alike"])
    similarity = pytest.approx(len(first & second) / len(first | second))
    assert dropped == {"s/b": ("s/a", similarity), "s/c": ("s/a", similarity)} and 0.9 < similarity.expected < 1
