"""Redaction: personal data and secrets are replaced before an interaction is queued, so that no disk ever holds them.

Redacted are the texts that people and models wrote: messages, response, rendered prompt, the sentences of an answer,
errors, parameters, feedback. Retrieved passages stay as they are: they are quotes from documents which the index holds
anyway, and a changed quote would no longer equal its span. Where a text changed, the token ids, their log-probabilities
and the query embedding are dropped, because the text could be read back from them, and so are the places of its parts.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lmworks.corpus.taggers.pii import addresses, keys, numbers, phone
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.limited_regex import SlowPatternError, compile_pattern, find_all
from lmworks.monitor.config import LogConfig
from lmworks.monitor.event_tables import IDENTIFIERS, WITH_IDS, WRITTEN
from lmworks.records import CONTENT, Feedback, Interaction, Message

T = TypeVar("T")

# What each rule of the policy replaces, by the rules of the detector that corpora are cleaned with.
DETECTED: Mapping[str, tuple[str, ...]] = {
    "secret": (keys.KEY,),
    "email": (addresses.EMAIL,),
    "iban": (numbers.IBAN,),
    "credit_card": (numbers.CARD,),
    "ip_address": (addresses.IP, addresses.IP_SPECIAL),
    "phone": (phone.RULE,),
}
_NAMES = {rule: name for name, rules in DETECTED.items() for rule in rules}
_OF_INTERACTIONS = ("response", "tools", "rendered_prompt", "parameters", "error")  # fields with texts
_OF_MESSAGES = ("content", "tool_calls", "name", "tool_call_id")
_ERROR_TYPE = re.compile(r"[^\w.]")  # what follows the name of an error's type
_OWN_ID = re.compile(r"(redacted-)?[0-9a-f]{16}(-[0-9]+)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Redactor:
    """The policy of a log: own patterns by name, which come first, rules of `DETECTED`, and whether texts are kept."""

    patterns: Mapping[str, Any]  # of `limited_regex`
    rules: tuple[str, ...]
    content: bool
    key: Callable[[], bytes]  # of the pseudonyms

    @classmethod
    def of(cls, config: LogConfig, key: Callable[[], bytes] | None = None) -> "Redactor":
        """The policy of a config; without the key of a log, with a new one."""
        patterns = {name: compile_pattern(pattern) for name, pattern in config.patterns.items()}
        drawn = secrets.token_bytes(32)
        rules = tuple(name for name in DETECTED if name in config.redact)
        return cls(patterns, rules, config.content, key or (lambda: drawn))

    def text(self, text: str) -> tuple[str, frozenset[str]]:
        """The text with each finding replaced by the rule's name in brackets, and the rules that found something.

        A text on which a pattern takes too long is replaced as a whole.
        """
        names: set[str] = set()
        for name, pattern in self.patterns.items():
            try:
                findings = [(*match.span(), name) for match in find_all(pattern, text) if match.end() > match.start()]
            except SlowPatternError:  # what it would have hidden is not known
                return f"[{name}]", frozenset({*names, name})
            text = _replaced(text, findings, names)
        if self.rules:
            detected = frozenset(rule for name in self.rules for rule in DETECTED[name])
            # Names in brackets are blanked out: a number behind `[phone]` is none of a phone for that, and once more is
            # as good as once.
            written = re.compile(rf"\[(?:{'|'.join((*self.patterns, *DETECTED))})\]")
            hidden = written.sub(lambda name: "<" * len(name[0]), text) if "[" in text else text
            marks = find_personal_data(hidden, 0.0, detected, loose=True)
            text = _replaced(text, [(m.start, m.end, _NAMES.get(m.rule, self.rules[0])) for m in marks], names)
        return text, frozenset(names)

    def interaction(self, interaction: Interaction) -> Interaction:
        """The interaction as the log may hold it; `redacted` names the rules that changed it."""
        if not self.patterns and not self.rules and self.content:
            return interaction
        redaction = _Redaction(self)
        source = interaction if self.content else _without_content(interaction)
        changed = replace(
            redaction.fields(source, _OF_INTERACTIONS),
            messages=tuple(redaction.fields(message, _OF_MESSAGES) for message in source.messages),
            verdicts=tuple(redaction.fields(verdict, ("text",)) for verdict in source.verdicts),
            conversation=redaction.identifier(source.conversation),
            parent=None if source.parent is None else redaction.identifier(source.parent),
            unit=redaction.identifier(source.unit),
            feedback=tuple(self.feedback(feedback) for feedback in source.feedback),
        )
        if not redaction.names:
            return changed
        rules = (*self.patterns, *self.rules)
        names = (*changed.redacted, *(name for name in rules if name in redaction.names))
        return replace(_without_tokens(changed), redacted=tuple(dict.fromkeys(names)))

    def feedback(self, feedback: Feedback) -> Feedback:
        """The feedback as the log may hold it."""
        if not self.content:
            return replace(feedback, text="", author="")
        return replace(feedback, text=self.text(feedback.text)[0], author=self.text(feedback.author)[0])

    def row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row of a table of `event_tables.py` as the log may hold it."""
        if not self.patterns and not self.rules and self.content:
            return row
        changed = dict(row)
        for name, value in row.items():
            if name in IDENTIFIERS:
                changed[name] = self.identifier(value)
            elif name.startswith("verdict") and not self.content:
                changed[name] = {"choices": value["choices"]}
            elif name in WRITTEN:
                changed[name] = _Redaction(self, spares_ids=name in WITH_IDS).of(value)
        return changed

    def identifier(self, text: str) -> str:
        """A name that a client chose as the log holds it: a pseudonym where a rule finds something in it."""
        return _Redaction(self).identifier(text)


def _replaced(text: str, findings: list[tuple[int, int, str]], names: set[str]) -> str:
    """The text with these findings, in its order, written as their names, which are added to `names`."""
    pieces, end = [], 0
    for start, stop, name in findings:
        pieces += [text[end:start], f"[{name}]"]
        end = stop
        names.add(name)
    return "".join(pieces) + text[end:]


@dataclass(slots=True)
class _Redaction:
    """Redacts the values of one interaction and collects the names of the rules that found something."""

    redactor: Redactor
    names: set[str] = field(default_factory=set)
    spares_ids: bool = False

    def of(self, value: Any) -> Any:
        """A text, or any nesting of lists and tables of texts, with what was found replaced."""
        if isinstance(value, str):
            if self.spares_ids and _OWN_ID.fullmatch(value):
                return value
            text, names = self.redactor.text(value)
            self.names |= names
            return text
        if isinstance(value, Mapping):
            return {self.of(key): self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([self.of(item) for item in value])
        return value

    def fields(self, record: T, names: Sequence[str]) -> T:
        """The record with these fields redacted."""
        return replace(record, **{name: self.of(getattr(record, name)) for name in names})  # type: ignore[type-var]

    def identifier(self, text: str) -> str:
        """A name that a client chose, such as an address of e-mail: replaced, but equal ones stay equal in one log.

        Random ids of our own form, and pseudonyms, are left alone: some of them look like numbers that a rule is after.
        """
        if _OWN_ID.fullmatch(text):
            return text
        names = self.redactor.text(text)[1]
        self.names |= names
        if not names:
            return text
        digest = hmac.new(self.redactor.key(), text.encode("utf-8", "replace"), hashlib.sha256)
        return f"redacted-{digest.hexdigest()[:16]}"


def _without_tokens(interaction: Interaction) -> Interaction:
    return replace(
        interaction, prompt_parts=(), prompt_ids=(), token_ids=(), token_log_probabilities=(), query_embedding=()
    )


def _without_content(interaction: Interaction) -> Interaction:
    """Who spoke, how long, which passages and which verdicts, but none of the words."""
    return replace(
        _without_tokens(interaction),
        messages=tuple(Message(message.role, "") for message in interaction.messages),
        response="",
        tools=(),
        rendered_prompt="",
        error=_ERROR_TYPE.split(interaction.error, maxsplit=1)[0],
        parameters={
            name: value
            for name, value in interaction.parameters.items()
            if value is None or isinstance(value, (bool, int, float))
        },
        retrieved=tuple(replace(passage, text="") for passage in interaction.retrieved),
        verdicts=tuple(replace(verdict, text="") for verdict in interaction.verdicts),
        redacted=(*interaction.redacted, CONTENT),
    )
