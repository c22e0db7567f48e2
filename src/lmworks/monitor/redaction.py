"""Redaction: personal data and secrets are replaced before an interaction is queued, so that no disk ever holds them.

Redacted are the texts that people and models wrote: messages, response, rendered prompt, the sentences of an answer,
errors, parameters, feedback. Retrieved passages stay as they are: they are quotes from documents which the index holds
anyway, and a changed quote would no longer equal its span. Where a text changed, the token ids, their log-probabilities
and the query embedding are dropped, because the text could be read back from them.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lmworks.monitor.config import LogConfig
from lmworks.records import Feedback, Interaction, Message

Finder = Callable[[str], Iterator[tuple[int, int]]]  # the ranges of a text that a rule finds, in order
_ROUNDS = 8  # of looking beside what was found
_WINDOW = 1024  # characters behind a finding in which the next one is looked for
_BASE_36 = {ord(character): str(int(character, 36)) for character in string.ascii_letters}
CONTENT = "content"  # the name in `Interaction.redacted` of the policy that keeps no text


def _matches(pattern: re.Pattern[str]) -> Finder:
    def find(text: str) -> Iterator[tuple[int, int]]:
        yield from (match.span() for match in pattern.finditer(text) if match.end() > match.start())

    return find


def _chained(pattern: re.Pattern[str], check: Callable[[str], bool] = lambda found: True) -> Finder:
    """The matches of a pattern, and those directly behind them, although it asks for a gap before a match."""

    def find(text: str) -> Iterator[tuple[int, int]]:
        position = 0
        while match := pattern.search(text, position):
            start, position = match.span()
            if check(match[0]):
                yield start, position
                for found in _beside(pattern, check, text, position):
                    yield found
                    position = found[1]

    return find


def _beside(
    pattern: re.Pattern[str], check: Callable[[str], bool], text: str, position: int
) -> Iterator[tuple[int, int]]:
    """The matches that follow another directly: by then that one is a word in brackets, which no lookbehind minds.

    Without this a chain of findings, each held back by the one before it, would need the whole text read for each.
    """
    while found := _at(pattern, text, position):
        if not check(text[position:found]):
            return
        yield position, found
        position = found


def _at(pattern: re.Pattern[str], text: str, position: int) -> int | None:
    """The end of the match that begins here as if nothing stood before it."""
    length = _WINDOW
    while True:
        match = pattern.match(text[position : position + length])
        if match is None:
            return None
        if match.end() < length or position + length >= len(text):
            return position + match.end()
        length *= 4  # it may go on beyond the window


def _digits(text: str) -> list[int]:
    return [int(character) for character in text if character in "0123456789"]


def _is_card(text: str) -> bool:
    """Luhn's check: double every second digit from the right, add the digits up, divide by ten."""
    digits = _digits(text)[::-1]
    total = sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and total % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: the first four characters at the end, letters as 10 to 35, modulo 97 leaves 1."""
    compact = text.replace(" ", "")
    return 15 <= len(compact) <= 34 and int((compact[4:] + compact[:4]).translate(_BASE_36)) % 97 == 1


def _numbers(pattern: re.Pattern[str], check: Callable[[str], bool]) -> Finder:
    """For numbers in groups that prove themselves: what stands before and after may look like further groups.

    So each start is tried, and for each start each end of a group, the longest first.
    """

    def find(text: str) -> Iterator[tuple[int, int]]:
        position = 0
        while match := pattern.search(text, position):
            start = match.start()
            ends = [match.end(), *(start + gap.start() for gap in reversed([*re.finditer("[ -]", match[0])]))]
            end = next((end for end in ends if check(text[start:end])), None)
            if end is not None:
                yield start, end
            position = start + 1 if end is None else end

    return find


def _is_address(text: str) -> bool:
    if ":" in text and not re.search(r"[0-9]", text) and text.count(":") < 3:
        return False  # "a::b" is a name in C++ rather than an address
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_phone(text: str) -> bool:
    return 7 <= len(_digits(text)) <= 15


_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"  # keys of model providers and payment services
    r"|(?<![A-Za-z0-9])(?i:bearer)\s+[A-Za-z0-9._~+/=-]{16,}"
    r"|(?<![A-Za-z0-9])(?:gh[a-z]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,})"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|(?<![A-Za-z0-9])xox[a-z]-[A-Za-z0-9-]{10,}"
    r"|(?<![A-Za-z0-9])(?:lmw-[A-Za-z0-9_-]{43,}|AIza[A-Za-z0-9_-]{35,}|(?:hf|npm)_[A-Za-z0-9]{30,})"
    # JSON Web Token, with what is glued to its front: a run of its characters has one start, or it would be read often.
    r"|(?<![A-Za-z0-9_-])(?:[A-Za-z0-9]{0,32}[_-])?"
    r"eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,65536}\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w])[2-6](?:[ -]?[0-9]){12,18}(?![\w])")
_ADDRESS = re.compile(
    r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])"
    r"|(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4})?(?![\w:])"
)
_PHONE = re.compile(
    # With the code of a country; brackets stand right behind it, later ones begin another number.
    r"(?<![\w+])\+[0-9]{1,3}[ ./-]?(?:\(0\)(?:[ ./-]{0,2}[0-9]){6,11}|\([0-9]{2,5}\)(?:[ ./-]{0,2}[0-9]){3,9})(?![\w])"
    r"|(?<![\w+])\+[0-9](?:[ ./-]{0,2}[0-9]){6,14}(?![\w])"
    r"|(?<![\w.+-])(?:\([0-9]{2,5}\) ?|0[0-9]{1,4}[ /-]|[0-9]{3}[ .-])[0-9]{3,4}(?:[ .-]?[0-9]{2,4}){1,3}(?![\w])"
)

_FINDERS: Mapping[str, Finder] = {
    "secret": _chained(_SECRET),
    "email": _chained(_EMAIL),
    "iban": _numbers(_IBAN, _is_iban),
    "credit_card": _numbers(_CARD, _is_card),
    "ip_address": _chained(_ADDRESS, _is_address),
    "phone": _chained(_PHONE, _is_phone),
}
_ERROR_TYPE = re.compile(r"[^\w.]")  # what follows the name of an error's type
_OWN_ID = re.compile(r"[0-9a-f]{16}(-[0-9]+)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Redactor:
    """The policy of a log: rules by name, applied in this order, and whether texts are kept at all."""

    rules: Mapping[str, Finder]
    content: bool = True
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @classmethod
    def of(cls, config: LogConfig) -> "Redactor":
        own = {name: _matches(re.compile(pattern)) for name, pattern in config.patterns.items()}
        return cls({**own, **{name: find for name, find in _FINDERS.items() if name in config.redact}}, config.content)

    def text(self, text: str) -> tuple[str, frozenset[str]]:
        """The text with each finding replaced by the rule's name in brackets, and the rules that found something.

        A text made so that each finding uncovers a further one, many times over, is replaced as a whole.
        """
        text, names = _apply(self.rules, text)
        # What stood directly beside a finding may be one itself; an own pattern, though, could find its own name.
        built_in = {name: find for name, find in self.rules.items() if name in _FINDERS}
        more = names
        for _ in range(_ROUNDS):
            if not more:
                return text, frozenset(names)
            text, more = _apply(built_in, text)
            names |= more
        return (text if not more else f"[{min(more)}]"), frozenset(names)

    def interaction(self, interaction: Interaction) -> Interaction:
        """The interaction as the log may hold it; `redacted` names the rules that changed it."""
        if not self.rules and self.content:
            return interaction
        redaction = _Redaction(self)
        kept = interaction if self.content else _without_content(interaction)
        changed = replace(
            kept,
            messages=tuple(redaction.message(message) for message in kept.messages),
            response=redaction.of(kept.response),
            tools=redaction.of(kept.tools),
            rendered_prompt=redaction.of(kept.rendered_prompt),
            parameters=redaction.of(dict(kept.parameters)),
            error=redaction.of(kept.error),
            verdicts=tuple(replace(verdict, text=redaction.of(verdict.text)) for verdict in kept.verdicts),
            conversation=redaction.identifier(kept.conversation),
            parent=None if kept.parent is None else redaction.identifier(kept.parent),
            unit=redaction.identifier(kept.unit),
            feedback=tuple(self.feedback(feedback) for feedback in kept.feedback),
        )
        if not redaction.names:
            return changed
        names = (*changed.redacted, *(name for name in self.rules if name in redaction.names))
        return replace(_without_tokens(changed), redacted=tuple(dict.fromkeys(names)))

    def feedback(self, feedback: Feedback) -> Feedback:
        """The feedback as the log may hold it."""
        if not self.content:
            return replace(feedback, text="", author="")
        return replace(feedback, text=self.text(feedback.text)[0], author=self.text(feedback.author)[0])

    def pseudonym(self, text: str) -> str:
        """The same for the same text until the log is closed; nobody can tell the text from it."""
        return "redacted-" + hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]


def _apply(rules: Mapping[str, Finder], text: str) -> tuple[str, set[str]]:
    names: set[str] = set()
    for name, find in rules.items():
        pieces, end = [], 0
        for start, stop in find(text):
            pieces += [text[end:start], f"[{name}]"]
            end = stop
        if pieces:
            names.add(name)
            text = "".join(pieces) + text[end:]
    return text, names


@dataclass(slots=True)
class _Redaction:
    """Redacts the values of one interaction and collects the names of the rules that found something."""

    redactor: Redactor
    names: set[str] = field(default_factory=set)

    def of(self, value: Any) -> Any:
        """A text, or any nesting of lists and tables of texts, with what was found replaced."""
        if isinstance(value, str):
            text, names = self.redactor.text(value)
            self.names |= names
            return text
        if isinstance(value, Mapping):
            return {self.of(key): self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([self.of(item) for item in value])
        return value

    def message(self, message: Message) -> Message:
        return replace(
            message,
            content=self.of(message.content),
            tool_calls=self.of(message.tool_calls),
            name=self.of(message.name),
            tool_call_id=self.of(message.tool_call_id),
        )

    def identifier(self, text: str) -> str:
        """A name that a client chose, such as an address of e-mail: replaced, but equal ones stay equal.

        Random ids of our own form are left alone: some of them look like numbers that a rule is after.
        """
        if _OWN_ID.fullmatch(text):
            return text
        names = self.redactor.text(text)[1]
        self.names |= names
        return self.redactor.pseudonym(text) if names else text


def _without_tokens(interaction: Interaction) -> Interaction:
    return replace(interaction, prompt_ids=(), token_ids=(), token_log_probabilities=(), query_embedding=())


def _without_content(interaction: Interaction) -> Interaction:
    """Who spoke, how long, which passages and which verdicts, but none of the words."""
    return replace(
        _without_tokens(interaction),
        messages=tuple(Message(message.role, "") for message in interaction.messages),
        response="",
        tools=(),
        rendered_prompt="",
        error=_ERROR_TYPE.split(interaction.error, maxsplit=1)[0],
        parameters={name: value for name, value in interaction.parameters.items() if _is_number(value)},
        retrieved=tuple(replace(passage, text="") for passage in interaction.retrieved),
        verdicts=tuple(replace(verdict, text="") for verdict in interaction.verdicts),
        redacted=(*interaction.redacted, CONTENT),
    )


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))
