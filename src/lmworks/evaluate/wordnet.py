"""Synonyms of English words: the single words of WordNet 3.0 that share a synset (`wordnet.txt.gz`).

A line of the file is a part of speech (n, v, a, r) and the words of a synset; words that are alone in theirs stand one
a line, as base forms of inflected ones. Lines that begin with "!" are exceptions: part of speech, inflected form, base
forms. `docs/wordnet.py` makes the file from Princeton's; `WORDNET-LICENSE` is its licence.

Source: Fellbaum (ed.) 1998, "WordNet: An Electronic Lexical Database"; morphy(7WN) for base forms.
"""

import gzip
from collections import defaultdict
from functools import cache, lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("wordnet.txt.gz")
# Pairs "suffix:replacement", for each part of speech.
DETACHMENT = {
    "n": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "v": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "a": "er: est: er:e est:e",
    "r": "",
}


@cache
def _tables() -> tuple[dict[tuple[str, str], list[list[str]]], dict[tuple[str, str], list[str]]]:
    """(part of speech, word in lower case) -> its synsets, and -> its irregular base forms."""
    synsets: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
    exceptions: dict[tuple[str, str], list[str]] = {}
    for line in gzip.decompress(FILE.read_bytes()).decode().splitlines():
        kind, *words = line.split(" ")
        if kind.startswith("!"):
            exceptions[kind[1:], words[0]] = words[1:]
            continue
        for word in words:
            synsets[kind, word.lower()].append(words)
    return dict(synsets), exceptions


def base_forms(word: str, part: str) -> list[str]:
    """The word itself and its base forms, as far as WordNet has them as this part of speech."""
    synsets, exceptions = _tables()
    rules = [rule.split(":") for rule in DETACHMENT[part].split()]
    regular = [word[: -len(suffix)] + replacement for suffix, replacement in rules if word.endswith(suffix)]
    forms = [word, *exceptions.get((part, word), regular)]
    return [form for form in dict.fromkeys(forms) if (part, form) in synsets]


@lru_cache(1 << 16)
def synonyms(word: str) -> frozenset[str]:
    """Single words that share a synset with the word or one of its base forms, and the word in lower case itself."""
    synsets, lower = _tables()[0], word.lower()
    found = {
        one for part in DETACHMENT for form in base_forms(lower, part) for words in synsets[part, form] for one in words
    }
    return frozenset(found | {lower})
