"""The log-probabilities of the tokens of a message, told as its text grows."""

from collections import deque
from collections.abc import Iterable

from lmworks.generate.protocol import Token
from lmworks.serve.openai.logprobs import TextOffsets, TokenBytes, token_logprobs
from lmworks.serve.openai.response_bodies import TokenLogprob


class MessageLogprobs:
    """Those of a completion's tokens that write the words before its calls, each with its first alternatives.

    Text may be held back while its tokens are known already, so a token waits until the message has reached it.
    """

    def __init__(self, names: TokenBytes, alternatives: int) -> None:
        self._names, self._alternatives = names, alternatives
        self._offsets = TextOffsets(names)
        self._waiting: deque[tuple[int, Token]] = deque()  # each with where it begins

    def take(self, tokens: Iterable[Token]) -> None:
        """The next tokens of the completion."""
        for token in tokens:
            start = self._offsets.advance(token, hidden=token.id in self._names.special_ids)
            self._waiting.append((start, token))

    def until(self, length: int) -> list[TokenLogprob]:
        """Of the tokens not told yet, those that begin within the first `length` code points of the text."""
        found: list[Token] = []
        while self._waiting and self._waiting[0][0] < length:
            found.append(self._waiting.popleft()[1])
        return token_logprobs(found, self._alternatives, self._names)

    def rest(self) -> list[TokenLogprob]:
        """All that are left: the token that ends the text is one of a message without calls."""
        found = [token for _, token in self._waiting]
        self._waiting.clear()
        return token_logprobs(found, self._alternatives, self._names)
