"""SentencePiece (Kudo & Richardson 2018) as parts of the `tokenizers` library: BPE, and Unigram (Kudo 2018).

A GGUF file stores the pieces and scores of a BPE, a `.model` file those of either kind and how text is normalised. A
space is the letter ▁, and a character without a piece of its own may become its bytes.

SentencePiece's BPE has no merges: of all neighbours whose concatenation is a piece, it joins the ones that make the
piece with the highest score. Listing, for every piece, each way to put it together, ordered by score, gives the same
with merges.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, mark_tokens
from lmworks.tokenizer.pre_tokenizer import SPACE
from lmworks.tokenizer.sentence_piece_normaliser import Normalisation, normaliser
from lmworks.tokenizer.split_special_tokens import split_pattern

KINDS = {1: "Unigram", 2: "BPE", 3: "word", 4: "character"}
UNIGRAM, BPE = 1, 2


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """The contents of a model file.

    `pieces`, `scores` and `types` are in the order of the ids; `roles` are the special tokens' names by what they are
    for. A model with `suffix` ends words with a space instead of beginning them with one.
    """

    kind: int
    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    roles: dict[str, str]
    normalisation: Normalisation
    denormalised: bool


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
    """A BPE model with every way to form a piece as a merge, pieces of higher score first."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Model files: a protocol buffer with the pieces (string, score, type), the trainer's settings, and how text is
# normalised


def read_sentence_piece(path: Path) -> SentencePieceModel:
    """Reads a `.model` file; ValueError for one that is damaged."""
    content = path.read_bytes()
    try:
        model = _parse(content)
    except (ValueError, struct.error) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path.name} is no SentencePiece model, or damaged: {error}") from error
    if not model.pieces:
        raise ValueError(f"{path.name} is no SentencePiece model, or damaged: it has no pieces")
    return model


# ---------------------------------------------------------------------------------------------------------------------
# The file's messages, by the numbers of their fields

_MODEL_PIECES, _MODEL_TRAINER, _MODEL_NORMALISER, _MODEL_DENORMALISER = 1, 2, 3, 5
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_TRAINER_KIND, _TRAINER_SUFFIX = 3, 24
_TRAINER_IDS = {40: ("unk_token", 0), 41: ("bos_token", 1), 42: ("eos_token", 2), 43: ("pad_token", -1)}
_TABLE, _PREFIX, _SQUEEZE, _ESCAPE = 2, 3, 4, 5


class _Message:
    """A protocol buffer by the numbers of its fields; ValueError for a number where a text belongs, or the other way
    round."""

    def __init__(self, content: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _protobuf_fields(content):
            self._fields.setdefault(number, []).append(value)

    def texts(self, field: int) -> list[bytes]:
        values = self._fields.get(field, [])
        texts = [value for value in values if isinstance(value, bytes)]
        if len(texts) < len(values):
            raise ValueError("a number stands where a text or a message belongs")
        return texts

    def text(self, field: int, default: bytes = b"") -> bytes:
        return [default, *self.texts(field)][-1]

    def number(self, field: int, default: int) -> int:
        value = [default, *self._fields.get(field, [])][-1]
        if not isinstance(value, int):
            raise ValueError("a text or a message stands where a number belongs")
        return value - (1 << 64 if value >> 63 else 0)

    def message(self, field: int) -> "_Message":
        return _Message(b"".join(self.texts(field)))  # several are one whose fields lie behind each other


def _parse(content: bytes) -> SentencePieceModel:
    model = _Message(content)
    trainer, rules = model.message(_MODEL_TRAINER), model.message(_MODEL_NORMALISER)
    pieces = [_Message(piece) for piece in model.texts(_MODEL_PIECES)]
    texts = tuple(piece.text(_PIECE_TEXT).decode() for piece in pieces)
    types = tuple(piece.number(_PIECE_TYPE, NORMAL) for piece in pieces)
    ids = {role: trainer.number(field, default) for field, (role, default) in _TRAINER_IDS.items()}
    reserved = {text for text, kind in zip(texts, types, strict=True) if kind in (CONTROL, UNKNOWN)}
    roles = {role: texts[index] for role, index in ids.items() if 0 <= index < len(texts)}
    return SentencePieceModel(
        kind=trainer.number(_TRAINER_KIND, UNIGRAM),
        pieces=texts,
        scores=tuple(struct.unpack("<f", piece.text(_PIECE_SCORE, bytes(4)))[0] for piece in pieces),
        types=types,
        roles={role: text for role, text in roles.items() if text in reserved},  # a default id may be any piece
        normalisation=Normalisation(
            table=rules.text(_TABLE),
            prefix=bool(rules.number(_PREFIX, 1)),
            squeeze=bool(rules.number(_SQUEEZE, 1)),
            escape=bool(rules.number(_ESCAPE, 1)),
            suffix=bool(trainer.number(_TRAINER_SUFFIX, 0)),
        ),
        denormalised=bool(model.message(_MODEL_DENORMALISER).text(_TABLE)),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Protocol buffers on the wire

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _protobuf_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order: an int for a varint, the bytes of everything else (little-endian).

    ValueError for a message that ends inside a field, or holds a kind of field that is not in use any more (groups).
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {number} has the wire type {kind}, which is not known")
        if at + size > len(message):
            raise ValueError(f"field {number} needs {size} bytes, and {len(message) - at} are left")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for index in range(10):
        if at + index >= len(message):
            raise ValueError("the message ends inside a number")
        byte = message[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number of more than ten bytes")
