"""From a text to ids as a `tokenizer.json` says: tokens of the user's own, normalisation, words, and the model.

Slow (a megabyte takes seconds) and meant to be read. Every step is written anew here and shares nothing with the
`tokenizers` library but the file; words are cut by Python's `re`, and `unicodedata` says what is a letter. Its version
of Unicode is Python's, the library's a newer one (for BERT's punctuation an older one), so characters between the two
may differ.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from reference_encoders import read_bpe, read_unigram, read_wordpiece
from reference_normalizer import read_normaliser
from reference_words import GPT2, split_bert, split_isolated

from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.pre_tokenizer import SPACE, steps_of

Cut = Callable[[list[str], bool], list[str]]
_MODELS = {"BPE": read_bpe, "WordPiece": read_wordpiece, "Unigram": read_unigram}
_BYTE_LETTERS = {byte: letter for letter, byte in byte_letters().items()}


def reference_encoder(document: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """The same encoding as `Tokenizer.encode` of `document`, the JSON of a `tokenizer.json`.

    Special tokens are text like any other; tokens of the user's own are whole. ValueError names a part that is not
    written down here.
    """
    read = _MODELS.get(document["model"]["type"])
    if read is None:
        raise ValueError(f"a model of the type {document['model']['type']} has no reference encoder")
    model = read(document["model"])
    normalise = read_normaliser(document["normalizer"])
    cuts = [_read_cut(step) for step in steps_of(document["pre_tokenizer"])]
    raw, normal = _own_tokens(document, normalise)

    def encode_plain(text: str, first: bool) -> list[int]:
        pieces = [text] if text else []
        for cut in cuts:
            pieces = cut(pieces, first)
        return [token for piece in pieces for token in model(piece)]

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for start, part, own in _split(text, raw):
            if own is not None:
                ids.append(own)
                continue
            for inner, piece, token in _split(normalise(part), normal):
                ids += encode_plain(piece, start + inner == 0) if token is None else [token]
        return ids

    return encode


# ---------------------------------------------------------------------------------------------------------------------
# Tokens of the user's own


def _own_tokens(document: Mapping[str, Any], normalise: Callable[[str], str]) -> tuple[dict[str, int], dict[str, int]]:
    """Those that are looked for in the text, and those that are looked for in the normalised text, with their ids."""
    raw, normal = {}, {}
    for token in document["added_tokens"]:
        if token["special"]:
            continue
        if token["single_word"] or token["lstrip"] or token["rstrip"]:
            raise ValueError(f"{token['content']!r} takes spaces or word borders with it: not written down here")
        if token["normalized"]:
            normal[normalise(token["content"])] = token["id"]
        else:
            raw[token["content"]] = token["id"]
    return raw, normal


def _split(text: str, tokens: Mapping[str, int]) -> Iterator[tuple[int, str, int | None]]:
    """The parts, where each begins, and the ids of those that are tokens: the first, of these the longest."""
    longest, start, at = max(map(len, tokens), default=0), 0, 0
    while longest and at < len(text):
        name = next((text[at : at + n] for n in range(longest, 0, -1) if text[at : at + n] in tokens), None)
        if name is None:
            at += 1
            continue
        if start < at:
            yield start, text[start:at], None
        yield at, name, tokens[name]
        start = at = at + len(name)
    if start < len(text):
        yield start, text[start:], None


# ---------------------------------------------------------------------------------------------------------------------
# Pre-tokenizers


def _read_cut(step: Mapping[str, Any]) -> Cut:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            pattern = GPT2 if use_regex else r"[\s\S]+"
            return _each(lambda piece: [_in_byte_letters(word) for word in split_isolated(piece, pattern)])
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return _each(partial(split_isolated, pattern=pattern))
        case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}:
            return _each(lambda piece: piece.replace(" ", " \0").rstrip("\0").split("\0"))
        case {"type": "Digits", "individual_digits": True}:
            return _each(partial(split_isolated, pattern=r"\p{N}"))
        case {"type": "BertPreTokenizer"}:
            return _each(split_bert)
        case {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}:
            return partial(_metaspace, scheme=scheme, split=split)
    raise ValueError(f"the pre-tokenizer {step} is not written down here")


def _each(cut: Callable[[str], list[str]]) -> Cut:
    return lambda pieces, first: [word for piece in pieces for word in cut(piece)]


def _in_byte_letters(word: str) -> str:
    return "".join(_BYTE_LETTERS[byte] for byte in word.encode())


def _metaspace(pieces: list[str], first: bool, scheme: str, split: bool) -> list[str]:
    out = []
    for place, piece in enumerate(pieces):
        marked = piece.replace(" ", SPACE)
        wanted = scheme == "always" or (scheme == "first" and first and place == 0)
        if wanted and not marked.startswith(SPACE):
            marked = SPACE + marked
        out += [part for part in marked.replace(SPACE, "\0" + SPACE).split("\0") if part] if split else [marked]
    return out
