"""Normalisers: the steps from a text to what is cut into words."""

import re
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

from reference_words import SPACES, category

from lmworks.tokenizer.pre_tokenizer import steps_of
from lmworks.tokenizer.sentence_piece_normaliser import Charsmap

Step = Callable[[str], str]
# Blocks of ideographs around which BERT's tokenizer (Devlin et al. 2019) puts spaces.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def read_normaliser(part: Mapping[str, Any] | None) -> Step:
    """The function that a normaliser of `tokenizer.json` is; ValueError for one that is not written down here."""
    steps = [_read(step) for step in steps_of(part)]
    return lambda text: reduce(lambda done, step: step(done), steps, text)


def _read(step: Mapping[str, Any]) -> Step:
    match step:
        case {"type": "NFC" | "NFD" | "NFKC" | "NFKD" as form}:
            return partial(unicodedata.normalize, form)
        case {"type": "Lowercase"}:
            return _lowered
        case {"type": "Prepend", "prepend": before}:
            return lambda text: before + text if text else text
        case {"type": "Replace", "pattern": {"String": wanted}, "content": content}:
            return lambda text: text.replace(wanted, content)
        case {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}:
            expression = re.compile(pattern.replace(r"\z", r"\Z"))  # as Python writes the end of a text
            return lambda text: expression.sub(lambda match: content, text)
        case {"type": "Precompiled", "precompiled_charsmap": table}:
            return Charsmap(b64decode(table)).normalise
        case {"type": "BertNormalizer", "strip_accents": strip, "lowercase": lowercase}:
            steps = [_cleaned] if step["clean_text"] else []
            steps += [_apart] if step["handle_chinese_chars"] else []
            steps += [_without_accents] if (lowercase if strip is None else strip) else []
            steps += [_lowered] if lowercase else []
            return lambda text: reduce(lambda done, step: step(done), steps, text)
    raise ValueError(f"the normaliser {step['type']} is not written down here: {step}")


def _lowered(text: str) -> str:
    """Every letter by itself: a Greek sigma at the end of a word does not become the final one."""
    return "".join(letter.lower() for letter in text)


def _cleaned(text: str) -> str:
    """Without control characters and what stands for them, and with plain spaces."""
    kept = (c for c in text if c in "\t\n\r" or not (c == "\ufffd" or category(c) in ("Cc", "Cf", "Co")))
    return "".join(" " if character in SPACES else character for character in kept)


def _apart(text: str) -> str:
    return "".join(f" {c} " if any(first <= ord(c) <= last for first, last in _IDEOGRAPHS) else c for c in text)


def _without_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if category(letter) != "Mn")
