"""Texts as a model reads them, special tokens around them, within its longest length."""

from collections.abc import Sequence

from lmworks.tokenizer.tokenizer import Tokenizer


def encode_framed(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
    """The ids of each text, at most `length`, and how many texts were cut for that.

    A text that is too long loses its end, never a special token. ValueError where these alone are more than `length`.
    """
    rows, cut = tokenizer.encode_batch(texts, special=True), 0
    for number, ids in enumerate(rows):
        if len(ids) <= length:
            continue
        content = tokenizer.encode(texts[number])
        before = next(start for start in range(len(ids)) if ids[start : start + len(content)] == content)
        after = ids[before + len(content) :]
        if before + len(after) >= length:
            raise ValueError(f"a length of {length} leaves no room beside the special tokens: raise it")
        rows[number] = ids[: length - len(after)] + after
        cut += 1
    return rows, cut
