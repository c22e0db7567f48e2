"""Unigram (Kudo 2018, section 3.2): of all ways to cut a text into pieces, the most probable one (Viterbi 1967).

A text's probability is the product of its pieces', so the scores (logarithms) are added up. The best way to a place
ends with some piece, and before it is the best way to where that piece begins:

    best[0] = 0
    best[end] = max over pieces text[start:end] of best[start] + score(piece)

A character that is no piece of its own may be unknown, at a score below all others.
"""

from collections.abc import Callable, Mapping
from typing import Any

_PENALTY = 10.0  # of an unknown character, below the lowest score


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
