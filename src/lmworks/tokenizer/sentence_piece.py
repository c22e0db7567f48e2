"""SentencePiece's BPE (Kudo & Richardson 2018) from its pieces and scores, as a GGUF file stores them.

SentencePiece has no merges: of all neighbours whose concatenation is a piece, it joins the ones that make the piece
with the highest score. Listing, for every piece, each way to put it together, ordered by score, gives the same with
merges. A space is the letter ▁, and a character without a piece of its own becomes its bytes.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, models, normalizers

from lmworks.tokenizer.byte_level import BYTE, CONTROL, UNKNOWN, mark_tokens

SPACE = "▁"


def sentence_piece_bpe(
    pieces: Sequence[str], scores: Sequence[float], token_types: Sequence[int], space_prefix: bool
) -> tokenizers.Tokenizer:
    """The tokenizer with `pieces` in the order of their ids; `space_prefix`: a text begins with a space of its own."""
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    unknown = [piece for piece, kind in zip(pieces, token_types, strict=True) if kind == UNKNOWN]
    model = models.BPE(
        vocab=vocabulary,
        merges=merges(pieces, scores, token_types),
        unk_token=unknown[0] if unknown else None,
        fuse_unk=True,
        byte_fallback=BYTE in token_types,
    )
    tokenizer = tokenizers.Tokenizer(model)
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if space_prefix else replace
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if space_prefix else steps)
    # Tokens of the user's own, such as Gemma's runs of ▁, belong to the normalised text, unless that begins with a
    # space of its own: the normaliser would put one before each of them.
    mark_tokens(tokenizer, pieces, token_types, normalized=not space_prefix)
    return tokenizer


def merges(pieces: Sequence[str], scores: Sequence[float], token_types: Sequence[int]) -> list[tuple[str, str]]:
    never = (UNKNOWN, CONTROL, BYTE)  # what stands for something else than its letters
    score = {p: s for p, s, kind in zip(pieces, scores, token_types, strict=True) if kind not in never}
    return [
        (piece[:cut], piece[cut:])
        for piece in sorted(score, key=lambda piece: -score[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in score and piece[cut:] in score
    ]
