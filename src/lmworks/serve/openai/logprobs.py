"""Tokens in OpenAI's two notations of log-probabilities."""

import codecs
from collections.abc import Iterable, Sequence

from lmworks.generate.protocol import Token
from lmworks.serve.openai.response_bodies import TextLogprobs, TokenLogprob, TopLogprob
from lmworks.tokenizer.byte_level import byte_letters
from lmworks.tokenizer.tokenizer import Tokenizer

_BYTES = byte_letters()
_PARTIAL = "\ufffd"
_LEAST = -9999.0  # what OpenAI writes for a probability of 0, since JSON has no infinity


class TokenBytes:
    """The bytes of a token, where they are known: its text, or what a byte-level vocabulary writes for them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.special_ids.values())

    def of(self, token: int | None, text: str) -> bytes | None:
        """`text` is the token's text for display, in which U+FFFD stands for what is no whole character."""
        if _PARTIAL not in text:
            return text.encode("utf-8", "surrogatepass")
        name = None if token is None else self._tokenizer.backend.id_to_token(token)
        if name is None or not all(letter in _BYTES for letter in name):
            return None
        return bytes(_BYTES[letter] for letter in name)

    def name(self, token: int | None, text: str) -> str:
        """A name that differs between tokens: their text, or `bytes:\\xe2\\x80` for a part of a character."""
        content = self.of(token, text) if _PARTIAL in text else None
        return text if content is None else "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def token_logprobs(tokens: Iterable[Token], alternatives: int, names: TokenBytes) -> list[TokenLogprob]:
    """For each token itself and its first `alternatives` alternatives."""
    return [
        TokenLogprob(
            **_entry(names, token.id, token.text, token.log_probability).model_dump(),
            top_logprobs=[_entry(names, *alternative) for alternative in token.alternatives[:alternatives]],
        )
        for token in tokens
    ]


def _entry(names: TokenBytes, token: int | None, text: str, value: float) -> TopLogprob:
    content = names.of(token, text)
    return TopLogprob(token=text, logprob=finite(value), bytes=None if content is None else list(content))


class TextOffsets:
    """The places of tokens in a text, one after another, in code points."""

    def __init__(self, names: TokenBytes) -> None:
        self._names = names
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def advance(self, token: Token, *, hidden: bool) -> int:
        """The place of the character that holds the token's first byte. What is held back is no character yet.

        A hidden token is no part of the text.
        """
        content = b"" if hidden else self._names.of(token.id, token.text)
        if content is None:  # a tokenizer that does not show bytes: its tokens are whole characters, or nearly
            self._offset += len(token.text)
            return self._offset - len(token.text)
        first = self._decoder.decode(content[:1])
        complete = bool(first) and not self._decoder.getstate()[0]
        start = self._offset + len(first) - complete
        self._offset += len(first) + len(self._decoder.decode(content[1:]))
        return start


class TextLogprobsWriter:
    """Writes tokens one after another, so that `text_offset` (in code points of the text) continues between calls."""

    def __init__(self, alternatives: int, names: TokenBytes) -> None:
        self._alternatives, self._names = alternatives, names
        self._offsets = TextOffsets(names)

    def write(self, tokens: Sequence[Token], values: Sequence[float | None] | None = None) -> TextLogprobs:
        """The entries of tokens that were generated, among which special ones are not part of the text.

        With `values` they are those of a prompt, which is repeated whole; its first has no log-probability.
        """
        logprobs = [token.log_probability for token in tokens] if values is None else values
        hidden = self._names.special_ids if values is None else frozenset[int]()
        return TextLogprobs(
            tokens=[self._names.name(token.id, token.text) for token in tokens],
            token_logprobs=[None if value is None else finite(value) for value in logprobs],
            top_logprobs=[
                None if value is None else self._top(token) for token, value in zip(tokens, logprobs, strict=True)
            ]
            if self._alternatives
            else None,
            text_offset=[self._offsets.advance(token, hidden=token.id in hidden) for token in tokens],
        )

    def _top(self, token: Token) -> dict[str, float]:
        """The most probable tokens, and the chosen one, as OpenAI adds it when it is not among them."""
        candidates = [*token.alternatives[: self._alternatives], (token.id, token.text, token.log_probability)]
        return {self._names.name(id_, text): finite(value) for id_, text, value in candidates}


def finite(value: float) -> float:
    return max(value, _LEAST)
