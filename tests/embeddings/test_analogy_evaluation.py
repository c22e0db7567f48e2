"""Analogies and similarity, against gensim on the same vectors and the field's own question sets."""

import gzip

import numpy as np
import pytest
from gensim.models import KeyedVectors

from kit.tables import for_each
from lmworks.embeddings.analogy_evaluation import read_analogies, read_pairs, score_analogies, score_similarity
from lmworks.embeddings.word_vectors import WordVectors
from lmworks.records import Scored, Unscored
from published_data import DATA, needs_data

QUESTIONS = DATA / "word-analogies" / "questions-words.txt.gz"
PAIRS = DATA / "word-similarity" / "EN-WS-353-ALL.txt.gz"


def noisy(words: list[str], pairs: list[tuple[str, str]], seed: int) -> WordVectors:
    """Random vectors in which the second word of each pair is the first one moved one way, and a little beside it."""
    generator = np.random.default_rng(seed)
    index = {word: row for row, word in enumerate(words)}
    vectors = generator.normal(size=(len(words), 20)).astype(np.float32)
    moved = generator.normal(size=20)
    for first, second in pairs:
        vectors[index[second]] = vectors[index[first]] + moved + generator.normal(0, 0.55, 20)
    return WordVectors(tuple(words), vectors)


def in_gensim(vectors: WordVectors) -> KeyedVectors:
    made = KeyedVectors(vectors.dimensions)
    made.add_vectors(list(vectors.words), vectors.vectors)
    return made


@pytest.fixture(scope="module")
def real() -> WordVectors:
    """The words of the real questions in some spellings, some of them twice, one in seven left out."""
    sections = read_analogies(QUESTIONS)
    pairs = dict.fromkeys(
        pair for name in list(sections)[4:8] for a, b, c, d in sections[name] for pair in ((a, b), (c, d))
    )
    words = list(dict.fromkeys(word for pair in pairs for word in pair))
    words = [word for place, word in enumerate(words) if place % 7]
    spelled = [word.upper() if place % 3 == 0 else word for place, word in enumerate(words)]
    known = {word.lower(): spelling for word, spelling in zip(words, spelled, strict=True)}
    kept = [(known[a.lower()], known[b.lower()]) for a, b in pairs if a.lower() in known and b.lower() in known]
    twins = [word.lower() for word in spelled[::6] if word.lower() not in spelled]
    return noisy([*spelled, *twins], kept, seed=4)


@needs_data
@for_each("restrict", [300_000, 150])
def test_analogies_are_scored_as_gensim_scores_them(real, restrict):
    sections = read_analogies(QUESTIONS)
    assert len(sections) == 14 and sum(map(len, sections.values())) == 19_544
    found = score_analogies(real, sections, restrict=restrict)
    total, theirs = in_gensim(real).evaluate_word_analogies(str(QUESTIONS), restrict_vocab=restrict)
    for section in theirs:
        right, wrong = len(section["correct"]), len(section["incorrect"])
        name = "all" if section["section"] == "Total accuracy" else section["section"]
        ours = found[name]
        assert ours.covered == right + wrong
        if right + wrong:
            assert isinstance(ours.score, Scored)
            assert ours.score.value == pytest.approx(right / (right + wrong)) and ours.score.n == right + wrong
    everything = found["all"]
    assert isinstance(everything.score, Scored) and everything.asked == 19_544
    assert everything.score.value == pytest.approx(total) and 0.2 < total < 0.95  # neither none nor all
    assert everything.score.interval[0] < total < everything.score.interval[1]


@needs_data
def test_multiplying_answers_as_the_class_does(real):
    """`WordVectors.analogy` is held against gensim; here are the same answers for many questions at once."""
    sections = {"family": read_analogies(QUESTIONS)["family"]}
    folded = {}
    for word in real.words:
        folded.setdefault(word.upper(), word)
    right = n = 0
    for question in sections["family"]:
        if all(word.upper() in folded for word in question):
            a, b, c, d = (folded[word.upper()] for word in question)
            best = next(
                x for x in real.analogy(a, b, c, "multiply") if x.word.upper() not in {w.upper() for w in (a, b, c)}
            )
            right, n = right + (best.word.upper() == d.upper()), n + 1
    found = score_analogies(real, sections, "multiply")["all"]
    assert isinstance(found.score, Scored) and n > 100
    assert found.score.value == pytest.approx(right / n) and found.covered == n


@needs_data
def test_similarity_is_scored_as_gensim_scores_it(tmp_path):
    pairs = read_pairs(PAIRS)
    words = sorted({word for first, second, _ in pairs for word in (first, second)})
    vectors = noisy([word.capitalize() for word in words[::2]] + words[1::4], [], seed=2)
    found = score_similarity(vectors, pairs)
    plain = tmp_path / "pairs.tsv"
    plain.write_bytes(gzip.decompress(PAIRS.read_bytes()))
    _, spearman, missing = in_gensim(vectors).evaluate_word_pairs(str(plain))
    assert isinstance(found.score, Scored)
    assert found.score.value == pytest.approx(spearman[0], abs=1e-9)
    assert 1 - found.covered / found.asked == pytest.approx(missing / 100)
    assert found.score.interval[0] < found.score.value < found.score.interval[1]


def test_what_cannot_be_scored_says_why():
    vectors = WordVectors(("a", "b"), np.eye(2, dtype=np.float32))
    none = score_analogies(vectors, {"x": [("a", "b", "c", "d")]})["all"]
    assert none.score == Unscored("no question whose words all have vectors") and (none.covered, none.asked) == (0, 1)
    few = score_similarity(vectors, [("a", "b", 1.0)])
    assert isinstance(few.score, Unscored) and (few.covered, few.asked) == (1, 1)
    same = score_similarity(vectors, [("a", "b", 1.0), ("b", "a", 2.0), ("A", "B", 3.0)])
    assert isinstance(same.score, Unscored) and "constant" in same.score.reason


def test_damaged_files_are_refused_by_line(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text(": a\none two three four\none two\n")
    with pytest.raises(ValueError, match="line 3: expected four words"):
        read_analogies(path)
    path.write_text("# comment\na\tb\t1.5\na b\n")
    with pytest.raises(ValueError, match="line 3: expected two words and a number"):
        read_pairs(path)
