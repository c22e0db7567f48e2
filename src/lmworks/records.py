"""The row types that cross a border between two parts of the house.

Each type is a frozen dataclass without behaviour beyond what keeps it valid; `docs/borders.md` states the contract of
each. All offsets are Unicode code points in `Document.text`; a web page converts them to UTF-16 at its own border.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# ---------------------------------------------------------------------------------------------------------------------
# Documents and spans


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range `[start, end)` of code points in the text of the document with this hash."""

    document: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a span needs 0 <= start <= end, got [{self.start}, {self.end})")

    def overlap(self, other: "Span") -> int:
        """Number of code points that both spans cover; 0 for spans of different documents."""
        if self.document != other.document:
            return 0
        return max(0, min(self.end, other.end) - max(self.start, other.start))


# What lmworks itself notes in the metadata of documents and reads there again. A column of a table that is called so is
# kept under another name: see `column_key`.
OWN_METADATA = frozenset(
    {
        *("augmented", "copy", "origin"),  # of copies that corpus.balance made
        *("declared_language", "extracted"),  # of cleaned documents
        *("encoding", "headings", "id", "lone_surrogates"),  # of documents as they were read
    }
)


def column_key(column: str) -> str:
    """The key in the metadata of a document that keeps this column of its row: the column's name, and `column_copy` for
    one called `copy`. No two columns have one key."""
    name = column
    while name.startswith("column_"):
        name = name.removeprefix("column_")
    return f"column_{column}" if name in OWN_METADATA else column


@dataclass(frozen=True, slots=True)
class Document:
    """The extracted text of one source, immutable, and where it came from.

    `hash` identifies the text, `source_hash` the raw bytes it was extracted from. Cleaning never changes `text`: it
    adds `Edit`s. `date` is ISO 8601; unknown licence, date and language are None, never a guess. `source` is the name
    of the source that it came from, such as a folder's, and `kind` what sort of text that has: "web", "manual", "book",
    "code", "mail", "chat" or "text".
    """

    text: str
    uri: str
    media_type: str
    extractor: str
    extractor_version: str
    source_hash: str
    title: str = ""
    licence: str | None = None
    date: str | None = None
    language: str | None = None
    source: str = ""
    kind: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    hash: str = ""  # derived from `text`; a loaded row is checked against it

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        if self.hash and self.hash != digest:
            raise ValueError(f"{self.uri}: the text does not have the recorded hash {self.hash[:12]}…")
        object.__setattr__(self, "hash", digest)

    def quote(self, span: Span) -> str:
        """The text of a span of this document; ValueError for a span of another one or past the end."""
        if span.document != self.hash or span.end > len(self.text):
            raise ValueError(f"{span} does not lie in {self.uri} ({self.hash[:12]}…, {len(self.text)} characters)")
        return self.text[span.start : span.end]


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Cleaning as data: replace `[start, end)` of the document's text by `replacement`, because of `rule`."""

    start: int
    end: int
    replacement: str
    rule: str


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A source that did not become a document, and why. Nothing is skipped without one of these."""

    uri: str
    reason: str
    count: int = 1


# ---------------------------------------------------------------------------------------------------------------------
# Training and evaluation rows: TRL's row types by their names


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made a row: `source` (data set, interaction), `annotator`, `judge`, `rubric`, and the `order` shown."""

    source: str | None = None
    annotator: str | None = None
    judge: str | None = None
    rubric: str | None = None
    order: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    `tool_calls` are in the form that chat templates take, `{"id", "type": "function", "function": {"name",
    "arguments"}}` with the arguments as an object, not as its JSON text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    name: str | None = None
    tool_call_id: str | None = None  # of role "tool": the call that this is the result of


def question_of(messages: Sequence[Message]) -> str:
    """The last message of the user; "" where there is none."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Conversation:
    """`tools` are the functions that the model may call, each `{"type": "function", "function": {"name", ...}}`."""

    messages: tuple[Message, ...]
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()


# Prompts and completions are texts, or as TRL's conversational rows have them: a prompt of messages (system, turns,
# results of calls), with the `tools` of a `Conversation`, and completions that are the assistant's text, or messages.
TextOrMessages = str | tuple[Message, ...]


class _Conversational:
    """A row whose prompt, completions and tools go together; ValueError where they do not."""

    __slots__ = ()

    def __post_init__(self) -> None:
        prompt, tools = (getattr(self, name) for name in ("prompt", "tools"))
        completions = [getattr(self, name) for name in ("completion", "chosen", "rejected") if hasattr(self, name)]
        if () in (prompt, *completions):
            raise ValueError("a prompt and its completions hold a message at least, or are texts")
        if isinstance(prompt, str) and (tools or not all(isinstance(completion, str) for completion in completions)):
            raise ValueError(
                "a prompt that is a text has completions that are texts, and no tools: write it as messages, "
                '[{"role": "user", "content": ...}]'
            )
        if any(
            not isinstance(completion, str) and completion[0].role in ("system", "user") for completion in completions
        ):
            raise ValueError("a completion must begin with the assistant's message: cut the prompt's messages from it")


@dataclass(frozen=True, slots=True)
class PromptCompletion(_Conversational):
    """A demonstration: the completion that the prompt should have."""

    prompt: TextOrMessages
    completion: TextOrMessages
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Preference(_Conversational):
    """A pair: `chosen` is preferred to `rejected` as completion of `prompt`, by `margin` where it is known."""

    prompt: TextOrMessages
    chosen: TextOrMessages
    rejected: TextOrMessages
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts that belong together, such as a question and a passage that answers it. `negatives` look as if they
    belonged to the anchor, and do not."""

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True)
class LabelledCompletion(_Conversational):
    """Unpaired feedback: `label` says whether the completion is desirable (KTO)."""

    prompt: TextOrMessages
    completion: TextOrMessages
    label: bool
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Stepwise:
    """A solution in steps with a verdict on each (process supervision)."""

    prompt: TextOrMessages
    completions: tuple[str, ...]
    labels: tuple[bool, ...]
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True)
class Verifiable(_Conversational):
    """A task whose answer a program can check: `verifier` names the check, `answer` is what it compares with, `fields`
    are what else a check reads."""

    prompt: TextOrMessages
    answer: str
    verifier: str
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rated(_Conversational):
    """A completion with a number that says how good it is."""

    prompt: TextOrMessages
    completion: TextOrMessages
    rating: float
    provenance: Provenance = Provenance()
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """An evaluation question with its gold spans: any one of them answers it; none means unanswerable.

    While it is asked, the documents `excluded`, by hash, are hidden from retrieval (removed sources), and so is every
    chunk that shares a character with a span of `hidden` (the place that answers, of a question that then has none).
    `answer` is a person's, in a few words.
    """

    id: str
    text: str
    gold: tuple[Span, ...]
    split: Literal["calibration", "test"]
    kind: str = ""
    excluded: tuple[str, ...] = ()
    answer: str = ""
    hidden: tuple[Span, ...] = ()

    @property
    def answerable(self) -> bool:
        return bool(self.gold)


# ---------------------------------------------------------------------------------------------------------------------
# Scores


@dataclass(frozen=True, slots=True)
class Scored:
    """A value that was measured: with a 95 % interval, the number of items, and the signature of how."""

    value: float
    interval: tuple[float, float]
    n: int
    signature: str

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}] n={self.n}"


@dataclass(frozen=True, slots=True)
class Unscored:
    """A value that could not be computed, and why. Never NaN, 0 or 1 in its place."""

    reason: str

    def __str__(self) -> str:
        return f"unscored: {self.reason}"


Score = Scored | Unscored

# ---------------------------------------------------------------------------------------------------------------------
# Answers and interactions


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A chunk that was found: its span, the text shown, and the score of each leg that found it."""

    chunk: str
    span: Span
    uri: str
    text: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One candidate sentence of an answer: where its evidence stands, how well it is supported, what became of it.

    `evidence` is the passage span that the sentence is attributed to. `origin` is "generated" for a statement that a
    language model wrote: it is cited or "unsupported", "not a quote" where it quotes what no passage says, or "not an
    answer" where it answers another question. `support` is the probability that its evidence supports it; None where it
    was not needed to decide. What an answer would cite that has too little confidence is "abstained". `short` are words
    of the evidence that answer by themselves.
    """

    text: str
    origin: Literal["quoted", "generated"]
    evidence: Span
    uri: str
    relevance: float  # probability that the sentence answers the question
    support: float | None
    verdict: Literal["cited", "abstained", "unsupported", "repeated", "not needed", "not a quote", "not an answer"]
    short: Span | None = None

    @property
    def short_answer(self) -> str:
        """The words at `short`; "" where there are none, or the text is another than the evidence's (redacted)."""
        if self.short is None or len(self.text) != self.evidence.end - self.evidence.start:
            return ""
        return self.text[self.short.start - self.evidence.start : self.short.end - self.evidence.start]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a system: text with citations, or an abstention with the nearest passages offered.

    `citations[i]` is the evidence that `[i+1]` in `text` points to. `lineage` leads from names (index, weights, ...) to
    content hashes and fingerprints. `timings` are seconds. `failure` is why the language model that was to write it did
    not, or not to the end: the type of the error and what it says.
    """

    id: str
    question: str
    text: str
    citations: tuple[Verdict, ...]
    confidence: float
    abstained: bool
    nearest: tuple[Retrieved, ...]
    verdicts: tuple[Verdict, ...]
    lineage: Mapping[str, str]
    timings: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


# gen_ai.operation.name; "evaluation": an answer of a test, which is no traffic
Operation = Literal["chat", "text_completion", "embeddings", "evaluation"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback of a person on an interaction, given later: a thumb up or down with a reason, or a note."""

    interaction: str
    time: float
    kind: Literal["thumbs", "note"]
    value: Literal["up", "down"] | None = None  # of thumbs; None takes an earlier thumb back
    text: str = ""  # the reason, or the note
    author: str = ""


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """A part of a prompt, such as "instruction": characters `[start, end)` of the content of a message."""

    part: str
    message: int  # its place
    start: int
    end: int


QUERY_ENCODER = "query_encoder"  # the key in `Interaction.lineage` of what made its query embedding
CONTENT = "content"  # in `Interaction.redacted`: the policy that keeps no text


@dataclass(frozen=True, slots=True)
class Interaction:
    """One question and its answer, as one event; names follow OpenTelemetry's GenAI conventions where they exist.

    Everything in production (review, evaluation sets, experiments, drift, dashboards) is a query over these rows. A
    request for several completions is as many interactions. An answer from documents has `verdicts`, and those that
    are "cited" are its citations, in order. `timings` are seconds by phase, in the order in which the phases followed
    each other without a gap, then `total`; `time` is when it began, in seconds since the epoch.
    """

    id: str
    time: float
    messages: tuple[Message, ...]  # gen_ai.input.messages; one of role "user" for a text completion
    response: str  # gen_ai.output.messages
    operation: Operation = "chat"
    tools: tuple[Mapping[str, Any], ...] = ()  # gen_ai.tool.definitions: what the prompt told of
    rendered_prompt: str = ""
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    token_log_probabilities: tuple[float, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)  # gen_ai.request.*: the SamplingParameters
    finish_reason: str = "stop"  # gen_ai.response.finish_reasons
    error: str = ""  # error.type, when it failed; with finish_reason "stop", the writer's of an answer without it
    retrieved: tuple[Retrieved, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    query_embedding: tuple[float, ...] = ()  # by the encoder that lineage[QUERY_ENCODER] names by its fingerprint
    timings: Mapping[str, float] = field(default_factory=dict)
    input_tokens: int = 0  # gen_ai.usage.input_tokens
    output_tokens: int = 0  # gen_ai.usage.output_tokens
    model: str = ""  # gen_ai.response.model: fingerprint of the checkpoint
    prompt: str = ""  # hash of the prompt
    prompt_parts: tuple[PromptSpan, ...] = ()  # of `messages`, where a versioned prompt made them
    decision: Mapping[str, Any] = field(default_factory=dict)  # of a router: what it chose, and why
    index: str = ""  # content hash of the index
    lineage: Mapping[str, str] = field(default_factory=dict)  # name -> content hash of all that took part
    route: str = ""  # gen_ai.request.model: the name that was asked for, such as "assistant"
    conversation: str = ""  # gen_ai.conversation.id; "" for a request that belongs to none
    parent: str | None = None  # the turn before
    experiment: str = ""  # its name; "" outside of one
    unit: str = ""  # who sees the same arm of it
    arm: str = ""
    seed: int | None = None
    confidence: float | None = None
    abstained: bool = False
    redacted: tuple[str, ...] = ()  # rules of the redaction policy that changed the texts above
    feedback: tuple[Feedback, ...] = ()

    @property
    def citations(self) -> tuple[Verdict, ...]:
        """The verdicts that the answer cites: the first is [1] in `response`. None when it abstained."""
        return () if self.abstained else tuple(v for v in self.verdicts if v.verdict == "cited")


# ---------------------------------------------------------------------------------------------------------------------
# Experiments


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison of arms on live requests: which one a unit sees, what is measured, and when that is enough.

    The first of `arms` is the control. An arm is a table: its `share`, and at most one of `model` (a served name),
    `version` (of the system) and `settings` (of sampling or answering); none of them means as it is. `guardrails` leads
    from a metric to its margin: how much worse it may become. For metrics see `monitor/unit_metrics.py`.
    """

    name: str
    arms: Mapping[str, Mapping[str, Any]]
    metric: str  # the primary one
    unit: Literal["conversation", "user"] = "conversation"  # who sees the same arm
    route: str = "assistant"  # the served name whose requests take part
    minimum_effect: float = 0.0  # the smallest difference of the metric that matters
    planned_units: int = 0  # in all arms, when it is to be decided
    guardrails: Mapping[str, float] = field(default_factory=dict)
    ramp: tuple[float, ...] = (1.0,)  # shares of all units that take part, one step after the other
    alpha: float = 0.05
    window_days: float = 7.0  # after its assignment, in which a unit's outcomes count
    shadow: bool = False  # all see the control; the other arms answer too
    description: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm that a unit sees in an experiment, and how probable that arm was for it."""

    experiment: str
    unit: str
    arm: str
    time: float
    probability: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A measured act of a unit after an answer, such as "click", "copy", "return", "task_done" or "rating"."""

    unit: str
    name: str
    time: float
    value: float = 1.0
    interaction: str = ""  # of the answer that it is about; "" for none
