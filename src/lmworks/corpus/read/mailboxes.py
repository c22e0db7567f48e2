"""Mail in mbox files: messages one after the other, each behind a line that begins with `From `.

Of the four variants no file says which it is. A message begins, as RFC 4155 has it, where a line `From `, with a date
as `asctime` gives it, follows an empty one (or the beginning), and one `>` is taken from lines that begin with
`>From `, which reads mboxrd exactly, and the others but for such lines of their own. Content-Length is not believed: it
is wrong wherever a message was edited. (The module `mailbox` needs a path, and splits at any `From ` behind an empty
line.)
"""

import io
import re
from collections.abc import Iterator

from lmworks.corpus.read.byte_budget import PIECE, ByteBudget
from lmworks.corpus.read.format_detection import FROM_LINE
from lmworks.corpus.read.record import Item, Record
from lmworks.records import RejectedRecord

_FROM_LINE = re.compile(FROM_LINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


def read_mbox(stream: io.BufferedReader, budget: ByteBudget) -> Iterator[Item]:
    """Each message, as `message/rfc822`, called by its number from 1."""
    message = bytearray()
    number = size = before = 0  # messages begun; bytes of this one; bytes before the first one
    is_start = is_behind_empty = True  # of this piece: it begins a line; the line before it is empty
    while line := stream.readline(PIECE):
        is_first = not number and not before
        if is_start and is_behind_empty and line.startswith(b"From ") and (is_first or _FROM_LINE.match(line)):
            if number:
                yield _message(number, message, size, budget)
            message, size = bytearray(), 0
            number += 1
        elif not number:
            before += len(line)
        else:
            size += len(line)
            message += line if size <= budget.record_bytes else b""
        is_behind_empty = is_start and line in (b"\n", b"\r\n")
        is_start = line.endswith(b"\n")
    if before:
        example = "From name@example.org Mon Jan  1 00:00:00 2024"
        reason = f"{before:,} bytes before the first message, which begins with a line such as '{example}'"
        yield RejectedRecord("", reason)
    if number:
        yield _message(number, message, size, budget)


def _message(number: int, message: bytearray, size: int, budget: ByteBudget) -> Item:
    if size > budget.record_bytes:
        return RejectedRecord(str(number), f"{budget.too_large} ({size:,})")
    content = bytes(message)
    for end in (b"\r\n", b"\n"):  # the empty line that belongs to the next `From `
        if content.endswith(end * 2):
            content = content[: -len(end)]
            break
    if b">From " in content:
        content = _QUOTED.sub(rb"\1", content)
    return Record(str(number), content, "message/rfc822")
