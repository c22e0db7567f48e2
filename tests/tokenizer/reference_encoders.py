"""A word, or for Unigram a text, to ids by the model of a `tokenizer.json`: BPE, WordPiece and Unigram in Python.

**BPE** (Sennrich et al. 2016, section 3.2) joins the neighbours whose merge was learnt first, again and again. Looking
through all neighbours for every merge takes n² steps. A heap of the pairs that can be merged takes n log n: a merge
makes two new pairs and leaves entries behind that are no pairs any more, which are recognised when they come up.

**WordPiece** (Schuster & Nakajima 2012; as encoded by BERT, Devlin et al. 2019) takes the longest piece first, from the
left. Pieces that do not begin a word are written with ## before them. A word that cannot be cut into pieces to its end
is one unknown token, and so is one that is too long.

**Unigram** (Kudo 2018, section 3.2) takes of all ways to cut a text into pieces the most probable one (Viterbi 1967). A
text's probability is the product of its pieces', so the scores (logarithms) are added up. The best way to a place ends
with some piece, and before it is the best way to where that piece begins:

    best[0] = 0
    best[end] = max over pieces text[start:end] of best[start] + score(piece)

A character that is no piece of its own may be unknown, at a score below all others.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

_GONE = -1  # in the place of a symbol that has been joined to the one before it
_PENALTY = 10.0  # of an unknown character, below the lowest score


def read_bpe(model: Mapping[str, Any]) -> Callable[[str], tuple[int, ...]]:
    """The ids of a word, by the vocabulary and the merges in `tokenizer.json`."""
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ValueError(f"BPE with {name} is not written down here")
    vocabulary: dict[str, int] = model["vocab"]
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    ranks = {(vocabulary[left], vocabulary[right]): rank for rank, (left, right) in enumerate(pairs)}
    joined = [vocabulary[left + right] for left, right in pairs]
    whole = vocabulary if model.get("ignore_merges") else {}

    @lru_cache(maxsize=1 << 16)
    def encode(word: str) -> tuple[int, ...]:
        if word in whole:
            return (whole[word],)
        return tuple(merge(spell(word, model), ranks, joined))

    return encode


def spell(word: str, model: Mapping[str, Any]) -> list[int]:
    """The symbols to begin with: characters; the bytes of those that have no token; else the unknown token, or nothing.

    With `fuse_unk`, neighbours that are unknown are one unknown token.
    """
    vocabulary, unknown = model["vocab"], model["vocab"].get(model.get("unk_token"))
    ids: list[int] = []
    before = False  # whether the character before was unknown
    for character in word:
        if (token := vocabulary.get(character)) is not None:
            ids.append(token)
            before = False
            continue
        bytes_ = [vocabulary.get(f"<0x{byte:02X}>") for byte in character.encode()]
        if model.get("byte_fallback") and None not in bytes_:
            ids += bytes_
            before = False
        elif unknown is not None and not (before and model.get("fuse_unk")):
            ids.append(unknown)
            before = True
    return ids


def merge(ids: list[int], ranks: Mapping[tuple[int, int], int], joined: list[int]) -> list[int]:
    """`ids` after all merges; `ranks` is the place of a pair in the list of merges, `joined` what each makes."""
    ids = list(ids)
    left, right = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))  # of the neighbours that are not gone
    waiting = [(ranks[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapify(waiting)
    while waiting:
        rank, at = heappop(waiting)
        behind = right[at]
        if ids[at] == _GONE or behind == len(ids) or ranks.get((ids[at], ids[behind])) != rank:
            continue
        ids[at], ids[behind] = joined[rank], _GONE
        right[at] = after = right[behind]
        if after < len(ids):
            left[after] = at
            if (found := ranks.get((ids[at], ids[after]))) is not None:
                heappush(waiting, (found, at))
        before = left[at]
        if before >= 0 and (found := ranks.get((ids[before], ids[at]))) is not None:
            heappush(waiting, (found, before))
    return [token for token in ids if token != _GONE]


def read_wordpiece(model: Mapping[str, Any]) -> Callable[[str], tuple[int, ...]]:
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


def read_unigram(model: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """The ids of a text, by the pieces and scores in `tokenizer.json`."""
    scores: dict[str, float] = dict(model["vocab"])
    numbers = {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    unknown_score, longest = min(scores.values()) - _PENALTY, max(map(len, scores))
    bytes_ = [numbers[f"<0x{byte:02X}>"] for byte in range(256)] if model["byte_fallback"] else None

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for piece in _fused(best_pieces(text, scores, longest, unknown_score), scores):
            if piece in numbers:
                ids.append(numbers[piece])
            elif bytes_ is not None:
                ids += [bytes_[byte] for byte in piece.encode()]
            else:
                ids.append(model["unk_id"])
        return ids

    return encode


def best_pieces(text: str, scores: Mapping[str, float], longest: int, unknown_score: float) -> list[str]:
    """The pieces of the best way through `text`; of equally good ones, that whose last piece begins first."""
    best, began = [0.0] + [float("-inf")] * len(text), [0] * (len(text) + 1)
    for start in range(len(text)):
        for end in range(start + 1, min(start + longest, len(text)) + 1):
            score = scores.get(text[start:end])
            if score is None:
                if end > start + 1:
                    continue
                score = unknown_score
            if best[start] + score > best[end]:
                best[end], began[end] = best[start] + score, start
    pieces, end = [], len(text)
    while end > 0:
        pieces.append(text[began[end] : end])
        end = began[end]
    return pieces[::-1]


def _fused(pieces: list[str], scores: Mapping[str, float]) -> list[str]:
    """Unknown characters one after the other are one unknown piece."""
    out: list[str] = []
    before = False
    for piece in pieces:
        unknown = piece not in scores
        if unknown and before:
            out[-1] += piece
        else:
            out.append(piece)
        before = unknown
    return out
