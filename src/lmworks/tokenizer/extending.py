"""More tokens for a vocabulary: those that a new domain or language needs, each with its old pieces.

For BPE new merges are appended to the old ones. Merging runs in the order of the list, so every text is first encoded
as before, and only then are the new pairs joined: an encoding changes where a new token applies and nowhere else. A
character that SentencePiece's BPE could only spell by its bytes becomes a token first.

Other models (WordPiece, Unigram), and texts that BPE's rule for words cuts, get added tokens: strings that are looked
for before anything is encoded. Those begin and end where words do, and no space is a part of them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import tokenizers
from tokenizers import AddedToken

from lmworks.tokenizer.sentence_piece import SPACE
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.merges_reference import learn_merges, merged

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Extension:
    """`tokenizer` has all old tokens with their old ids, and the new ones behind them.

    pieces    new id -> ids of the old vocabulary that stood for the same text, in the order of the new ids.
    merged    how many of them came by merges or characters; the rest are added tokens.
    """

    tokenizer: Tokenizer
    pieces: Mapping[int, tuple[int, ...]]
    merged: int


def extend_for_texts(tokenizer: Tokenizer, texts: Iterable[str], count: int, least: int = 2) -> Extension:
    """At most `count` new tokens, chosen because `texts` need them; each occurs `least` times, at least.

    With BPE the training goes on where it stopped: the most frequent pair of neighbouring tokens inside a word becomes
    one (Sennrich et al. 2016). Otherwise the words are added whose pieces occur most often. Fewer tokens where the
    texts hold no more; ValueError where they hold none.
    """
    if count < 1 or least < 1:
        raise ValueError(f"count and least must be 1 or more, got {count} and {least}")
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_words(tokenizer, text))
    draft = _Draft(tokenizer)
    if _merges(tokenizer):
        draft.add_characters(words, count, least)
        draft.learn(words, count, least)
    else:
        for word in _costly(tokenizer, words, count, least):
            draft.add_whole(word)
    return draft.extension("the texts hold nothing that is worth a token: give more text, or a smaller `least`")


def extend_by_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> Extension:
    """The given texts as new tokens, such as "photosynthesis", " photosynthesis" or "<tool>".

    With BPE a text of one word is merged from its pieces, left to right, and the tokens between are new as well. It is
    the token wherever it is cut as it is by itself: a word that begins in the same way is another word. A text that the
    rule for words cuts becomes an added token. ValueError for a text that is a token already.
    """
    draft = _Draft(tokenizer)
    for token in tokens:
        if not token.strip():
            raise ValueError(f"a new token needs letters, got {token!r}")
        if not tokenizer.encode(token):
            raise ValueError(f"{token!r} is nothing to this tokenizer, which leaves its characters out of every text")
        if len(tokenizer.encode(token)) == 1 and not _unknown(tokenizer, token):
            raise ValueError(f"{token!r} is one token already")
        words = _words(tokenizer, token)
        if not (_merges(tokenizer) and len(words) == 1 and draft.chain(words[0])):
            draft.add_whole(token)
    return draft.extension("give a token at least")


class _Draft:
    """What a tokenizer is to get; names are the vocabulary's spellings of tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._old = tokenizer.backend.get_vocab(with_added_tokens=True)
        self._model = tokenizer.backend.model
        # What stands for something else than its letters: no part of a merge.
        self._never = {name for name in self._old if _BYTE.fullmatch(name)} if _falls_back(tokenizer) else set()
        self._never |= {*tokenizer.special_ids, *tokenizer.roles.values()}
        self._pieces: dict[str, tuple[str, ...]] = {}  # new name -> old names, in the order of the new ids
        self._merges: list[tuple[str, str]] = []
        self._whole: dict[str, tuple[int, ...]] = {}

    # -----------------------------------------------------------------------------------------------------------------
    # Choosing

    def add_characters(self, words: Mapping[str, int], count: int, least: int) -> None:
        """Characters that are spelled by bytes so far (SentencePiece's BPE), the most frequent first."""
        found: Counter[str] = Counter()
        for word, times in words.items() if _falls_back(self._tokenizer) else ():
            for character in word if any(map(_BYTE.fullmatch, self._spelled(word))) else "":
                if character not in self._old:
                    found[character] += times
        for character, times in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:count]:
            if times >= least:
                self._pieces[character] = tuple(f"<0x{byte:02X}>" for byte in character.encode())

    def learn(self, words: Mapping[str, int], count: int, least: int) -> None:
        """Merges until there are `count` new tokens."""
        spelled = [(self._spelled(word), times) for word, times in words.items()]
        names = sorted({name for symbols, _ in spelled for name in symbols})
        number = {name: index for index, name in enumerate(names)}
        taken = self._old.keys() | self._pieces.keys()

        def allowed(symbols: tuple[int, ...]) -> bool:
            """A name can be spelled in several ways; only one is merged, and never to a token that there is already."""
            parts = [names[symbol] for symbol in symbols]
            return "".join(parts) not in taken and self._never.isdisjoint(parts)

        pairs = learn_merges(
            [([number[name] for name in symbols], times) for symbols, times in spelled], len(names), least, allowed
        )
        for left, right, _ in islice(pairs, count - len(self._pieces)):
            self._merge(names[left], names[right])
            names.append(names[left] + names[right])
            taken.add(names[-1])

    def chain(self, word: str) -> bool:
        """Merges that make one token of a word; False where they would have to make tokens that there are already."""
        names, merges = self._spelled(word), list[tuple[str, str]]()
        while len(names) > 1:
            pair = next((pair for pair in pairwise(names) if self._is_free("".join(pair))), None)
            if pair is None or not self._never.isdisjoint(pair):
                return False
            merges.append(pair)
            names = _joined(names, pair)
        for pair in merges:
            self._merge(*pair)
        return True

    def _is_free(self, name: str) -> bool:
        return name not in self._old and name not in self._pieces

    def add_whole(self, token: str) -> None:
        if not self._is_free(token) or token in self._whole:
            raise ValueError(f"{token!r} is a token already")
        self._whole[token] = tuple(self._tokenizer.encode(token))

    def _spelled(self, word: str) -> list[str]:
        """The names of a word's tokens, under the old merges, the new characters and the new merges."""
        names = [token.value for token in self._model.tokenize(word)]
        if self._pieces and any(map(_BYTE.fullmatch, names)):
            names = self._with_characters(names)
        for pair in self._merges:  # each is of a lower rank than the one before
            if pair[0] in names and pair[1] in names:
                names = _joined(names, pair)
        return names

    def _with_characters(self, names: list[str]) -> list[str]:
        text = "\0".join(names)
        for character, pieces in self._pieces.items():
            if len(character) == 1:
                text = text.replace("\0".join(pieces), character)
        return text.split("\0")

    def _merge(self, left: str, right: str) -> None:
        self._merges.append((left, right))
        parts = (part for name in (left, right) for part in self._pieces.get(name, (name,)))
        self._pieces[left + right] = tuple(parts)

    # -----------------------------------------------------------------------------------------------------------------
    # Making

    def extension(self, nothing: str) -> Extension:
        if not self._pieces and not self._whole:
            raise ValueError(nothing)
        state = json.loads(self._tokenizer.backend.to_str())
        first = max(self._old.values()) + 1
        if self._pieces:
            self._write(state["model"], first)
        backend = tokenizers.Tokenizer.from_str(json.dumps(state))
        backend.add_tokens([_whole_token(token, state["normalizer"] is not None) for token in self._whole])
        pieces = {
            first + place: tuple(map(self._old.__getitem__, names)) for place, names in enumerate(self._pieces.values())
        }
        for place, (token, ids) in enumerate(self._whole.items(), start=first + len(pieces)):
            if backend.token_to_id(token) != place:
                raise ValueError(f"the ids of this tokenizer have gaps, so that {token!r} would not get the next one")
            pieces[place] = ids
        old = self._tokenizer
        return Extension(Tokenizer(backend, old.roles, old.eos_ids), pieces, len(self._pieces))

    def _write(self, model: dict[str, Any], first: int) -> None:
        """The new tokens and merges into the `model` of a tokenizer.json, in the form that its merges have."""
        model["vocab"] |= {name: first + place for place, name in enumerate(self._pieces)}
        joined = bool(model["merges"]) and isinstance(model["merges"][0], str)
        model["merges"] += [" ".join(pair) if joined else list(pair) for pair in self._merges]


def _joined(names: list[str], pair: tuple[str, str]) -> list[str]:
    """`names` with every `pair` of neighbours, from the left, as one."""
    number = {name: index for index, name in enumerate(dict.fromkeys((*names, *pair)))}
    spelled = [*number, "".join(pair)]
    left, right = (number[name] for name in pair)
    return [spelled[i] for i in merged([number[name] for name in names], (left, right), len(number))]


def _merges(tokenizer: Tokenizer) -> bool:
    """BPE whose tokens are spelled by putting the names of their parts together."""
    model = tokenizer.backend.model
    plain = ("continuing_subword_prefix", "end_of_word_suffix")
    return type(model).__name__ == "BPE" and not any(getattr(model, name) for name in plain)


def _falls_back(tokenizer: Tokenizer) -> bool:
    """Whether a character without a token becomes tokens of its bytes, as in SentencePiece's BPE."""
    return getattr(tokenizer.backend.model, "byte_fallback", False)


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text as the model gets them: normalised, cut, and in the letters of the vocabulary."""
    backend = tokenizer.backend
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    if backend.pre_tokenizer is not None:
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return re.findall(f"{SPACE}*[^{SPACE}]+|{SPACE}+", text)  # SentencePiece: a text is one word, spaces included


def _costly(tokenizer: Tokenizer, words: Mapping[str, int], count: int, least: int) -> list[str]:
    """The words whose pieces occur most often beyond one for each, an unknown piece counted as one too many."""
    gains: Counter[str] = Counter()
    for name, times in words.items():
        word = name.removeprefix(SPACE)
        if times >= least and len(word) > 1 and word.isalnum():
            pieces = len(tokenizer.encode(word))
            gains[word] += times * (pieces - 1 + _unknown(tokenizer, word))
    ranked = sorted(gains.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, gain in ranked if gain > 0][:count]


def _unknown(tokenizer: Tokenizer, text: str) -> bool:
    unknown = tokenizer.roles.get("unk_token")
    return unknown is not None and tokenizer.backend.token_to_id(unknown) in tokenizer.encode(text)


def _whole_token(token: str, normalized: bool) -> AddedToken:
    """A word is looked for in the normalised text and only as a whole word, anything else as it is and everywhere."""
    word = token.isalnum()
    return AddedToken(token, single_word=word, normalized=word and normalized)
