"""The state of a request in flight, which `Engine.prepare` makes of a `Request`: its tokens, and when it is done."""

import time
from collections.abc import Sequence, Set
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from lmworks.generate.constrained_decoding import Matcher
from lmworks.generate.paged_cache import CachedSequence
from lmworks.generate.protocol import (
    Completion,
    Delta,
    FinishReason,
    SamplingParameters,
    Timings,
    Token,
)
from lmworks.tokenizer.incremental_detokenizer import Detokenizer
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


class StopMatcher:
    """Passes text on up to the first stop string, and never any part of one.

    A stop string may begin in one token and end in another, so a tail of the text that could still become one is held
    back until it is decided. The result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.stopped = False
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece and return the text that is safe to show; empty after a stop string was found."""
        if self.stopped:
            return ""
        text = self._held + piece
        # Of the stop strings that are complete first, the longest.
        if matches := [(text.find(stop) + len(stop), text.find(stop)) for stop in self.stops if stop in text]:
            self.stopped, self._held = True, ""
            return text[: min(matches)[1]]
        # Held back is the longest end of the text that is the beginning of a stop string.
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        keep = next((n for n in lengths if any(stop.startswith(text[len(text) - n :]) for stop in self.stops)), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """No more text comes: what was held back is no stop string."""
        text, self._held = self._held, ""
        return text


# Guesses that a constraint allows one after the other, and the mask before each of them and after the last.
LookAhead = tuple[list[int], list[np.ndarray]]


@dataclass(slots=True, eq=False)  # one request is another's equal never, and is compared often
class RequestState:
    """Tokens go in through `append`; what is new and certain comes out through `take`.

    `limit` is the number of tokens the completion may have: `max_tokens`, or less where the context is full before.
    It is `done` when it has a `finish_reason`, or an `error` because of which there is no completion. `constraint` says
    which tokens may come next, and follows those that came. `source_ids` are an encoder's input: then `prompt_ids` are
    what the decoder begins with.

    `sequence` is what the cache holds of it while it runs; `moved` is the content of its pages while it was preempted
    and they are kept elsewhere. `ahead` are guesses and masks for its next tokens, which no step waits for: until they
    are there, it is `held`.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
    seed: int
    stop_ids: Set[int]
    limit: int
    detokenizer: Detokenizer
    matcher: StopMatcher
    token_texts: TokenTexts
    adapter: str = ""
    priority: int = 0
    client: str = ""
    deadline: float | None = None
    constraint: Matcher | None = None
    ahead: Future[LookAhead] | None = None
    source_ids: tuple[int, ...] = ()
    sequence: CachedSequence | None = None
    moved: object | None = None
    arrival: int = 0
    preempted: bool = False
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    cached_tokens: int = 0
    submitted: float = field(default_factory=time.perf_counter)
    ids: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    sampled_log_probabilities: list[float] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    started: float | None = None
    first_token: float | None = None
    finished: float | None = None
    _pieces: list[str] = field(default_factory=list)
    _taken_pieces: int = 0
    _taken_tokens: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.finish_reason is not None or self.error is not None

    @property
    def held(self) -> bool:
        """It takes no part in a step."""
        return self.ahead is not None and not self.ahead.done()

    @property
    def all_ids(self) -> tuple[int, ...]:
        """The tokens of prompt and completion so far."""
        return (*self.prompt_ids, *self.ids) if self.ids else self.prompt_ids

    @property
    def length(self) -> int:
        """Their number."""
        return len(self.prompt_ids) + len(self.ids)

    @property
    def computed_tokens(self) -> int:
        """Tokens whose keys and values the cache holds."""
        return 0 if self.sequence is None else self.sequence.length

    @property
    def uncomputed_tokens(self) -> int:
        """Tokens to be run through the model before the next one can be chosen."""
        return self.length - self.computed_tokens

    @property
    def deadline_at(self) -> float:
        """When its deadline is, on the clock of `time.perf_counter`."""
        return float("inf") if self.deadline is None else self.submitted + self.deadline

    def next_ids(self, count: int) -> list[int]:
        """The first `count` tokens that are uncomputed."""
        return self.ids_between(self.computed_tokens, self.computed_tokens + count)

    def ids_between(self, start: int, end: int) -> list[int]:
        """The tokens [start, end) of prompt and completion."""
        prompt = len(self.prompt_ids)
        return [*self.prompt_ids[start:end], *self.ids[max(0, start - prompt) : max(0, end - prompt)]]

    def fork(self) -> "RequestState":
        """Another request at the same place, which continues by itself; the two have one `sequence` between them."""
        return replace(
            self,
            detokenizer=self.detokenizer.copy(),
            matcher=copy(self.matcher),
            constraint=None if self.constraint is None else self.constraint.copy(),
            ahead=None,
            ids=list(self.ids),
            tokens=list(self.tokens),
            sampled_log_probabilities=list(self.sampled_log_probabilities),
            sampled=list(self.sampled),
            _pieces=list(self._pieces),
        )

    def start(self) -> None:
        """The request has got its slot, for the first time or again."""
        self.started = self.started or time.perf_counter()

    def append(
        self,
        token: int,
        log_probability: float,
        sampled_log_probability: float,
        alternatives: Sequence[tuple[int, float]] = (),
        forced: bool = False,
    ) -> None:
        """Take the token that was chosen next, and finish if it is the last one.

        `alternatives` are the most probable tokens with their log-probabilities, best first; `forced`: no other was
        allowed.
        """
        self.first_token = self.first_token or time.perf_counter()
        self.ids.append(token)
        alternative_tokens = tuple(
            (alternative, self.token_texts[alternative], value) for alternative, value in alternatives
        )
        self.tokens.append(Token(token, self.token_texts[token], log_probability, alternative_tokens))
        self.sampled_log_probabilities.append(sampled_log_probability)
        self.sampled.append(not forced)
        if self.constraint is not None:
            self.constraint.advance(token)
        if token in self.stop_ids:
            self.finish("stop")
            return
        self._pieces.append(self.matcher.feed(self.detokenizer.push(token)))
        if self.matcher.stopped:
            self.finish("stop")
        elif len(self.ids) == self.limit:
            self.finish("length")

    def finish(self, reason: FinishReason) -> None:
        """Release the text that was held back and stop the clock. An unfinished character becomes U+FFFD."""
        self._pieces.append(self.matcher.feed(self.detokenizer.flush()))
        self._pieces.append(self.matcher.flush())
        self.finish_reason = "stop" if self.matcher.stopped else reason
        self.finished = time.perf_counter()

    def fail(self, error: Exception) -> None:
        """There will be no completion."""
        self.error = error
        self.finished = time.perf_counter()

    def take(self, policy_version: int) -> Delta | None:
        """Text and tokens that are certain since the last call, the completion when finished; None for nothing."""
        text, tokens = "".join(self._pieces[self._taken_pieces :]), tuple(self.tokens[self._taken_tokens :])
        self._taken_pieces, self._taken_tokens = len(self._pieces), len(self.tokens)
        completion = None if self.finish_reason is None else self.completion(policy_version)
        return Delta(text, completion, tokens) if text or tokens or completion else None

    def completion(self, policy_version: int) -> Completion:
        """The result of a finished request."""
        if self.finish_reason is None or self.finished is None:
            raise RuntimeError(f"request {self.id} is not finished")
        return Completion(
            id=self.id,
            text="".join(self._pieces),
            ids=tuple(self.ids),
            log_probabilities=tuple(token.log_probability for token in self.tokens),
            sampled_log_probabilities=tuple(self.sampled_log_probabilities),
            finish_reason=self.finish_reason,
            policy_version=policy_version,
            prompt_tokens=len(self.source_ids or self.prompt_ids),
            completion_tokens=len(self.ids),
            seed=self.seed,
            timings=Timings(
                queued=self._since_submission(self.started),
                first_token=self._since_submission(self.first_token),
                total=self.finished - self.submitted,
            ),
            tokens=tuple(self.tokens),
            cached_tokens=self.cached_tokens,
            proposed_tokens=self.proposed_tokens,
            accepted_tokens=self.accepted_tokens,
            prompt_ids=self.source_ids or self.prompt_ids,
            sampled=tuple(self.sampled),
        )

    def _since_submission(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self.submitted
