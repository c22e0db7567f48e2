"""Two texts in one sequence, as a cross-encoder reads them (Devlin et al. 2019, section 3): [CLS] first [SEP] second
[SEP].

All tokens have the type 0, as those of the sentence encoders that cross-encoders start from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class JoinedPair:
    """The ids of a pair, the index of the second text's first token, and where in that text its tokens begin and end.

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
    before, tail = tokenizer.frame
    if not before or not tail:
        raise ValueError("a cross-encoder's tokenizer puts a token before and after a text, as BERT's does")
    texts = list(dict.fromkeys(second for _, second in pairs))
    seconds = dict(zip(texts, tokenizer.backend.encode_batch(texts, add_special_tokens=False), strict=True))
    joined = []
    for first, text in pairs:
        framed, second = firsts[first], seconds[text]
        head = framed if len(framed) <= length // 2 else framed[: length // 2 - len(tail)] + tail
        room = length - len(head) - len(tail)
        whole = len(second.ids) <= room and len(head) == len(framed)
        joined.append(JoinedPair(head + second.ids[:room] + tail, len(head), second.offsets[:room], whole))
    return joined
