"""More tokens for a vocabulary: those that a new domain or language needs, each with its old pieces.

For BPE new merges are appended to the old ones. Merging runs in the order of the list, so every text is first encoded
as before, and only then are the new pairs joined: an encoding changes where a new token applies and nowhere else. A
character that SentencePiece's BPE could only spell by its bytes becomes a token first.

Other models get added tokens: strings that are looked for before anything is encoded. So do texts that BPE's rule for
words cuts. They begin and end where words do, and no space is a part of them. Pieces of words cannot be appended there:
`why_no_pieces` says why.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import tokenizers
from tokenizers import AddedToken

from lmworks.config import at_least
from lmworks.progress import Report, no_report
from lmworks.tokenizer.fertility import Text
from lmworks.tokenizer.pre_tokenizer import SPACE
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.training.continued_merges import (
    BYTE,
    Names,
    byte_names,
    characters_in_bytes,
    continue_merges,
    count_encoded_words,
    encoded_words,
    with_characters,
)
from lmworks.tokenizer.training.merges import merged

LEAST_HELD_OUT = 2  # documents: one has no spread


@dataclass(frozen=True)
class Extension:
    """`tokenizer` has all old tokens with their old ids, and the new ones behind them.

    pieces    new id -> ids of the old vocabulary that stood for the same text, in the order of the new ids.
    merged    how many of them came by merges or characters; the rest are added tokens.
    """

    tokenizer: Tokenizer
    pieces: Mapping[int, tuple[int, ...]]
    merged: int


def extend_for_texts(
    tokenizer: Tokenizer, texts: Iterable[str], count: int, least: int = 2, progress: Report = no_report
) -> Extension:
    """At most `count` new tokens, chosen because `texts` need them; each occurs `least` times, at least.

    BPE's training continues where it stopped: the most frequent pair of neighbouring tokens inside a word becomes one
    (Sennrich et al. 2016). Fewer tokens where the texts hold no more; ValueError where they hold none, and for another
    kind of vocabulary. `progress` counts characters read, then of merges.
    """
    at_least(1, count=count, least=least)
    if isinstance(texts, str):
        raise ValueError("texts are several: give a list of strings, or [text] for a single one")
    if (reason := why_no_pieces(tokenizer)) is not None:
        raise ValueError(
            f"this vocabulary cannot get more pieces of words: {reason}. Whole words can be added, which change no "
            'other word: lmworks.model.extend_vocabulary(lmworks.load(...), ["antibody", "antigen"])'
        )
    draft = _Draft(tokenizer)
    words = count_encoded_words(tokenizer, texts, progress)
    draft.add_characters(words, count, least)
    draft.learn(words, count, least, progress)
    return draft.extension("the texts hold nothing that is worth a token: give more text, or a smaller `least`")


def extend_by_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> Extension:
    """The given texts as new tokens, such as "photosynthesis", " photosynthesis" or "<tool>".

    With BPE a text of one word is merged from its pieces, left to right, and the tokens between are new as well. It is
    the token wherever it is cut as it is by itself: a word that begins in the same way is another word. Where a
    tokenizer puts a space before every text, as SentencePiece does, the two spellings of a word above are the same. A
    text that the rule for words cuts becomes an added token; such a tokenizer then puts a space behind it, too, as it
    does behind its special tokens. ValueError for a text that is a token already, that is given twice, or that could
    not be decoded.
    """
    if isinstance(tokens, str) or len(set(tokens)) < len(tokens):
        raise ValueError(f"the tokens must be a list of different texts, got {tokens!r}")
    draft = _Draft(tokenizer)
    puts_space = tokenizer.backend.encode("a", add_special_tokens=False).tokens[:1] in ([SPACE], [f"{SPACE}a"])
    for token in tokens:
        if not token.strip():
            raise ValueError(f"a new token needs letters, got {token!r}")
        text = token[1:] if token.startswith(" ") and puts_space else token
        words = encoded_words(tokenizer, text)
        if not words:
            raise ValueError(f"{token!r} is nothing to this tokenizer, which leaves its characters out of every text")
        if sum(map(len, words)) == 1 and not _unknown(tokenizer, text):
            raise ValueError(f"{token!r} is one token already")
        if not (why_no_pieces(tokenizer) is None and len(words) == 1 and draft.chain(words[0])):
            draft.add_whole(token)
    return draft.extension("give a token at least")


def why_no_pieces(tokenizer: Tokenizer) -> str | None:
    """The reason that pieces of words cannot be appended to a vocabulary; None where they can, which is BPE."""
    model = tokenizer.backend.model
    kind = type(model).__name__
    if kind == "BPE":
        if not (mark := model.continuing_subword_prefix or model.end_of_word_suffix):
            return None
        return f"this BPE marks pieces by where in a word they are ({mark!r}), so that no name is those of its parts"
    return {
        "Unigram": "Unigram cuts a text into its most probable pieces, so that a new piece, with a probability of its "
        "own, changes how words are cut that do not become it; there is no order in which old pieces come first",
        "WordPiece": "WordPiece takes the longest piece that a word begins with, so that a new piece changes how all "
        "words are cut that begin with it, and what is left of one may be unknown",
    }.get(kind, f"{kind} knows whole words only")


class _Draft:
    """New tokens for a tokenizer; names are the vocabulary's spellings of tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._old = tokenizer.backend.get_vocab(with_added_tokens=True)
        self._state = json.loads(tokenizer.backend.to_str())
        if self._state["model"].get("dropout"):
            raise ValueError(
                f"this tokenizer leaves out merges at random (dropout = {self._state['model']['dropout']}): set it to "
                "null in tokenizer.json"
            )
        # Whether a character without a token becomes tokens of its bytes, as in SentencePiece's BPE.
        self._falls_back = bool(self._state["model"].get("byte_fallback"))
        # What stands for something else than its letters: no part of a merge.
        self._apart = {name for name in self._old if BYTE.fullmatch(name)} if self._falls_back else set()
        self._apart |= {*tokenizer.special_ids, *tokenizer.roles.values(), self._state["model"].get("unk_token")} - {
            None
        }
        self._pieces: dict[str, Names] = {}  # new name -> old names, in the order of the new ids
        self._merges: list[tuple[str, str]] = []
        self._whole: dict[str, tuple[int, ...]] = {}

    # -----------------------------------------------------------------------------------------------------------------
    # Choosing

    def add_characters(self, words: Mapping[Names, int], count: int, least: int) -> None:
        """Characters that are spelled by bytes so far (SentencePiece's BPE), the most frequent first."""
        occurrences: Counter[str] = Counter()
        for word, times in words.items() if self._falls_back else ():
            for character in characters_in_bytes(word):
                occurrences[character] += times
        for character, times in sorted(occurrences.items(), key=lambda item: (-item[1], item[0])):
            if times >= least and len(self._pieces) < count:
                self._add_character(character)

    def _add_character(self, character: str) -> None:
        spelled = byte_names(character)
        if len(spelled) > 1 and self._is_free(character):  # one byte, as of a line break, is one token already
            self._pieces[character] = spelled

    def learn(self, words: Mapping[Names, int], count: int, least: int, progress: Report) -> None:
        """Merges until there are `count` new tokens."""
        spelled: Counter[Names] = Counter()
        for word, times in words.items():
            spelled[tuple(self._spelled(word))] += times
        left = count - len(self._pieces)
        taken = self._names_in_parts()
        for pair in continue_merges(spelled, left, least=least, apart=self._apart, taken=taken, progress=progress):
            self._merge(*pair)

    def _names_in_parts(self) -> Iterator[Names]:
        """The tokens of each name that merging does not lead to."""
        model = self._tokenizer.backend.model
        if self._state["model"].get("ignore_merges"):  # a word that has a name is not merged, but a part of one is
            model = tokenizers.Tokenizer.from_str(json.dumps(self._state)).model
            model.ignore_merges = False
        for name in self._old:
            pieces = self._spelled([token.value for token in model.tokenize(name)])
            if len(pieces) > 1 and "".join(pieces) == name:
                yield tuple(pieces)

    def chain(self, word: Names) -> bool:
        """Merges that make one token of a word; False where they would have to make tokens that there are already."""
        if self._falls_back:
            for character in characters_in_bytes(word):
                self._add_character(character)
        names, merges = self._spelled(word), list[tuple[str, str]]()
        if not self._apart.isdisjoint(names):
            return False
        while len(names) > 1:
            pair = next((pair for pair in pairwise(names) if self._is_free("".join(pair))), None)
            if pair is None:
                return False
            merges.append(pair)
            names = merged(names, pair, "".join(pair))
        for pair in merges:
            self._merge(*pair)
        return True

    def _is_free(self, name: str) -> bool:
        return name not in self._old and name not in self._pieces and name not in self._whole

    def add_whole(self, token: str) -> None:
        if not self._is_free(token):
            raise ValueError(f"{token!r} is a token already")
        self._whole[token] = tuple(self._tokenizer.encode(token))

    def _spelled(self, names: Sequence[str]) -> list[str]:
        """Names of a word's tokens under the old merges -> under the new characters and the new merges, too."""
        spelled = with_characters(names, self._pieces) if self._falls_back and self._pieces else list(names)
        for pair in self._merges:  # each is of a lower rank than the one before
            if pair[0] in spelled and pair[1] in spelled:
                spelled = merged(spelled, pair, "".join(pair))
        return spelled

    def _merge(self, left: str, right: str) -> None:
        self._merges.append((left, right))
        pieces = (piece for name in (left, right) for piece in self._pieces.get(name, (name,)))
        self._pieces[left + right] = tuple(pieces)

    # -----------------------------------------------------------------------------------------------------------------
    # Making

    def extension(self, nothing: str) -> Extension:
        if not self._pieces and not self._whole:
            raise ValueError(nothing)
        first = max(self._old.values()) + 1
        pieces = {
            first + number: tuple(map(self._old.__getitem__, names))
            for number, names in enumerate(self._pieces.values())
        }
        whole = {token: first + len(pieces) + number for number, token in enumerate(self._whole)}
        pieces |= {index: self._whole[token] for token, index in whole.items()}
        if (model := self._state["model"])["type"] == "BPE":
            # Added tokens get ids of their own: one that is not in the model's vocabulary is numbered when the file is
            # read, as the next after the vocabulary, and would be another one now.
            model["vocab"] |= {token["content"]: token["id"] for token in self._state["added_tokens"]}
            model["vocab"] |= {name: first + offset for offset, name in enumerate(self._pieces)} | whole
            model["merges"] += map(list, self._merges)
        backend = tokenizers.Tokenizer.from_str(json.dumps(self._state))
        normalized = self._state["normalizer"] is not None
        # A word is looked for in the normalised text and only as a whole word, anything else as it is and everywhere.
        added = [(token, token.isalnum()) for token in whole]
        backend.add_tokens([AddedToken(t, single_word=word, normalized=word and normalized) for t, word in added])
        extended = Tokenizer(backend, self._tokenizer.roles, self._tokenizer.eos_ids)
        self._check(extended, whole)
        return Extension(extended, pieces, len(self._pieces))

    def _check(self, extended: Tokenizer, whole: Mapping[str, int]) -> None:
        """ValueError where the library makes something else of a tokenizer.json than was meant."""
        for token, index in whole.items():
            if extended.backend.token_to_id(token) != index:
                raise ValueError(f"the ids of this tokenizer have gaps, so that {token!r} would not get the next one")
            if self._state["model"]["type"] == "BPE" and extended.decode([index]).lstrip(" ") != token.lstrip(" "):
                raise ValueError(
                    f"{token!r} cannot be an added token here: it would be decoded as {extended.decode([index])!r}, "
                    "with letters taken for bytes; give a word, or a name in ASCII"
                )


# ---------------------------------------------------------------------------------------------------------------------
# Added tokens


def _unknown(tokenizer: Tokenizer, text: str) -> bool:
    unknown = tokenizer.roles.get("unk_token")
    return unknown is not None and tokenizer.backend.token_to_id(unknown) in tokenizer.encode(text)


# ---------------------------------------------------------------------------------------------------------------------
# Documents to measure on


def hold_out(text: Text, share: float) -> tuple[Text, Text]:
    """The documents to choose tokens from, and at least this share of the different ones, held out to measure on.

    On the documents that tokens were chosen from, any number of them looks good: a token for a name that one document
    repeats saves a lot there and nothing elsewhere. So whole documents are held out, and equal ones stay together.
    Which ones depends on the documents alone, not on their order. ValueError where that leaves less than
    `LEAST_HELD_OUT` on either side, and for a share that is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of documents to hold out lies between 0 and 1, got {share}")
    different = list({passage for passage in text.passages if passage.strip()})
    different.sort(key=lambda passage: hashlib.sha256(passage.encode("utf-8", "surrogatepass")).digest())
    count = max(math.ceil(share * len(different)), LEAST_HELD_OUT)
    if len(different) - count < LEAST_HELD_OUT:
        raise ValueError(
            f"{len(different)} different documents are too few to choose tokens from some and hold {share:.0%} out: "
            "give several files, a file with several lines, or a .jsonl file with several rows"
        )
    held = set(different[:count])
    sides = ([passage for passage in text.passages if (passage in held) == side] for side in (False, True))
    chosen_from, measured_on = (Text(tuple(passages), text.unit) for passages in sides)
    return chosen_from, measured_on
