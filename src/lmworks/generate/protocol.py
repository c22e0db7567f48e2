"""The protocol of every engine: requests, completions, scores, capabilities. Free of torch.

The local `Engine` and the `RemoteEngine` implement the same protocol; `capabilities` says what one of them cannot do,
and calling that raises `UnsupportedError`. All log-probabilities are natural logarithms; all times are seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from lmworks.config import at_least, below_one, within
from lmworks.generate.constraint import Constraint
from lmworks.records import Message

FinishReason = Literal["stop", "length", "cancelled", "deadline"]
Role = Literal["query", "passage"]

Stopping = Literal["estimate", "bound", "first"]

MOST_ALTERNATIVES = 20
_RANGES = {  # beyond them scaled logits and nuclei leave the range of float32
    "max_tokens": (1, float("inf")),
    "top_k": (0, float("inf")),
    "top_p": (1e-3, 1),
    "min_p": (0, 1),
    "typical_p": (1e-3, 1),
    "repetition_penalty": (0.01, 100),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "alternatives": (0, MOST_ALTERNATIVES),
}
_DRAWS = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "alternatives": 0}


class ContextLengthError(ValueError):
    """A text has more tokens than the model takes; the message names both numbers."""


class ParameterError(ValueError):
    """A wrong value of one `parameter`, which a server names to its client."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnsupportedError(RuntimeError):
    """The engine cannot do what was asked; the message names what can."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Sampling of the next token; the defaults are greedy.

    The transformations of the logits apply in this order: `forced_tokens`, `constraint` and `banned_tokens`,
    `logit_bias`, repetition penalty, frequency and presence penalty, temperature, top-k, typical, top-p, min-p, each
    inside what the ones before have left.

    temperature          0 takes the most probable token (after bias and penalties).
    top_k, top_p         0 and 1 are off.
    min_p                0 is off: drops tokens less probable than `min_p` times the most probable one (Nguyen et al.
                         2024).
    typical_p            1 is off: the tokens whose information is nearest to the entropy, until their probability
                         reaches `typical_p` (Meister et al. 2023).
    repetition_penalty   1 is off; counts the tokens of prompt and completion as seen.
    seed                 None draws a fresh one, which the completion reports, so that every completion can be repeated.
    stop                 strings that end the completion; they are not part of its text.
    ignore_eos           continue past the tokens that normally end it (for benchmarks that need a fixed length).
    alternatives         how many of the most probable tokens to report at each place, 0 to 20. They are the model's
                         own: bias, penalties and temperature do not touch them.
    frequency_penalty    in [-2, 2], 0 is off: subtracted from a token's logit once for each time that the token
                         occurs in the completion so far. The prompt does not count.
    presence_penalty     in [-2, 2], 0 is off: subtracted once when the token occurs in the completion at all.
    logit_bias           token id -> value in [-100, 100], added to that token's logit.
    banned_tokens        ids that are never chosen.
    forced_tokens        ids that the completion begins with, whatever the model would choose.
    constraint           what the text of the completion must be: a schema, an expression, a grammar, a choice.
    speculate            let the engine guess several tokens and check them in one forward. Never changes a token.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    alternatives: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)  # a dict has no hash; equality sees it
    min_p: float = 0.0
    typical_p: float = 1.0
    banned_tokens: tuple[int, ...] = ()
    forced_tokens: tuple[int, ...] = ()
    constraint: Constraint | None = None
    speculate: bool = True

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            within(least, most, **{name: getattr(self, name)})
        if self.temperature != 0 and not 1e-3 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 (greedy) or at least 0.001 and finite, got {self.temperature}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must lie in [0, 2**64), got {self.seed}")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop must be a tuple of non-empty strings, got {self.stop!r}")
        if any(type(token) is not int or token < 0 for token in (*self.banned_tokens, *self.forced_tokens)):
            raise ValueError("banned_tokens and forced_tokens are token ids: integers from 0")
        for token, bias in self.logit_bias.items():
            if type(token) is not int or token < 0:
                raise ValueError(f"logit_bias must have token ids as keys, got {token!r}")
            if not -100 <= bias <= 100:
                raise ValueError(f"logit_bias must lie in [-100, 100], got {bias} for token {token}")
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))  # its own: the caller's may change


@dataclass(frozen=True, slots=True)
class BeamParameters:
    """Beam search: the `beams` best beginnings of a text are kept at each step.

    A completion of n tokens, the end token included, has the score Σ ln p / n ** length_penalty.

    n_best              completions that are returned, at most `beams`.
    length_penalty      0 ranks by the probability of the whole text, which favours short ones; 1 by the mean of a
                        token. (Wu et al. 2016, section 7, divide by ((5 + n) / 6) ** α instead, which is flatter.)
    groups              the beams are split into so many groups, each searched by itself after the ones before.
    diversity_penalty   subtracted, in a group, from a token's log-probability for each time that an earlier group has
                        taken the token in the same step (Vijayakumar et al. 2018, section 4, Hamming diversity). It
                        steers the search and is no part of the score.
    stopping            when a group that has as many completions as beams is done: "bound" when no beam can become
                        better than the worst of them (unless logit_bias raises a token); "estimate" when none would be
                        if it ended now, which is wrong only where the mean improves later; "first" at once.
    """

    beams: int = 4
    n_best: int = 1
    length_penalty: float = 1.0
    groups: int = 1
    diversity_penalty: float = 0.0
    stopping: Stopping = "estimate"

    def __post_init__(self) -> None:
        if self.beams < 1 or not 1 <= self.n_best <= self.beams:
            raise ValueError(f"n_best must lie in [1, beams], got {self.n_best} of {self.beams}")
        if self.groups < 1 or self.beams % self.groups:
            raise ValueError(f"groups must divide the {self.beams} beams, got {self.groups}")
        if self.diversity_penalty < 0 or (self.groups > 1) != (self.diversity_penalty > 0):
            raise ValueError(
                "several groups need a diversity_penalty above 0, without which they find the same, and one group has "
                f"no use for it; got {self.groups} and {self.diversity_penalty}"
            )
        if not abs(self.length_penalty) < float("inf"):
            raise ValueError(f"length_penalty must be finite, got {self.length_penalty}")
        if self.stopping not in ("estimate", "bound", "first"):
            raise ValueError(f'stopping is "estimate", "bound" or "first", got {self.stopping!r}')


@dataclass(frozen=True, slots=True)
class ContrastiveParameters:
    """Contrastive search (Su et al. 2022, section 3.2): a probable token whose state is unlike all before it.

    candidates   how many of the most probable tokens are tried in each step (k in the paper).
    penalty      α in [0, 1): what the likeness to the context counts against the probability; 0 is greedy.
    """

    candidates: int = 4
    penalty: float = 0.6

    def __post_init__(self) -> None:
        at_least(1, candidates=self.candidates)
        below_one(penalty=self.penalty)


def require_no_draws(sampling: SamplingParameters) -> None:
    """ValueError for parameters of a draw, since a search draws nothing: it would ignore them."""
    given = [name for name, off in _DRAWS.items() if getattr(sampling, name) != off]
    if given:
        raise ValueError(f"a search draws no tokens and has no use for {', '.join(given)}: leave them at the defaults")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt, as token ids, as text, or as messages for the chat template (exactly one of them), and how to sample.

    `id` names the request for `cancel`; an empty one is replaced by a fresh one, which the completion carries.

    adapter    the name of a LoRA adapter that the engine has loaded; "" is the model itself.
    priority   smaller runs earlier, and is never preempted for a larger one.
    client     whose request it is: clients of one priority get equal shares of the tokens, however many requests each
               sends (Sheng et al. 2024, "Fairness in serving large language models").
    tools      functions that the chat template describes to the model, as `{"type": "function", "function": {"name",
               "description", "parameters"}}`. The model calls one in the form `ChatRenderer.tool_form`.
    deadline   seconds from submission until the completion is worth nothing; it then ends with what it has and
               `finish_reason` "deadline". Of one client's requests, the one with the earliest deadline goes first.
    """

    prompt_ids: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()
    sampling: SamplingParameters = SamplingParameters()
    id: str = ""
    adapter: str = ""
    priority: int = 0
    client: str = ""
    deadline: float | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.prompt_ids, self.messages, self.text))) != 1:
            raise ValueError("a request needs one of prompt_ids, messages or text, and it must not be empty")
        if self.tools and not self.messages:
            raise ValueError("tools are written by the chat template, which only messages go through")
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, got {self.deadline}")


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from submission: until the request got its slot, until its first token, until its last.

    The first two are None for what a cancelled request did not reach, and for what a remote endpoint does not report.
    """

    queued: float | None
    first_token: float | None
    total: float


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    `id` is None where a remote endpoint gives texts only. `text` is the token's own bytes as text, for display: what is
    no whole character is U+FFFD, so the texts of all tokens need not join to the text of the completion; special tokens
    show their name. `log_probability` is the model's own. `alternatives` are the most probable tokens at this place,
    best first, as (id, text, log-probability); the chosen one is among them only if it is that probable.
    """

    id: int | None
    text: str
    log_probability: float
    alternatives: tuple[tuple[int | None, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of a request.

    `ids` holds every token the model chose, the end token included. `text` is their text without end token and stop
    string. `sampled` says of each whether it was chosen: False where `forced_tokens`, bans or a constraint left one
    token, about which the model had no say. `prompt_ids` are the tokens of the prompt as the model read them (of an
    encoder–decoder, its encoder). `log_probabilities` are the model's own: log softmax of its raw logits at each id.
    `sampled_log_probabilities` are those of the distribution that was sampled from, after penalty, temperature, top-k
    and top-p (0 for a greedy choice). `finish_reason`: "stop" (end token or stop string), "length" (`max_tokens`, or
    the context is full), "cancelled", "deadline". `policy_version` counts the weights: it is the version given to the
    last `load_weights`, 0 before the first. `tokens` holds, for each id, its text, log-probability and alternatives.

    Of the prompt's `prompt_tokens`, `cached_tokens` were found in the cache. Of the completion, `proposed_tokens` were
    guessed ahead and `accepted_tokens` of them were right.

    What a remote endpoint does not report is None; nothing is made up.
    """

    id: str
    text: str
    ids: tuple[int, ...] | None
    log_probabilities: tuple[float, ...] | None
    sampled_log_probabilities: tuple[float, ...] | None
    finish_reason: FinishReason
    policy_version: int | None
    prompt_tokens: int
    completion_tokens: int
    seed: int
    timings: Timings
    tokens: tuple[Token, ...] | None = None
    cached_tokens: int | None = None
    proposed_tokens: int = 0
    accepted_tokens: int = 0
    prompt_ids: tuple[int, ...] | None = None
    sampled: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed completion; the texts of all deltas join to the text of the completion exactly.

    `tokens` are those chosen since the last delta; of all deltas they join to the completion's. A piece of text may be
    empty where tokens are not: text that could still become part of a stop string or of a character is held back. The
    last delta, and only the last, carries the whole `completion`.
    """

    text: str
    completion: Completion | None = None
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """ln p of each continuation token given the context and the continuation tokens before it.

    `alternatives` are for each of them the most probable tokens at its place, best first, as (id, ln p); empty where
    none were asked for.
    """

    log_probabilities: tuple[float, ...]
    alternatives: tuple[tuple[tuple[int, float], ...], ...] = ()

    @property
    def total(self) -> float:
        """ln p of the whole continuation."""
        return float(sum(self.log_probabilities))

    @property
    def mean(self) -> float:
        """ln p for each token, on average; ValueError for an empty continuation, which has none."""
        if not self.log_probabilities:
            raise ValueError("an empty continuation has no mean log-probability")
        return self.total / len(self.log_probabilities)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities of an engine. `missing` says for each thing it cannot do why not, and what to use instead."""

    generate: bool
    score: bool
    embed: bool
    token_ids: bool  # completions carry ids
    log_probabilities: bool  # completions carry the model's log-probabilities
    sampled_log_probabilities: bool
    context_length: int | None  # tokens of prompt and completion together; None when the endpoint does not say
    score_alternatives: bool = True  # scores carry the most probable tokens at each place
    adapters: bool = True  # requests and scores may name an adapter
    missing: Mapping[str, str] = field(default_factory=dict)

    def require(self, capability: str) -> None:
        """Raise `UnsupportedError` unless the engine has this capability."""
        if not getattr(self, capability):
            raise UnsupportedError(
                f"this engine cannot {capability}: {self.missing.get(capability, 'not implemented')}"
            )


class EngineProtocol(Protocol):
    """Generation, scoring and embedding, local or remote."""

    @property
    def capabilities(self) -> Capabilities: ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, in the order of the requests."""
        ...

    def stream(self, request: Request) -> Iterator[Delta]:
        """The completion piece by piece. Closing the iterator cancels the request."""
        ...

    def score(
        self,
        context_ids: Sequence[Sequence[int]],
        continuation_ids: Sequence[Sequence[int]],
        alternatives: int = 0,
        adapter: str = "",
    ) -> list[Score]:
        """ln p(continuation | context) of each pair under the model, or under one of its adapters, with so many
        `alternatives` at each place; see `scoring.score_pairs`."""
        ...

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, L2-normalised; see `lmworks.generate.text_embedding.TextEncoder`."""
        ...
