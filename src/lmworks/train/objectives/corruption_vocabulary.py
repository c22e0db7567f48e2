"""The vocabulary as the corruption of texts needs it: which tokens are text, and which are words."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.tokenizer.token_bytes import token_bytes
from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Which tokens belong to one word, by their numbers.

    begins  (vocabulary,) bool: this token begins a word, whatever comes before it
    ends    (vocabulary,) bool: the next token begins one, whatever it is
    """

    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]

    def numbers(self, ids: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each token's word in the row, from 0; all (n,). No word reaches over into another document."""
        starts = self.begins[ids]
        starts[1:] |= self.ends[ids[:-1]] | (documents[1:] != documents[:-1])
        starts[:1] = True
        return np.cumsum(starts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """mask   the id that hides a token
    text   (vocabulary,) bool: tokens that stand for text; only these are hidden, and drawn in the place of others
    words  to treat the tokens of a word alike; None: each token by itself
    """

    mask: int
    text: NDArray[np.bool_]
    words: Words | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mask < len(self.text):
            raise ValueError(f"the mask token {self.mask} is outside the vocabulary of {len(self.text)}")
        if not self.text.any():
            raise ValueError("no token of the vocabulary stands for text")

    @classmethod
    def of(cls, tokenizer: Tokenizer, whole_words: bool = False) -> "Vocabulary":
        """ValueError for a tokenizer without a mask token, and with `whole_words` as `words_of`."""
        name = tokenizer.roles.get("mask_token")
        mask = None if name is None else tokenizer.backend.token_to_id(name)
        if mask is None:
            raise ValueError(
                "the tokenizer has no mask_token: give it that role and a token such as [MASK], with "
                "`lmworks tokenizer extend` where the vocabulary has none"
            )
        return cls(mask, text_tokens(tokenizer), words_of(tokenizer) if whole_words else None)

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """(count,) tokens of text, each as likely as any other."""
        tokens = np.flatnonzero(self.text)
        return tokens[generator.integers(len(tokens), size=count)]


def text_tokens(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """(vocabulary,) bool: no special token, none with a role, none that ends a text, and no gap in the ids."""
    text = np.zeros(tokenizer.vocabulary_size, bool)
    text[list(tokenizer.backend.get_vocab(with_added_tokens=True).values())] = True
    roles = (tokenizer.backend.token_to_id(token) for token in tokenizer.roles.values())
    text[[*tokenizer.special_ids.values(), *roles, *tokenizer.eos_ids]] = False
    return text


def words_of(tokenizer: Tokenizer) -> Words:
    """Which tokens begin and end words.

    WordPiece says of a token that it continues a word. The others have the space before a word in its first token, so
    that all without one continue, punctuation too; after a token that ends in a space, such as a line break, a word
    begins. What is no text is a word of its own. ValueError for a tokenizer of which neither is known.
    """
    text = text_tokens(tokenizer)
    model = json.loads(tokenizer.backend.to_str())["model"]
    if model["type"] == "WordPiece":
        begins, ends = ~text, ~text
        for token, index in tokenizer.backend.get_vocab(with_added_tokens=True).items():
            begins[index] |= not token.startswith(model["continuing_subword_prefix"])
        return Words(begins, ends)
    spelled = token_bytes(tokenizer)
    return Words(
        np.array([not text[index] or token[:1].isspace() for index, token in enumerate(spelled)]),
        np.array([not text[index] or token[-1:].isspace() for index, token in enumerate(spelled)]),
    )
