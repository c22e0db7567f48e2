"""SentencePiece's model files (Kudo & Richardson 2018): BPE, and Unigram (Kudo 2018), with their normalisation.

A `.model` file is a protocol buffer with the pieces (string, score, type), what the trainer was told, and how text is
normalised. What it says becomes parts of the `tokenizers` library, so that `tokenizer.json` holds all of it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from lmworks.tokenizer.byte_level import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, mark_tokens
from lmworks.tokenizer.protobuf import fields
from lmworks.tokenizer.sentence_piece import SPACE, merges
from lmworks.tokenizer.sentence_piece_normaliser import Normalisation, normaliser
from lmworks.tokenizer.special_names import cuts
from lmworks.tokenizer.tokenizer import Tokenizer

_KINDS = {1: "Unigram", 2: "BPE", 3: "word", 4: "character"}
_UNIGRAM, _BPE = 1, 2


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """What a model file says.

    `pieces`, `scores` and `types` are in the order of the ids; `roles` are the special tokens' names by what they are
    for. A model with `suffix` ends words with a space instead of beginning them with one.
    """

    kind: int = _UNIGRAM
    pieces: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    types: tuple[int, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    normalisation: Normalisation = field(default_factory=Normalisation)
    denormalised: bool = False


def load_sentence_piece(path: str | Path) -> Tokenizer:
    """The tokenizer of a `.model` file; ValueError for one that is damaged, or that says what is not supported,
    FileNotFoundError for one that is missing.

    A text is framed by nothing, since a model does not say by what; `Tokenizer.load` of a Hugging Face folder reads
    that, and the tokens that were added later, from the files beside the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the SentencePiece model, mostly named tokenizer.model")
    model = read_sentence_piece(path)
    return Tokenizer(sentence_piece_backend(model), model.roles)


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


def sentence_piece_backend(model: SentencePieceModel) -> tokenizers.Tokenizer:
    """The tokenizer of a model; ValueError names what of it is not supported.

    It gives SentencePiece's ids, but for a few corners. Accents one after the other: `sentence_piece_normaliser`. BPE
    with a space prefix: a text that is one user-defined symbol and nothing else lacks the space before it. Unigram: of
    two paths whose scores are the same sum, `0 00` and `00 0`, SentencePiece's rounding to float32 decides, and the
    library's to float64; and the name of a control symbol is cut in two, so that it stays text.
    """
    _refuse(model)
    symbols = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind == USER_DEFINED]
    build = _bpe if model.kind == _BPE else _unigram
    tokenizer = tokenizers.Tokenizer(build(model))
    rules = model.normalisation
    whole = symbols if model.kind == _BPE else []  # Unigram finds them by their scores
    if (steps := normaliser(rules, symbols, whole)) is not None:
        if changed := [symbol for symbol in whole if steps.normalize_str(symbol) != symbol]:
            raise ValueError(f"the user-defined symbol {changed[0]!r} is changed by the normalisation: not supported")
        tokenizer.normalizer = steps
    letters = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind in (NORMAL, USER_DEFINED)]
    names = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind in (CONTROL, UNKNOWN)]
    if model.kind == _UNIGRAM and (pattern := cuts(names, letters, BYTE in model.types)):
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = _decoder(BYTE in model.types, rules.prefix or rules.squeeze)
    types = model.types if whole else [NORMAL if kind == USER_DEFINED else kind for kind in model.types]
    mark_tokens(tokenizer, model.pieces, types, normalized=True)
    return tokenizer


def _refuse(model: SentencePieceModel) -> None:
    if model.kind not in (_UNIGRAM, _BPE):
        raise ValueError(f"a SentencePiece model of the kind {_KINDS.get(model.kind, model.kind)} is not supported")
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


def _bpe(model: SentencePieceModel) -> models.BPE:
    return models.BPE(
        vocab={piece: index for index, piece in enumerate(model.pieces)},
        merges=merges(model.pieces, model.scores, model.types),
        unk_token=model.pieces[model.types.index(UNKNOWN)],
        fuse_unk=True,
        byte_fallback=BYTE in model.types,
    )


def _unigram(model: SentencePieceModel) -> models.Unigram:
    """A user-defined symbol's score is above all others, and the higher the longer it is (sentencepiece 0.2.3)."""
    vocabulary = [
        (piece, 0.1 * (len(piece.encode()) - 1) if kind == USER_DEFINED else score)
        for piece, score, kind in zip(model.pieces, model.scores, model.types, strict=True)
    ]
    return models.Unigram(vocabulary, model.types.index(UNKNOWN), BYTE in model.types)


def _decoder(byte_fallback: bool, strip: bool) -> decoders.Decoder:
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
    for number, value in fields(content):
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
    for number, value in fields(_message(message)):
        if number == _PIECE_TEXT:
            text = _message(value).decode()
        elif number == _PIECE_SCORE:
            (score,) = struct.unpack("<f", _message(value))
        elif number == _PIECE_TYPE:
            kind = int(value)
    return text, score, kind


def _rules(rules: Normalisation, message: int | bytes) -> Normalisation:
    for number, value in fields(_message(message)):
        if number == _TABLE:
            rules = replace(rules, table=_message(value))
        elif number in (_PREFIX, _SQUEEZE, _ESCAPE):
            name = {_PREFIX: "prefix", _SQUEEZE: "squeeze", _ESCAPE: "escape"}[number]
            rules = replace(rules, **{name: bool(value)})
    return rules


def _numbers(message: int | bytes) -> Iterator[tuple[int, int]]:
    return ((number, value) for number, value in fields(_message(message)) if isinstance(value, int))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a text or a message belongs")
    return value
