"""WordPiece (Schuster & Nakajima 2012; as encoded by BERT, Devlin et al. 2019): the longest piece first, from the left.

Pieces that do not begin a word are written with ## before them. A word that cannot be cut into pieces to its end is one
unknown token, and so is one that is too long.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any


def read_word_piece(model: Mapping[str, Any]) -> Callable[[str], tuple[int, ...]]:
    """The ids of a word, by the vocabulary in `tokenizer.json`."""
    vocabulary: dict[str, int] = model["vocab"]
    prefix, most = model["continuing_subword_prefix"], model["max_input_chars_per_word"]
    unknown = (vocabulary[model["unk_token"]],)

    @lru_cache(maxsize=1 << 16)
    def encode(word: str) -> tuple[int, ...]:
        if len(word) > most:
            return unknown
        ids, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else prefix + word[start:end]
                if piece in vocabulary:
                    break
            else:
                return unknown
            ids.append(vocabulary[piece])
            start = end
        return tuple(ids)

    return encode
