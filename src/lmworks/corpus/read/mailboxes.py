"""Mail in mbox files: messages one after the other, each behind a line that begins with `From `.

There are four of them, which differ in how a line of a message that begins with `From ` is told from one between
messages, and no file says which it is:

  mboxo    such a line gets a `>` in front; one that already has it does not, so that this cannot be undone exactly
  mboxrd   such a line, with any number of `>` in front, gets one more
  mboxcl   as mboxo, and a Content-Length header says where the message ends
  mboxcl2  no line is changed; only Content-Length says where the message ends

Here a message begins, as RFC 4155 has it, where a line `From `, with a date as `asctime` gives it, follows an empty one
(or the beginning), and one `>` is taken from lines that begin with `>From `, `>>From ` and so on, which reads mboxrd
exactly, and the others but for such lines of their own. Content-Length is not believed: it is wrong wherever a message
was edited or its line ends were changed.
"""

import io
import re
from collections.abc import Iterator

from lmworks.corpus.read.container import contained, too_large
from lmworks.corpus.read.format_detection import FROM_LINE
from lmworks.corpus.read.record import Item, Limits, Record, Refused

_LINE = 1 << 16  # bytes of a line that are read at once
_FROM_LINE = re.compile(FROM_LINE)
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


@contained
def read_mbox(stream: io.BufferedReader, limits: Limits) -> Iterator[Item]:
    """Each message, as `message/rfc822`, called by its number from 1."""
    message = bytearray()
    number = size = before = 0  # messages begun; bytes of this one; bytes before the first one
    is_start = is_behind_empty = True  # of this piece: it begins a line; the line before it is empty
    while line := stream.readline(_LINE):
        is_first = not number and not before
        if is_start and is_behind_empty and line.startswith(b"From ") and (is_first or _FROM_LINE.match(line)):
            if number:
                yield _message(number, message, size, limits)
            message, size = bytearray(), 0
            number += 1
        elif not number:
            before += len(line)
        else:
            size += len(line)
            if size <= limits.record_bytes:
                message += line
            elif message:
                message = bytearray()
        is_behind_empty = is_start and line in (b"\n", b"\r\n")
        is_start = line.endswith(b"\n")
    if before:
        example = "From name@example.org Mon Jan  1 00:00:00 2024"
        yield Refused("", f"{before:,} bytes before the first message, which begins with a line such as '{example}'")
    if number:
        yield _message(number, message, size, limits)


def _message(number: int, message: bytearray, size: int, limits: Limits) -> Record | Refused:
    if size > limits.record_bytes:
        return Refused(str(number), f"{too_large(limits)} ({size:,})")
    content = bytes(message)
    for end in (b"\r\n", b"\n"):  # the empty line that belongs to the next `From `
        if content.endswith(end * 2):
            content = content[: -len(end)]
            break
    if b">From " in content:
        content = _QUOTED.sub(rb"\1", content)
    return Record(str(number), content, "message/rfc822")
