"""What a single token looks like."""

from lmworks.tokenizer.tokenizer import Tokenizer


class TokenTexts(dict[int, str]):
    """Token id -> its own bytes as text, for display; each is decoded once, when it is first asked for.

    Bytes that are no whole character become U+FFFD, special tokens show their name, and an id for which the tokenizer
    has no token (rows that fill up an embedding) is "".
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        text = self._tokenizer.decode([token], skip_special=False)
        # Decoders of the SentencePiece kind drop the space before the first word of a text; here it is the token's own.
        if self._tokenizer.decode([token, token], skip_special=False) == f"{text} {text}":
            text = f" {text}"
        self[token] = text
        return text
