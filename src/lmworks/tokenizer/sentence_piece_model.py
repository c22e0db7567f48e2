"""SentencePiece's model files (Kudo & Richardson 2018): the pieces, and how text is normalised.

A `.model` file is a protocol buffer with the pieces (string, score, type), what the trainer was told, and how text is
normalised. `sentence_piece.py` makes a tokenizer of it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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

    kind: int = UNIGRAM
    pieces: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    types: tuple[int, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    normalisation: Normalisation = field(default_factory=Normalisation)
    denormalised: bool = False


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


def _parse(content: bytes) -> SentencePieceModel:
    pieces: list[tuple[str, float, int]] = []
    model, ids = SentencePieceModel(), dict(_TRAINER_IDS.values())
    rules = model.normalisation
    for number, value in protobuf_fields(content):
        if number == _MODEL_PIECES:
            pieces.append(_piece(value))
        elif number == _MODEL_TRAINER:
            for inner, setting in _numbers(value):
                if inner == _TRAINER_KIND:
                    model = replace(model, kind=setting)
                elif inner == _TRAINER_SUFFIX:
                    rules = replace(rules, suffix=bool(setting))
                elif inner in _TRAINER_IDS:
                    ids[_TRAINER_IDS[inner][0]] = setting - (1 << 64 if setting >> 63 else 0)
        elif number == _MODEL_NORMALISER:
            rules = _rules(rules, value)
        elif number == _MODEL_DENORMALISER:
            model = replace(model, denormalised=bool(_rules(rules, value).table))
    texts, scores, types = zip(*pieces, strict=True) if pieces else ((), (), ())
    roles = {role: texts[index] for role, index in ids.items() if 0 <= index < len(texts)}
    reserved = {text for text, kind in zip(texts, types, strict=True) if kind in (CONTROL, UNKNOWN)}
    roles = {role: text for role, text in roles.items() if text in reserved}  # a default id may be any piece
    return replace(model, pieces=texts, scores=scores, types=types, roles=roles, normalisation=rules)


def _piece(message: int | bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, NORMAL
    for number, value in protobuf_fields(_message(message)):
        if number == _PIECE_TEXT:
            text = _message(value).decode()
        elif number == _PIECE_SCORE:
            (score,) = struct.unpack("<f", _message(value))
        elif number == _PIECE_TYPE:
            kind = int(value)
    return text, score, kind


def _rules(rules: Normalisation, message: int | bytes) -> Normalisation:
    for number, value in protobuf_fields(_message(message)):
        if number == _TABLE:
            rules = replace(rules, table=_message(value))
        elif number in (_PREFIX, _SQUEEZE, _ESCAPE):
            name = {_PREFIX: "prefix", _SQUEEZE: "squeeze", _ESCAPE: "escape"}[number]
            rules = replace(rules, **{name: bool(value)})
    return rules


def _numbers(message: int | bytes) -> Iterator[tuple[int, int]]:
    return ((number, value) for number, value in protobuf_fields(_message(message)) if isinstance(value, int))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a text or a message belongs")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Protocol buffers on the wire

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def protobuf_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
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
    for place in range(10):
        if at + place >= len(message):
            raise ValueError("the message ends inside a number")
        byte = message[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than ten bytes")
