"""The words of a text as its encoding has them: each as the names of its tokens.

They are read off the whole encoding, so that the normaliser, the rule for words and added tokens all have their say:
what is cut here is cut in every text, and what is in a word can be merged.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tokenizers import Encoding

from lmworks.progress import Report, no_report
from lmworks.tokenizer.sentence_piece import SPACE
from lmworks.tokenizer.tokenizer import Tokenizer

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a byte of a character without a token, as SentencePiece's BPE spells it
_BATCH = 1 << 20  # characters encoded at once

Names = tuple[str, ...]


def count_words(tokenizer: Tokenizer, texts: Iterable[str], progress: Report = no_report) -> Counter[Names]:
    """How often each word occurs that is more than one token; `progress` is told of characters."""
    words: Counter[Names] = Counter()
    done = 0
    for batch in _batches(texts):
        for encoding in tokenizer.backend.encode_batch(batch, add_special_tokens=False):
            words.update(word for word in _cut(encoding) if len(word) > 1)
        done += sum(map(len, batch))
        progress(done, None, "characters")
    return words


def words_of(tokenizer: Tokenizer, text: str) -> list[Names]:
    """The words of one text, in order."""
    return list(_cut(tokenizer.backend.encode(text, add_special_tokens=False)))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cut(encoding: Encoding) -> Iterator[Names]:
    """An added token is a word of its own. To SentencePiece a text is one word; it is cut before spaces here."""
    tokens, numbers = encoding.tokens, encoding.word_ids
    start = 0
    for place in range(1, len(tokens) + 1):
        ends = place == len(tokens) or numbers[place] != numbers[start]
        if ends or (tokens[place].startswith(SPACE) and not tokens[place - 1].endswith(SPACE)):
            yield tuple(tokens[start:place])
            start = place


# ---------------------------------------------------------------------------------------------------------------------
# Characters that are spelled by their bytes


def in_bytes(names: Sequence[str]) -> str:
    """The characters that are spelled by bytes among the names of a word's tokens, in order."""
    return "".join(_text(list(run)) for spelled, run in groupby(names, _is_byte) if spelled)


def with_characters(names: Sequence[str], characters: Iterable[str]) -> list[str]:
    """The names with those of `characters` that are spelled by bytes as one name."""
    known, joined = set(characters), list[str]()
    for spelled, run in groupby(names, _is_byte):
        if not spelled:
            joined += run
            continue
        for character in _text(list(run)):
            joined += [character] if character in known else byte_names(character)
    return joined


def byte_names(character: str) -> Names:
    return tuple(f"<0x{byte:02X}>" for byte in character.encode())


def _is_byte(name: str) -> bool:
    return BYTE.fullmatch(name) is not None


def _text(names: list[str]) -> str:
    """A run of bytes is of whole characters, since one is spelled by bytes as a whole."""
    return bytes(int(name[3:5], 16) for name in names).decode()
