"""Two texts in one sequence, as a cross-encoder reads them (Devlin et al. 2019, section 3): [CLS] first [SEP] second
[SEP].

All tokens have the type 0, as those of the sentence encoders that cross-encoders start from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class JoinedPair:
    """The ids of a pair, the place of the second text's first token, and where in that text its tokens begin and end.

    offsets   one (start, end) for each token of the second text that is read
    whole     whether both texts are read to their ends
    """

    ids: list[int]
    start: int
    offsets: list[tuple[int, int]]
    whole: bool


def join_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], length: int) -> list[JoinedPair]:
    """Each pair in at most `length` tokens: the first text is cut at half of them, the second where they end.
    ValueError for a vocabulary without tokens around a text."""
    firsts = {first: tokenizer.encode(first, special=True) for first, _ in pairs}
    tail = _tail(tokenizer)
    texts = list(dict.fromkeys(second for _, second in pairs))
    seconds = dict(zip(texts, tokenizer.backend.encode_batch(texts, add_special_tokens=False), strict=True))
    found = []
    for first, text in pairs:
        framed, second = firsts[first], seconds[text]
        head = framed if len(framed) <= length // 2 else framed[: length // 2 - len(tail)] + tail
        room = length - len(head) - len(tail)
        whole = len(second.ids) <= room and len(head) == len(framed)
        found.append(JoinedPair(head + second.ids[:room] + tail, len(head), second.offsets[:room], whole))
    return found


def _tail(tokenizer: Tokenizer) -> list[int]:
    """The tokens that close a text, such as [SEP]."""
    content, framed = tokenizer.encode("a"), tokenizer.encode("a", special=True)
    start = next(place for place in range(len(framed)) if framed[place : place + len(content)] == content)
    tail = framed[start + len(content) :]
    if not start or not tail:
        raise ValueError("a cross-encoder's tokenizer puts a token before and after a text, as BERT's does")
    return tail
