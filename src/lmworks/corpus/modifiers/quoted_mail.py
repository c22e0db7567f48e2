"""Messages of mail without what their writers did not write: quotes, signatures, footers, disclaimers.

Lines are told by what programs and people write in several languages: `>` before quoted lines and "On ..., ... wrote:"
above them, "-----Original Message-----" or a block of "From: / Sent: / To: / Subject:" above a whole message, `-- `
above a signature (RFC 3676, section 4.3), the lines of mailing lists below everything. Each line has one rule at most,
so what is cut never overlaps.
"""

from collections.abc import Sequence

from lmworks.corpus.modifiers.text_lines import cut_lines, split_lines
from lmworks.corpus.patterns import read_patterns
from lmworks.records import Edit

_LONGEST_SIGNATURE = 12  # lines
_LONGEST_CLOSING = 7  # lines from "Best regards" on
_LONGEST_FOOTER = 10  # lines
_ATTRIBUTION_LINES = 3  # that "On ..., ... wrote:" may be wrapped over

PATTERNS = read_patterns(__file__)


def repair_mail(text: str) -> list[Edit]:
    """Cut what the writer of a message did not write. A ">" that a mailbox put before "From " is taken away.

    Rules: `mail.quote` for quoted lines, the line that says whose they are, and whole messages below;
    `mail.forward_header` for the lines above a message that was passed on; `mail.signature`; `mail.footer` of a mailing
    list, or of the program or device that sent the message; `mail.disclaimer`; `mail.from_escape`.
    """
    lines, starts = split_lines(text)
    rules = [""] * len(lines)
    for find in (_quotes, _messages_below, _footers, _disclaimers, _signature):
        find(lines, rules)
    edits = cut_lines(rules, starts)
    edits += [
        Edit(start, start + 1, "", "mail.from_escape")
        for line, rule, start in zip(lines, rules, starts, strict=False)
        if not rule and line.startswith(">From ")
    ]
    return sorted(edits)


def _quotes(lines: Sequence[str], rules: list[str]) -> None:
    quoted = [False, *(bool(PATTERNS["quote"].match(line)) for line in lines), False]
    for line, text in enumerate(lines):
        alone = not quoted[line] and not quoted[line + 2]
        if not quoted[line + 1] or (alone and text.startswith(">From ")):
            continue
        rules[line] = "mail.quote"
        if not line or rules[line - 1] != "mail.quote":
            first = _attribution(lines, rules, line)
            rules[first:line] = ["mail.quote"] * (line - first)


def _attribution(lines: Sequence[str], rules: Sequence[str], quote: int) -> int:
    """The first of the lines above a quote that say who wrote it, with empty ones between; the quote itself where there
    are none."""
    last = quote - 1
    while last >= max(0, quote - 2) and not lines[last].strip():
        last -= 1
    if last < 0 or rules[last] or not PATTERNS["wrote"].search(lines[last][-120:]):
        return quote
    for first in range(last, max(-1, last - _ATTRIBUTION_LINES), -1):
        if not lines[first].strip() or rules[first]:
            break
        if PATTERNS["opening"].match(lines[first].lstrip()):
            return first
    return last if len(lines[last]) <= 100 else quote  # just "Ann Smith wrote:"


def _messages_below(lines: Sequence[str], rules: list[str]) -> None:
    """Headers of a message that was passed on; and a whole message below the reply to it."""
    line = 0
    has_text = False  # above this line, that its writer wrote
    while line < len(lines):
        if not rules[line] and PATTERNS["forwarded"].match(lines[line]):
            end = _header_end(lines, line + 1)
            rules[line:end] = ["mail.forward_header"] * (end - line)
            line = end
            continue
        if not rules[line]:
            above = lines[line - 1]
            begins_headers = (  # behind an empty line or a rule
                bool(PATTERNS["sender"].match(lines[line]))
                and (not above.strip() or bool(PATTERNS["rule"].match(above)))
                and _header_end(lines, line) - line >= 3
            )
            if PATTERNS["original"].match(lines[line]) or (has_text and begins_headers):
                first = line - 1 if line and PATTERNS["rule"].match(lines[line - 1]) else line
                rules[first:] = [rule or "mail.quote" for rule in rules[first:]]
                return
            has_text = has_text or bool(lines[line].strip() and not PATTERNS["header"].match(lines[line]))
        line += 1


def _header_end(lines: Sequence[str], line: int) -> int:
    """The line behind a block of header lines, which may begin behind an empty one."""
    start = line
    while start < min(line + 2, len(lines)) and not lines[start].strip():
        start += 1
    end = start
    while end < len(lines) and lines[end].strip():
        if not PATTERNS["header"].match(lines[end]) and (end == start or lines[end][0] not in " \t"):
            break
        end += 1
    return end if end > start else line


def _footers(lines: Sequence[str], rules: list[str]) -> None:
    for line, text in enumerate(lines):
        if rules[line]:
            continue
        if len(text) < 120 and PATTERNS["device"].match(text):
            rules[line] = "mail.footer"
        elif PATTERNS["rule"].match(text):
            end = line + 1
            while end < len(lines) and end - line <= _LONGEST_FOOTER and not rules[end]:
                if end > line + 1 and not lines[end].strip():
                    break
                end += 1
            if any(map(PATTERNS["list"].search, lines[line + 1 : end])):
                rules[line:end] = ["mail.footer"] * (end - line)


def _disclaimers(lines: Sequence[str], rules: list[str]) -> None:
    """Paragraphs with three words and more of such notices."""
    first = 0
    for line in range(len(lines) + 1):
        if line < len(lines) and lines[line].strip() and not rules[line]:
            continue
        words = {match[:6].casefold() for text in lines[first:line] for match in PATTERNS["disclaimer"].findall(text)}
        if len(words) >= 3:
            rules[first:line] = ["mail.disclaimer"] * (line - first)
        first = line + 1


def _signature(lines: Sequence[str], rules: list[str]) -> None:
    """Mark what is below the last `-- `, or from a closing such as "Best regards" on, if few lines are left."""
    own = [line for line, text in enumerate(lines) if text.strip() and not rules[line]]
    last = own[: -_LONGEST_SIGNATURE - 2 : -1]
    start = next((line for line in last if PATTERNS["delimiter"].match(lines[line])), len(lines))
    own = [line for line in own if line < start]
    for line in own[: -_LONGEST_CLOSING - 1 : -1]:
        short = all(len(lines[each].strip()) <= 60 for each in own if each > line)
        if line != own[0] and PATTERNS["closing"].match(lines[line]) and short:
            start = line
            break
    rules[start:] = [rule or "mail.signature" for rule in rules[start:]]
