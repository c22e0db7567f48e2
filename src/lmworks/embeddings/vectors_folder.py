"""Word vectors as a folder: everything that training made, counts and n-grams among it.

vectors.safetensors   vectors (words, dimensions) float32; counts (words,) int64; ngram_vectors (n, dimensions)
                      float32 and ngram_buckets (n,) int32, where there are n-grams
words.json            the words, and how n-grams are cut
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lmworks.artefact import check_new, write_json, writing
from lmworks.config import from_mapping
from lmworks.embeddings.config import Subwords
from lmworks.embeddings.subwords import NGrams
from lmworks.embeddings.word2vec_format import read_word2vec
from lmworks.embeddings.word_vectors import WordVectors

VECTORS, WORDS = "vectors.safetensors", "words.json"


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
