"""SentencePiece's model files (Kudo & Richardson 2018): the pieces, and how text is normalised.

A `.model` file is a protocol buffer with the pieces (string, score, type), what the trainer was told, and how text is
normalised. `sentence_piece.py` makes a tokenizer of it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmworks.tokenizer.byte_level import CONTROL, NORMAL, UNKNOWN
from lmworks.tokenizer.sentence_piece_normaliser import Normalisation

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
