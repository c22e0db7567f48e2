"""Text while it is being generated: a token may end in the middle of a character, and half a character is not text."""

from lmworks.tokenizer.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"  # what decoding puts in the place of an incomplete character


class Detokenizer:
    """Turns a growing sequence of ids into text, piece by piece.

    The pieces joined, `flush` last, are `tokenizer.decode` of all ids, and no piece ends inside a UTF-8 character: text
    is held back as long as it ends in a character that may still be incomplete. One exception: where a run of
    SentencePiece's byte tokens is no UTF-8, `decode` turns all of its characters into U+FFFD, and those that were
    complete before the mistake are out already, so that the number of U+FFFD differs, too.

    Each step decodes the tokens held back behind the last ones emitted, not the whole sequence, so a step costs the
    same at any length; the tokens before give decoders that look at neighbours, such as WordPiece's, what they need.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer, self._skip_special = tokenizer, skip_special
        self._emitted: list[int] = []  # the last tokens whose text is out
        self._held: list[int] = []  # tokens whose text is not out yet

    def copy(self) -> "Detokenizer":
        """Another one at the same place: for a text that continues in several ways."""
        clone = Detokenizer(self._tokenizer, self._skip_special)
        clone._emitted, clone._held = list(self._emitted), list(self._held)
        return clone

    def push(self, token: int) -> str:
        """Adds a token; returns the text that is now certain, possibly empty."""
        self._held.append(token)
        return self._release(final=False)

    def flush(self) -> str:
        """The text still held back, at the end of the sequence; what stayed incomplete is U+FFFD."""
        return self._release(final=True)

    def _release(self, final: bool) -> str:
        before = self._tokenizer.decode(self._emitted, self._skip_special)
        text = self._tokenizer.decode(self._emitted + self._held, self._skip_special)
        if len(text) <= len(before) or (text.endswith(REPLACEMENT) and not final):
            return ""
        self._emitted, self._held = self._held, []
        return text[len(before) :]
