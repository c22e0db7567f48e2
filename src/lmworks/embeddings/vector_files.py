"""Word vectors on disk: a folder of ours, and files of word2vec's program, which gensim, fastText (.vec) and GloVe's
users read and write.

The folder holds everything that training made, counts and n-grams among it:

vectors.safetensors   vectors (words, dimensions) float32; counts (words,) int64; ngram_vectors (n, dimensions)
                      float32 and ngram_buckets (n,) int32, where there are n-grams
words.json            the words, and how n-grams are cut

A file of word2vec's begins with a line "words dimensions"; GloVe's own text files lack it. A line of the text form is a
word and its numbers, between single spaces; in the binary form the numbers are float32, little-endian, and the program
ends each with a line break, gensim does not.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from safetensors.numpy import load_file, save_file

from lmworks.artefact import check_new, new_file, write_json, writing
from lmworks.config import from_mapping
from lmworks.embeddings.config import Subwords
from lmworks.embeddings.subwords import NGrams
from lmworks.embeddings.word_vectors import WordVectors

Errors = Literal["strict", "replace"]
VECTORS, WORDS = "vectors.safetensors", "words.json"
_LONGEST = 1 << 16  # bytes of a word: what has more is no word, but a file of another kind


def save_word_vectors(vectors: WordVectors, folder: Path) -> None:
    """Makes the folder, whole or not at all; FileExistsError when it is there."""
    check_new(folder)
    with writing(folder) as temporary:
        write_folder(vectors, temporary)


def write_folder(vectors: WordVectors, folder: Path) -> None:
    """Writes the files into an existing folder."""
    arrays = {"vectors": np.ascontiguousarray(vectors.vectors)}
    if vectors.counts is not None:
        arrays["counts"] = np.ascontiguousarray(vectors.counts, np.int64)
    subwords = None
    if vectors.ngrams is not None:
        arrays |= {"ngram_vectors": vectors.ngrams.vectors, "ngram_buckets": vectors.ngrams.buckets}
        subwords = asdict(vectors.ngrams.subwords)
    save_file(arrays, folder / VECTORS)
    write_json(folder / WORDS, {"words": list(vectors.words), "subwords": subwords})


def load_word_vectors(path: str | Path) -> WordVectors:
    """A folder of ours, or a file of word2vec's, text or binary, fastText's .vec and GloVe's among them.

    FileNotFoundError for a path that is neither; ValueError for a damaged one.
    """
    path = Path(path)
    if path.is_file():
        return read_word2vec(path)
    if not (path / VECTORS).is_file() or not (path / WORDS).is_file():
        raise FileNotFoundError(
            f"no word vectors at {path}: give a folder that `lmworks vectors train` made, or a file of word2vec's"
        )
    arrays = load_file(path / VECTORS)
    stored = json.loads((path / WORDS).read_text("utf-8"))
    ngrams = None
    if stored["subwords"] is not None:
        subwords = from_mapping(Subwords, stored["subwords"], [str(path / WORDS), "subwords"])
        ngrams = NGrams(subwords, arrays["ngram_buckets"], arrays["ngram_vectors"])
    return WordVectors(tuple(stored["words"]), arrays["vectors"], arrays.get("counts"), ngrams)


# ---------------------------------------------------------------------------------------------------------------------
# Files of word2vec


def write_word2vec(vectors: WordVectors, path: Path, binary: bool | None = None) -> None:
    """Writes the file whole or not at all; `binary` is by default what the name says: .bin is.

    Counts and n-grams have no place there: a folder keeps them. FileExistsError for a file that is
    there; ValueError for a word with white space in it, which ends a word there.
    """
    if spaced := next(
        (word for word in vectors.words if not word or len(word.split()) != 1 or word != word.strip()), None
    ):
        raise ValueError(f"{spaced!r} cannot be written: in files of word2vec white space ends a word; join it by _")
    binary = path.suffix == ".bin" if binary is None else binary
    with new_file(path) as temporary, temporary.open("wb") as stream:
        stream.write(f"{len(vectors)} {vectors.dimensions}\n".encode())
        for word, vector in zip(vectors.words, vectors.vectors, strict=True):
            # 9 digits hold a float32.
            numbers = vector.astype("<f4").tobytes() if binary else " ".join(f"{x:.9g}" for x in vector).encode()
            stream.write(word.encode() + b" " + numbers + b"\n")


def read_word2vec(path: Path, binary: bool | None = None, errors: Errors = "strict") -> WordVectors:
    """Reads either form; `binary` is by default what the content says. Words follow the file's order.

    A word that comes again is left out, and a warning tells how many did. ValueError for a file that is neither, that
    ends early, with numbers that are not finite, or whose words are not UTF-8 (`errors="replace"` puts � where they are
    not).
    """
    with path.open("rb") as stream:
        first = stream.readline(_LONGEST)
        header = first.split()
        if len(header) == 2 and all(field.isdigit() for field in header):
            number, dimensions = map(int, header)
            binary = _is_binary(stream, dimensions) if binary is None else binary
            rows = (_binary_rows if binary else _text_rows)(stream, number, dimensions, path)
        elif binary:
            raise ValueError(f"{path} does not begin with the numbers of words and dimensions, as binary files do")
        else:
            stream.seek(0)
            rows = _text_rows(stream, None, len(_fields(first)) - 1, path)
        return _collected(rows, path, errors)


def _fields(line: bytes, dimensions: int = -1) -> list[bytes]:
    """A word and its last numbers, all by default; some programs write a space behind each number, the last, too."""
    return line.rstrip(b" \r\n").rsplit(b" ", dimensions)


def _is_binary(stream: BinaryIO, dimensions: int) -> bool:
    """Whether the first row is not a line of a word and numbers."""
    start = stream.tell()
    line = stream.readline(_LONGEST)
    stream.seek(start)
    try:
        return len([float(number) for number in line.rstrip().rsplit(b" ", dimensions)[1:]]) != dimensions
    except ValueError:
        return True


def _binary_rows(stream: BinaryIO, number: int, dimensions: int, path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    for row in range(number):
        word = bytearray()
        while (character := stream.read(1)) != b" ":
            if not character or len(word) > _LONGEST:
                raise ValueError(f"{path} ends in word {row + 1:,} of {number:,}; is it whole, and is it binary?")
            word += character
        numbers = stream.read(4 * dimensions)
        if len(numbers) != 4 * dimensions:
            raise ValueError(f"{path} ends in the vector of word {row + 1:,} of {number:,}; is it whole?")
        yield bytes(word).lstrip(b"\n"), np.frombuffer(numbers, "<f4")


def _text_rows(stream: BinaryIO, number: int | None, dimensions: int, path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    if dimensions < 1:
        raise ValueError(f"{path} holds no word vectors: its first line has no numbers")
    lines = 0
    for line in stream:
        lines += 1
        fields = _fields(line, dimensions)  # from the right: GloVe has words with spaces in them
        try:
            vector = np.array([float(field) for field in fields[1:]], np.float32)
        except ValueError:
            vector = np.zeros(0, np.float32)
        if len(vector) != dimensions:
            raise ValueError(f"{path}, word {lines:,}: not a word and {dimensions} numbers; is this a file of vectors?")
        yield fields[0], vector
    if number is not None and lines != number:
        raise ValueError(f"{path} says that it holds {number:,} words, and holds {lines:,}; is it whole?")


def _collected(rows: Iterator[tuple[bytes, np.ndarray]], path: Path, errors: Errors) -> WordVectors:
    words: dict[str, np.ndarray] = {}
    again = 0
    for spelled, vector in rows:
        try:
            word = spelled.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            problem = f'{path}: {spelled!r} is not UTF-8 ({error.reason}); read it with errors="replace"'
            raise ValueError(problem) from None
        again += word in words
        words.setdefault(word, vector)
    if again:
        warnings.warn(f"{path}: {again:,} words come more than once; the first of each was taken", stacklevel=3)
    if not words:
        raise ValueError(f"{path} holds no words")
    return WordVectors(tuple(words), np.stack(list(words.values())).astype(np.float32, copy=False))
