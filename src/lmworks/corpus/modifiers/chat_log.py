"""Logs of chats (IRC) as conversations: `nick: text`, without time stamps and notices, with pseudonyms for nicks.

A nick becomes `user1`, `user2`, ... in the order of first appearance, the same within the document, also where it
changes ("is now known as") and where somebody is addressed by it. Programs that answer are `bot1`, ....
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmworks.corpus.modifiers.text_lines import split_lines
from lmworks.records import Edit

_FEWEST = 3  # messages of a log
_SHARE = 0.5  # of its lines are messages or notices

_TIME = r"(?:[\[(]?(?:\d{4}-\d\d-\d\d[T ])?\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?[\])]?[ \t]+)"
_NICK = r"[^\s<>]{1,40}"
_SPACED = r"(?:(?<=\])[ ][^\s<>\[]{1,40})?"  # some loggers write a space behind each "]" of a nick
_MESSAGE = re.compile(rf"{_TIME}?<[ ]?[@+%&~!]?(?P<nick>{_NICK}{_SPACED})[ ]?>[ \t]*")
_ACTION = re.compile(rf"{_TIME}\*[ \t]+(?P<nick>{_NICK})(?=[ \t]|\Z)[ \t]*")
_NOTICE = re.compile(
    rf"{_TIME}?(?:===|-!-|\*\*\*|-->|<--|→|←)[ \t]+(?P<first>{_NICK}(?:{_SPACED}(?=[ ]\[))?)(?P<rest>[^\n]*)"
)
_EVENT = re.compile(
    r"(?:has|have) (?:joined|left|quit|parted)\b|(?:joined|left|quit|parted) [#(\[]|is now known as|"
    r"changed (?:his|her|their|the) (?:nick|topic)|sets? (?:the )?(?:channel )?(?:mode|topic)|mode/|"
    r"(?:was|has been) (?:kicked|banned)|netsplit|\[[^\s\[\]@~=]*+[@~=][^\]]{0,200}+\]",
    re.I,
)
_RENAMED = re.compile(rf"[ \t]+is now known as[ \t]+(?P<to>{_NICK}{_SPACED})")
_TOKEN = re.compile(r"[\w\[\]\\`^{}|-]++(?:(?<=\])(?=[ ](?P<more>[\w\[\]\\`^{}|-]++)))?")
_BOT = re.compile(
    r"(?:u|lambda|supy|meeting|log|info|git|rss|build|news|weather|bug|irc|chan|kgb|super|url|karma|help|link|"
    r"(?:.*[\W_])?)bots?[\d\W_]*|ubot[tu]+[\d\W_]*|(?:chan|nick|memo)serv",
    re.I,
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a log: what somebody says ("message") or does ("action"), or a notice of the server ("notice")."""

    kind: str
    start: int
    text_start: int  # behind time and nick
    end: int
    next: int  # start of the line behind it
    nick: str


def repair_chat(text: str) -> list[Edit]:
    """A log as `nick: text` lines and `* nick does` for actions, with pseudonyms; none of a text that is no log.

    Rules: `chat.prefix` for time stamps and nicks before messages, `chat.notice` for lines of the server (joins, parts,
    changes of nicks, topics), `chat.nick` for nicks within messages.
    """
    log = _log(text)
    names = _pseudonyms(text, log)
    said = [line for line in log if line.kind != "notice"]
    edits = [Edit(line.start, line.next, "", "chat.notice") for line in log if line.kind == "notice"]
    for line in said:
        name = names[line.nick.casefold()]
        prefix = f"{name}: " if line.kind == "message" else f"* {name} "
        edits.append(Edit(line.start, line.text_start, prefix, "chat.prefix"))
    return sorted(edits + _mentions(text, said, names))


def _log(text: str) -> list[_Line]:
    """The lines of a log, without those that are neither message nor notice; empty for a text that is none."""
    lines, starts = split_lines(text)
    found: list[_Line] = []
    for line, start, following in zip(lines, starts, starts[1:], strict=False):
        end = start + len(line)
        if match := _MESSAGE.match(line) or _ACTION.match(line):
            kind = "message" if match.re is _MESSAGE else "action"
            found.append(_Line(kind, start, start + match.end(), end, following, match["nick"]))
        elif match := _NOTICE.match(line):
            found.append(_Line("notice", start, start + match.start("rest"), end, following, match["first"]))
    messages = sum(line.kind == "message" for line in found)
    if messages < _FEWEST or len(found) < _SHARE * sum(map(bool, map(str.strip, lines))):
        return []
    speakers = {line.nick for line in found if line.kind != "notice"}
    for at, line in enumerate(found):
        rest = text[line.text_start : line.end]
        # Of old logs, where actions look like notices: "=== ann nods" is one if Ann speaks and it is no event.
        if line.kind == "notice" and line.nick in speakers and not _EVENT.search(rest):
            text_start = line.text_start + len(rest) - len(rest.lstrip(" \t"))
            found[at] = replace(line, kind="action", text_start=text_start)
    return found


def _pseudonyms(text: str, log: Sequence[_Line]) -> dict[str, str]:
    """Nick, casefolded -> pseudonym; nicks that were changed into each other have the same."""
    same: dict[str, str] = {}

    def root(nick: str) -> str:
        while same.setdefault(nick, nick) != nick:
            same[nick] = same[same[nick]]
            nick = same[nick]
        return nick

    order: list[str] = []
    for line in log:
        if line.kind == "notice" and not _EVENT.search(text, line.text_start, line.end):
            continue
        order.append(line.nick.casefold())
        if line.kind == "notice" and (renamed := _RENAMED.match(text, line.text_start, line.end)):
            order.append(renamed["to"].casefold())
            before, after = map(root, order[-2:])
            same[after] = before
    users: dict[str, str] = {}
    counts = Counter[str]()
    for nick in order:
        if root(nick) not in users:
            kind = "bot" if _BOT.fullmatch(nick) else "user"
            counts[kind] += 1
            users[root(nick)] = f"{kind}{counts[kind]}"
    return {nick: users[root(nick)] for nick in order}


def _mentions(text: str, said: Sequence[_Line], names: Mapping[str, str]) -> list[Edit]:
    """Nicks within messages. One of small letters alone may be a word: within a message it is taken for a nick only
    if it is at least twice as often found at the beginning of one, before a colon or comma."""
    found: list[tuple[int, int, bool]] = []
    counts = Counter[tuple[str, bool]]()  # of a nick, and whether somebody is addressed by it
    for line in said:
        done = line.text_start
        for match in _TOKEN.finditer(text, line.text_start, line.end):
            start, end = match.span()
            if match["more"] and text[start : match.end("more")].casefold() in names:
                end = match.end("more")
            if start >= done and text[start:end].casefold() in names:
                addressed = start == line.text_start and text[end : end + 1] in (":", ",")
                counts[text[start:end].casefold(), addressed] += 1
                found.append((start, end, addressed))
                done = end
    edits: list[Edit] = []
    for start, end, addressed in found:
        nick = text[start:end].casefold()
        is_word = nick.isalpha() and nick.isascii() and text[start + 1 : end].lower() == text[start + 1 : end]
        if addressed or not is_word or counts[nick, True] >= 2 * counts[nick, False]:
            edits.append(Edit(start, end, names[nick], "chat.nick"))
    return edits
