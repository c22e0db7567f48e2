"""Settings of the trainers: BPE, WordPiece, Unigram."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from lmworks.config import positive, within

Rule = Literal["none", "gpt2", "gpt4", "metaspace"]
Digits = Literal["run", "one", "three"]
Normal = Literal["none", "NFC", "NFKC"]
RULES, DIGITS, NORMALS = get_args(Rule), get_args(Digits), get_args(Normal)

END_OF_TEXT = "<|endoftext|>"
MOST = 10**9  # of any setting: the compiled trainers keep such numbers, and small multiples of them, in 32 bits


@dataclass(frozen=True, slots=True)
class BpeConfig:
    """Byte-pair encoding (Sennrich et al. 2016).

    No number may be above `MOST`, a thousand million.

    vocabulary_size   tokens in all: special ones, the alphabet, and what merging makes
    words             how a text is cut into words, across which nothing is merged: "gpt2" (Radford et al. 2019),
                      "gpt4" (OpenAI's cl100k) or "none", on bytes; "metaspace" (Kudo & Richardson 2018), on characters
    digits            how many digits of a number make a word: all of a "run", "one", or at most "three"
    byte_fallback     with "metaspace": a character without a token becomes its bytes instead of <unk>
    coverage          with "metaspace": the share of all characters that is to have tokens of its own, rare ones last
    normalise         Unicode normal form of every text: "none", "NFC", "NFKC"
    special_tokens    tokens that no text becomes; the first ends a text
    min_frequency     how often two tokens must be neighbours to be merged
    max_token_length  bytes (with "metaspace", characters) of a token, at most; 0 for any number
    min_word_count    how often a word must occur to be learnt from
    """

    vocabulary_size: int = 32_000
    words: Rule = "gpt4"
    digits: Digits = "three"
    byte_fallback: bool = True
    coverage: float = 0.9995
    normalise: Normal = "none"
    special_tokens: tuple[str, ...] = (END_OF_TEXT,)
    min_frequency: int = 2
    max_token_length: int = 0
    min_word_count: int = 1

    def __post_init__(self) -> None:
        _check_choice("words", self.words, RULES)
        _check_choice("digits", self.digits, DIGITS)
        _check_choice("normalise", self.normalise, NORMALS)
        _check_special(self.special_tokens)
        if self.words == "metaspace" and (taken := [t for t in self.special_tokens if re.fullmatch("<0x..>", t)]):
            raise ValueError(f"special_tokens must not hold {taken[0]}, which stands for a byte")
        _check_coverage(self.coverage)
        _check_least(self, min_frequency=1, max_token_length=0, min_word_count=1)
        bytes_ = 256 if self.words != "metaspace" or self.byte_fallback else 0
        needed = len(self.special_tokens) + bytes_ + (self.words == "metaspace")
        _check_least(self, vocabulary_size=1)
        if self.vocabulary_size < needed:
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}, but the special tokens and the {bytes_} bytes are {needed}"
            )


@dataclass(frozen=True, slots=True)
class WordPieceConfig:
    """WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019), with pieces learnt by merging the most frequent pair.

    The published vocabularies were learnt by a program that is not public; today's tools merge by frequency, as here.

    vocabulary_size   tokens in all: special ones, characters at the beginning of a word and inside, and merged ones
    lowercase         texts are lowercased and lose their accents, as for the uncased BERT
    coverage          the share of all characters that is to have tokens of its own; words with others become [UNK]
    special_tokens    tokens that no text becomes, those of BERT's input among them
    min_frequency     how often two tokens must be neighbours to be merged
    max_token_length  characters of a token, at most; 0 for any number
    min_word_count    how often a word must occur to be learnt from
    """

    vocabulary_size: int = 30_522
    lowercase: bool = True
    coverage: float = 0.9999
    special_tokens: tuple[str, ...] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    min_frequency: int = 2
    max_token_length: int = 0
    min_word_count: int = 1

    def __post_init__(self) -> None:
        _check_special(self.special_tokens)
        for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"):
            if token not in self.special_tokens:
                raise ValueError(f"special_tokens must hold {token}, which BERT's input is made of")
        if inside := [token for token in self.special_tokens if token.startswith("##")]:
            raise ValueError(f"special_tokens must not begin as pieces inside a word do, got {inside[0]!r}")
        _check_coverage(self.coverage)
        _check_least(self, vocabulary_size=len(self.special_tokens) + 1)
        _check_least(self, min_frequency=1, max_token_length=0, min_word_count=1)


@dataclass(frozen=True, slots=True)
class UnigramConfig:
    """Unigram (Kudo 2018), whose texts are cut into the most probable pieces: the tokenizer of T5.

    vocabulary_size   tokens in all: special ones, with `byte_fallback` the bytes, characters, and longer pieces
    coverage          the share of all characters that is to have tokens of its own, rare ones last
    normalise         Unicode normal form of every text: "none", "NFC", "NFKC"
    special_tokens    tokens that no text becomes; </s> ends a text, <unk> is a character without a token
    byte_fallback     a character without a token becomes its bytes instead of <unk>
    max_piece_length  characters of a token, at most
    seed_size         longer pieces to begin with, the most frequent by their characters
    min_word_count    how often a word must occur to be learnt from
    """

    vocabulary_size: int = 32_000
    coverage: float = 0.9995
    normalise: Normal = "none"
    special_tokens: tuple[str, ...] = ("<pad>", "</s>", "<unk>")
    byte_fallback: bool = False
    max_piece_length: int = 16
    seed_size: int = 1_000_000
    min_word_count: int = 1

    def __post_init__(self) -> None:
        _check_choice("normalise", self.normalise, NORMALS)
        _check_special(self.special_tokens)
        for token in ("</s>", "<unk>"):
            if token not in self.special_tokens:
                raise ValueError(f"special_tokens must hold {token}")
        _check_coverage(self.coverage)
        _check_least(self, max_piece_length=1, seed_size=1, min_word_count=1)
        needed = len(self.special_tokens) + 256 * self.byte_fallback + 1
        _check_least(self, vocabulary_size=needed)
        longer = self.vocabulary_size - needed
        if self.seed_size < longer:
            raise ValueError(f"seed_size is {self.seed_size:,}, from which {longer:,} pieces cannot be chosen")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_coverage(coverage: float) -> None:
    positive(up_to=1, coverage=coverage)


def _check_least(config: object, **least: int) -> None:
    for name, bound in least.items():
        within(bound, MOST, **{name: getattr(config, name)})


def _check_special(tokens: tuple[str, ...]) -> None:
    if len(set(tokens)) != len(tokens) or "" in tokens:
        raise ValueError(f"special_tokens must be different and not empty, got {list(tokens)}")
    if short := [token for token in tokens if len(token) < 2]:
        raise ValueError(
            f"a special token has two letters at least, since text holds every single one; got {short[0]!r}"
        )
    if not tokens:
        raise ValueError(f"special_tokens must hold at least the one that ends a text, such as {END_OF_TEXT}")
