"""Files of word2vec's program: gensim reads ours, we read gensim's."""

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kit.tables import for_each
from lmworks.embeddings.config import Subwords, WordVectorsConfig
from lmworks.embeddings.subwords import NGrams
from lmworks.embeddings.vector_files import VECTORS, load_word_vectors, read_word2vec, save_word_vectors, write_word2vec
from lmworks.embeddings.word2vec import train_word_vectors
from lmworks.embeddings.word_vectors import WordVectors

WORDS = ("the", "naïve", "日本", "new_york", "3.5", "1e3", "-0.25")


@pytest.fixture
def vectors() -> WordVectors:
    values = np.random.default_rng(0).normal(0, 1e-3, (7, 11)).astype(np.float32)
    values[0, :3] = [0, -1e-30, 12345678]
    return WordVectors(WORDS, values)


@for_each("binary", [False, True])
def test_gensim_reads_ours(vectors, tmp_path, binary):
    write_word2vec(vectors, tmp_path / "file", binary)
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "file"), binary=binary)
    assert theirs.index_to_key == list(WORDS) and theirs.vectors.tobytes() == vectors.vectors.tobytes()


@for_each("binary", [False, True])
def test_we_read_gensims(vectors, tmp_path, binary):
    theirs = KeyedVectors(11)
    theirs.add_vectors(list(WORDS), vectors.vectors)
    theirs.save_word2vec_format(str(tmp_path / "file"), binary=binary)
    found = read_word2vec(tmp_path / "file")  # which form it is, it finds out
    assert found.words == WORDS and found.vectors.tobytes() == vectors.vectors.tobytes()


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
       st.integers(1, 4), st.booleans())  # fmt: skip
def test_what_is_written_is_read_again(tmp_path_factory, words, dimensions, binary):
    values = np.random.default_rng(len(words)).normal(size=(len(words), dimensions)).astype(np.float32)
    path = tmp_path_factory.mktemp("files") / "file"
    if any(len(word.split()) != 1 or word != word.strip() for word in words):
        with pytest.raises(ValueError, match="white space ends a word"):
            write_word2vec(WordVectors(tuple(words), values), path, binary)
        assert not path.exists()
        return
    write_word2vec(WordVectors(tuple(words), values), path, binary)
    found = read_word2vec(path, binary)
    assert found.words == tuple(words) and found.vectors.tobytes() == values.tobytes()


@for_each("end", ["", " ", " \r"])
def test_files_of_glove_have_no_first_line(tmp_path, end):
    text = f"the 0.5 -1{end}\n. . 2 3{end}\n"  # a word with a space in it, as the largest has
    (tmp_path / "glove.txt").write_text(text, newline="")
    found = read_word2vec(tmp_path / "glove.txt")
    assert found.words == ("the", ". .") and found.vectors.tolist() == [[0.5, -1], [2, 3]]


def test_words_that_come_again_are_counted(tmp_path):
    (tmp_path / "file.vec").write_text("3 1\na 1 \na 2 \nb 3 \n")  # fastText ends lines with a space
    with pytest.warns(UserWarning, match="1 words come more than once"):
        found = read_word2vec(tmp_path / "file.vec")
    assert found.words == ("a", "b") and found.vectors.tolist() == [[1], [3]]


@for_each(
    ("content", "message"),
    [
        (b"", "holds no word"),
        (b"2 3\na 1 2 3\n", "holds 1"),
        (b"2 3\na 1 2 3\nb 1 2\n", "not a word and 3 numbers"),
        (b"1 2\n\xff 1 2\n", 'errors="replace"'),
        (b"2 2\na " + bytes(8) + b"\nb " + bytes(5), "ends in the vector of word 2"),
        (b"2 2\na " + bytes(8) + b"\nb", "ends in word 2"),
        (b"# a text\nof another kind\n", "holds|not a word"),
        (b"2 2\na 1 2\nb nan 2\n", "the vector of 'b' has numbers that are not finite"),
        (b"a 1 inf\nb 1 2\n", "the vector of 'a' has numbers that are not finite"),
        (b"1 2\na " + bytes(4) + b"\0\0\xc0\x7f", "the vector of 'a' has numbers that are not finite"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_word2vec(tmp_path / "file")


def test_nothing_is_overwritten(vectors, tmp_path):
    path = tmp_path / "file.bin"
    write_word2vec(vectors, path)
    with pytest.raises(FileExistsError):
        write_word2vec(vectors, path)
    save_word_vectors(vectors, tmp_path / "folder")
    with pytest.raises(FileExistsError):
        save_word_vectors(vectors, tmp_path / "folder")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file.bin", "folder"]
    with pytest.raises(FileNotFoundError, match="no word vectors"):
        load_word_vectors(tmp_path / "nowhere")


def test_a_folder_keeps_everything(sentences, tmp_path):
    config = WordVectorsConfig(dimensions=5, epochs=1, subwords=Subwords(2, 3, 100))
    made = train_word_vectors(sentences, config)
    save_word_vectors(made, tmp_path / "folder")
    found = load_word_vectors(tmp_path / "folder")
    assert found.words == made.words and found.vectors.tobytes() == made.vectors.tobytes()
    assert found.counts is not None and made.counts is not None and found.counts.tolist() == made.counts.tolist()
    assert found.vector("w99w").tobytes() == made.vector("w99w").tobytes()


@for_each(("name", "message"), [("vectors", "'naïve'"), ("ngram_vectors", "n-grams")])
def test_a_folder_with_nan_in_it_is_refused(tmp_path, name, message):
    ngrams = NGrams(Subwords(2, 3, 100), np.int32([2, 4]), np.ones((2, 3), np.float32))
    save_word_vectors(WordVectors(WORDS[:2], np.ones((2, 3), np.float32), ngrams=ngrams), tmp_path / "folder")
    arrays = load_file(tmp_path / "folder" / VECTORS)
    arrays[name] = np.float32([[1e30, 1, 1], [1, np.nan, 1]])  # what is only large has no sum of squares either
    save_file(arrays, tmp_path / "folder" / VECTORS)
    with pytest.raises(ValueError, match=f"the vectors? of .*{message}.* numbers that are not finite"):
        load_word_vectors(tmp_path / "folder")


def test_large_numbers_are_kept(tmp_path):
    (tmp_path / "file.vec").write_text("a 1e30 1\nb 1 3e38\n")
    assert load_word_vectors(tmp_path / "file.vec").vectors.tolist() == np.float32([[1e30, 1], [1, 3e38]]).tolist()
