"""One request in flight: what was asked, what has been made of it so far, and when it is done."""

import time
from collections.abc import Set
from dataclasses import dataclass, field

from lmworks.generate.protocol import Completion, FinishReason, SamplingParameters, Timings
from lmworks.generate.stopping import StopMatcher
from lmworks.tokenizer.streaming import Detokenizer


@dataclass(slots=True)
class LiveRequest:
    """Tokens go in through `append`; text that is certain comes out through `take_text`.

    `limit` is the number of tokens the completion may have: `max_tokens`, or less where the context is full before.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParameters
    seed: int
    stop_ids: Set[int]
    limit: int
    detokenizer: Detokenizer
    matcher: StopMatcher
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    sampled_log_probabilities: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    first_token: float | None = None
    finished: float | None = None
    _pieces: list[str] = field(default_factory=list)
    _taken: int = 0

    @property
    def seen(self) -> list[int]:
        """Prompt and completion so far."""
        return [*self.prompt_ids, *self.ids]

    @property
    def length(self) -> int:
        """Tokens of prompt and completion so far."""
        return len(self.prompt_ids) + len(self.ids)

    def start(self) -> None:
        """The request has got its slot."""
        self.started = time.perf_counter()

    def append(self, token: int, log_probability: float, sampled_log_probability: float) -> None:
        """Take the token that was chosen next, and finish if it is the last one."""
        self.first_token = self.first_token or time.perf_counter()
        self.ids.append(token)
        self.log_probabilities.append(log_probability)
        self.sampled_log_probabilities.append(sampled_log_probability)
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

    def take_text(self) -> str:
        """The text that became certain since the last call."""
        text = "".join(self._pieces[self._taken :])
        self._taken = len(self._pieces)
        return text

    def completion(self, policy_version: int) -> Completion:
        """The result of a finished request."""
        if self.finish_reason is None or self.finished is None:
            raise RuntimeError(f"request {self.id} is not finished")
        return Completion(
            id=self.id,
            text="".join(self._pieces),
            ids=tuple(self.ids),
            log_probabilities=tuple(self.log_probabilities),
            sampled_log_probabilities=tuple(self.sampled_log_probabilities),
            finish_reason=self.finish_reason,
            policy_version=policy_version,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=len(self.ids),
            seed=self.seed,
            timings=Timings(
                queued=self._since_submission(self.started),
                first_token=self._since_submission(self.first_token),
                total=self.finished - self.submitted,
            ),
        )

    def _since_submission(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self.submitted
