"""Logs of chats (IRC) as conversations: `nick: text`, without time stamps and notices, with pseudonyms for nicks.

A nick becomes `user1`, `user2`, ... in the order of first appearance, the same within the document, also where it
changes ("is now known as") and where somebody is addressed by it. Programs that answer are `bot1`, ....
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmworks.corpus.dedup.kept_duplicates import linked
from lmworks.corpus.modifiers.text_lines import split_lines
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_FEWEST = 3  # messages of a log
_SHARE = 0.5  # of its lines are messages or notices

PATTERNS = read_patterns(__file__)


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
        if match := PATTERNS["message"].match(line) or PATTERNS["action"].match(line):
            kind = "message" if match.re is PATTERNS["message"] else "action"
            found.append(_Line(kind, start, start + match.end(), end, following, match["nick"]))
        elif match := PATTERNS["notice"].match(line):
            found.append(_Line("notice", start, start + match.start("rest"), end, following, match["first"]))
    messages = sum(line.kind == "message" for line in found)
    if messages < _FEWEST or len(found) < _SHARE * sum(map(bool, map(str.strip, lines))):
        return []
    speakers = {line.nick for line in found if line.kind != "notice"}
    for at, line in enumerate(found):
        rest = text[line.text_start : line.end]
        # Of old logs, where actions look like notices: "=== ann nods" is one if Ann speaks and it is no event.
        if line.kind == "notice" and line.nick in speakers and not PATTERNS["event"].search(rest):
            text_start = line.text_start + len(rest) - len(rest.lstrip(" \t"))
            found[at] = replace(line, kind="action", text_start=text_start)
    return found


def _pseudonyms(text: str, log: Sequence[_Line]) -> dict[str, str]:
    """Nick, casefolded -> pseudonym; nicks that were changed into each other have the same."""
    nicks: list[str] = []
    changes: list[tuple[str, str]] = []
    for line in log:
        if line.kind == "notice" and not PATTERNS["event"].search(text, line.text_start, line.end):
            continue
        nicks.append(line.nick.casefold())
        if line.kind == "notice" and (renamed := PATTERNS["renamed"].match(text, line.text_start, line.end)):
            changes.append((nicks[-1], renamed["to"].casefold()))
            nicks.append(changes[-1][1])
    numbers = {nick: number for number, nick in enumerate(dict.fromkeys(nicks))}
    first, second = np.array([(numbers[old], numbers[new]) for old, new in changes], np.int64).reshape(-1, 2).T
    person = dict(zip(numbers, linked(first, second, len(numbers)).tolist(), strict=True))
    names: dict[int, str] = {}
    counts = Counter[str]()
    for nick in nicks:
        if person[nick] not in names:
            kind = "bot" if PATTERNS["bot"].fullmatch(nick) else "user"
            counts[kind] += 1
            names[person[nick]] = f"{kind}{counts[kind]}"
    return {nick: names[person[nick]] for nick in nicks}


def _mentions(text: str, said: Sequence[_Line], names: Mapping[str, str]) -> list[Edit]:
    """Nicks within messages. One of small letters alone may be a word: within a message it is taken for a nick only
    if it is at least twice as often found at the beginning of one, before a colon or comma."""
    found: list[tuple[int, int, bool]] = []
    counts = Counter[tuple[str, bool]]()  # of a nick, and whether somebody is addressed by it
    for line in said:
        done = line.text_start
        for match in PATTERNS["token"].finditer(text, line.text_start, line.end):
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
