"""SentencePiece (Kudo & Richardson 2018) as parts of the `tokenizers` library: BPE, and Unigram (Kudo 2018).

A GGUF file stores the pieces and scores of a BPE, a `.model` file (`sentence_piece_model.py`) those of either kind and
how text is normalised. A space is the letter ▁, and a character without a piece of its own may become its bytes.

SentencePiece's BPE has no merges: of all neighbours whose concatenation is a piece, it joins the ones that make the
piece with the highest score. Listing, for every piece, each way to put it together, ordered by score, gives the same
with merges.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, mark_tokens
from lmworks.tokenizer.pre_tokenizer import SPACE
from lmworks.tokenizer.sentence_piece_model import BPE, KINDS, UNIGRAM, SentencePieceModel
from lmworks.tokenizer.sentence_piece_normaliser import normaliser
from lmworks.tokenizer.split_special_tokens import split_pattern


def sentence_piece_bpe(
    pieces: Sequence[str], scores: Sequence[float], token_types: Sequence[int], space_prefix: bool
) -> tokenizers.Tokenizer:
    """The tokenizer with `pieces` in the order of their ids; `space_prefix`: a text begins with a space of its own."""
    tokenizer = tokenizers.Tokenizer(_bpe(pieces, scores, token_types))
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if space_prefix else replace
    tokenizer.decoder = sentence_piece_decoder(byte_fallback=True, strip=space_prefix)
    # Tokens of the user's own, such as Gemma's runs of ▁, belong to the normalised text, unless that begins with a
    # space of its own: the normaliser would put one before each of them.
    mark_tokens(tokenizer, pieces, token_types, normalized=not space_prefix)
    return tokenizer


def sentence_piece_backend(model: SentencePieceModel) -> tokenizers.Tokenizer:
    """The tokenizer of a model; ValueError names what of it is not supported.

    It gives SentencePiece's ids, but for a few corners. Accents one after the other: `sentence_piece_normaliser`. BPE
    with a space prefix: a text that is one user-defined symbol and nothing else lacks the space before it. Unigram: of
    two paths whose scores are the same sum, `0 00` and `00 0`, SentencePiece's rounding to float32 decides, and the
    library's to float64; and the name of a control symbol is cut in two, so that it stays text.
    """
    _refuse(model)
    symbols = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind == USER_DEFINED]
    columns = model.pieces, model.scores, model.types
    tokenizer = tokenizers.Tokenizer(_bpe(*columns) if model.kind == BPE else _unigram(*columns))
    rules = model.normalisation
    whole = symbols if model.kind == BPE else []  # Unigram finds them by their scores
    if (steps := normaliser(rules, symbols, whole)) is not None:
        if changed := [symbol for symbol in whole if steps.normalize_str(symbol) != symbol]:
            raise ValueError(f"the user-defined symbol {changed[0]!r} is changed by the normalisation: not supported")
        tokenizer.normalizer = steps
    letters = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind in (NORMAL, USER_DEFINED)]
    names = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind in (CONTROL, UNKNOWN)]
    if model.kind == UNIGRAM and (pattern := split_pattern(names, letters, BYTE in model.types)):
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = sentence_piece_decoder(BYTE in model.types, rules.prefix or rules.squeeze)
    types = model.types if whole else [NORMAL if kind == USER_DEFINED else kind for kind in model.types]
    mark_tokens(tokenizer, model.pieces, types, normalized=True)
    return tokenizer


def _refuse(model: SentencePieceModel) -> None:
    if model.kind not in (UNIGRAM, BPE):
        raise ValueError(f"a SentencePiece model of the kind {KINDS.get(model.kind, model.kind)} is not supported")
    if model.types.count(UNKNOWN) != 1:
        raise ValueError(f"a SentencePiece model has one unknown piece, this one {model.types.count(UNKNOWN)}")
    if len(set(model.pieces)) < len(model.pieces):
        raise ValueError("the SentencePiece model holds a piece twice")
    if UNUSED in model.types:
        raise ValueError("SentencePiece models with unused pieces (a restricted vocabulary) are not supported")
    if model.denormalised:
        raise ValueError("SentencePiece models that rewrite the decoded text (denormalizer_spec) are not supported")
    if model.types.count(BYTE) not in (0, 256):
        raise ValueError(f"{model.types.count(BYTE)} of 256 bytes have a piece")


def _bpe(pieces: Sequence[str], scores: Sequence[float], token_types: Sequence[int]) -> models.BPE:
    """With each way to put a piece together as a merge, the pieces of higher scores first."""
    never = (UNKNOWN, CONTROL, BYTE)  # what stands for something else than its letters
    score = {p: s for p, s, kind in zip(pieces, scores, token_types, strict=True) if kind not in never}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(score, key=lambda piece: -score[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in score and piece[cut:] in score
    ]
    return models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=merges,
        unk_token=next((piece for piece, kind in zip(pieces, token_types, strict=True) if kind == UNKNOWN), None),
        fuse_unk=True,
        byte_fallback=BYTE in token_types,
    )


def _unigram(pieces: Sequence[str], scores: Sequence[float], token_types: Sequence[int]) -> models.Unigram:
    """A user-defined symbol's score is above all others, and the higher the longer it is (sentencepiece 0.2.3)."""
    vocabulary = [
        (piece, 0.1 * (len(piece.encode()) - 1) if kind == USER_DEFINED else score)
        for piece, score, kind in zip(pieces, scores, token_types, strict=True)
    ]
    return models.Unigram(vocabulary, token_types.index(UNKNOWN), BYTE in token_types)


def sentence_piece_decoder(byte_fallback: bool, strip: bool) -> decoders.Decoder:
    """Joins the pieces; `strip`: without the space that the normalisation put before the text.

    Where spaces are squeezed, SentencePiece takes away any number of them. A decoder that did would lose spaces in the
    middle of a text that is decoded part by part, and squeezed text begins with one.
    """
    steps: list[decoders.Decoder] = [decoders.Replace(SPACE, " ")]
    steps += [decoders.ByteFallback()] if byte_fallback else []
    steps += [decoders.Fuse()]
    steps += [decoders.Strip(" ", 1, 0)] if strip else []
    return decoders.Sequence(steps)
