"""Continued BPE training: merges learnt where a vocabulary's own have ended, from texts as they are encoded now.

Words are read off whole encodings, each as the names of its tokens, so that the normaliser, the rule for words and
added tokens all have their say: what is cut here is cut in every text, and what is in a word can be merged.

A name that is in the vocabulary must not be made a second time. That is a question of spelling, which the learner does
not know, and need not: in all encodings by merges a name is cut in one way only. No merge has
crossed the borders of such a stretch, since it would not be one otherwise, so the same merges have run inside it as
would run on its letters alone (they are chosen by rank, then from the left, and know no context). The tokens that a
name becomes by itself are therefore the only ones that could be merged to it.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from tokenizers import Encoding

from lmworks.progress import Report, no_report
from lmworks.tokenizer.library import batches
from lmworks.tokenizer.pre_tokenizer import SPACE
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.initial_symbols import BOUNDARY, lay_out
from lmworks.tokenizer.training.merges import learn_merges

BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a byte of a character without a token, as SentencePiece's BPE spells it
_BATCH = 1 << 20  # characters encoded at once
Names = tuple[str, ...]


def continue_merges(
    words: Mapping[Names, int],
    count: int,
    *,
    least: int = 1,
    apart: Collection[str] = (),
    taken: Iterable[Names] = (),
    progress: Report = no_report,
) -> list[tuple[str, str]]:
    """At most `count` merges, each the two names that it joins, the most frequent pair first.

    words   words in the names of their tokens, and how often each occurs
    least   a pair that is rarer is not merged
    apart   names that stand for something else than their letters: no part of a merge
    taken   what names that there are already become by themselves, so that none is made again

    Of equally frequent pairs the first by name is merged, tokens that are made here in the order of making after all
    others. The same words in any order give the same merges.
    """
    alphabet = tuple(sorted({name for word in words for name in word} - set(apart)))
    symbol_of = {name: symbol for symbol, name in enumerate(alphabet)}
    ordered = sorted(words, key=lambda word: -words[word])
    lengths = np.fromiter(map(len, ordered), np.int64, len(ordered))
    counts = np.fromiter((words[word] for word in ordered), np.int64, len(ordered))
    symbols = (symbol_of.get(name, BOUNDARY) for word in ordered for name in word)
    spelling = lay_out(alphabet, np.fromiter(symbols, np.int32, int(lengths.sum())), lengths, counts)
    return learn_merges(spelling, len(alphabet) + count, least=least, forbidden=taken, progress=progress).pairs()


# ---------------------------------------------------------------------------------------------------------------------
# Words as their encodings have them


def count_encoded_words(tokenizer: Tokenizer, texts: Iterable[str], progress: Report = no_report) -> Counter[Names]:
    """Occurrences of each word that is more than one token; `progress` counts characters."""
    words: Counter[Names] = Counter()
    done = 0
    for batch in batches(texts, _BATCH):
        for encoding in tokenizer.backend.encode_batch(batch, add_special_tokens=False):
            words.update(word for word in _cut(encoding) if len(word) > 1)
        done += sum(map(len, batch))
        progress(done, None, "characters")
    return words


def encoded_words(tokenizer: Tokenizer, text: str) -> list[Names]:
    """The words of one text, in order."""
    return list(_cut(tokenizer.backend.encode(text, add_special_tokens=False)))


def _cut(encoding: Encoding) -> Iterator[Names]:
    """An added token is a word of its own. To SentencePiece a text is one word; it is cut before spaces here."""
    tokens, numbers = encoding.tokens, encoding.word_ids
    start = 0
    for end in range(1, len(tokens) + 1):
        ends = end == len(tokens) or numbers[end] != numbers[start]
        if ends or (tokens[end].startswith(SPACE) and not tokens[end - 1].endswith(SPACE)):
            yield tuple(tokens[start:end])
            start = end


# ---------------------------------------------------------------------------------------------------------------------
# Characters that are spelled by their bytes


def characters_in_bytes(names: Sequence[str]) -> str:
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
