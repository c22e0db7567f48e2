"""Mail in mbox files, written by `mailbox` and after the definition of mboxrd."""

import mailbox
import re
from email.message import EmailMessage
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kit.containers import SMALL, contents, items_of, kept, rejected
from kit.tables import for_each
from lmworks.corpus.read.record import Record
from lmworks.records import RejectedRecord

FROM = b"From name@example.org Thu Feb 29 12:00:00 2024\n"
LINES = st.sampled_from(b"text|From me to you|>From him|>>From her||From: a field|-- |> quoted".split(b"|"))


def mboxrd(messages: list[bytes]) -> bytes:
    """Each behind a `From ` line, lines that could be one quoted once more, and an empty line at the end."""
    return b"".join(FROM + re.sub(rb"^(>*From )", rb">\1", message, flags=re.M) + b"\n" for message in messages)


def message(lines: list[bytes]) -> bytes:
    return b"Subject: one\n\n" + b"".join(line + b"\n" for line in lines)


def read_all(raw: bytes, small: bool = False) -> list[Record | RejectedRecord]:
    return items_of("a.mbox", raw, SMALL if small else None)  # type: ignore[return-value]


@given(st.lists(st.lists(LINES, max_size=6).map(message), max_size=4))
def test_messages_are_read_back(messages: list[bytes]) -> None:
    items = read_all(mboxrd(messages))
    assert list(contents(items).values()) == messages
    assert [item.uri for item in items] == [str(number) for number in range(1, len(messages) + 1)]


def test_a_mailbox_of_the_standard_library_is_read_back(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for number in range(3):
        mail = EmailMessage()
        mail["Subject"] = f"Number {number}"
        mail.set_content(f"From here on\nnumber {number}\n\n\n")
        box.add(mail)
    box.flush()
    items = read_all((tmp_path / "box").read_bytes())
    expected = [box.get_bytes(key).replace(b"\n>From ", b"\nFrom ") for key in box.iterkeys()]
    assert list(contents(items).values()) == expected
    assert {item.media_type for item in items if isinstance(item, Record)} == {"message/rfc822"}


@for_each(("line", "begins"), [
    (b"\nFrom name@example.org Thu Feb 29 12:00:00 2024\n", True),
    (b"\nFrom MAILER-DAEMON Fri Jul  8 12:08:34 2011\r\n", True), (b"\nFrom - Mon Jan 01 00:00:00 2001\n", True),
    (b"\nFrom 1784@xxx Thu Feb 29 12:00:00 +0000 2024\n", True),
    (b"\nFrom someone at example.org  Sat Jan  3 01:05:34 1996\n", True),
    (b"\nFrom a@b.c Fri, 08 Jul 2011 12:08:34 +0000\n", True), (b"\nFrom the beginning\n", False),
    (b"\nFrom Monday on at 12:00 in 2024\n", False), (b"\nfrom a Thu Feb 29 12:00:00 2024\n", False), (FROM, False),
])  # fmt: skip
def test_which_lines_begin_a_message(line: bytes, begins: bool) -> None:
    raw = FROM + b"Subject: a\n\nfirst\n" + line + b"Subject: b\n\nsecond\n"
    expected = [b"Subject: a\n\nfirst\n", b"Subject: b\n\nsecond\n"] if begins else [raw[len(FROM) :]]
    assert list(contents(read_all(raw)).values()) == expected


def test_what_is_too_large_or_before_the_first_message_costs_itself() -> None:
    raw = mboxrd([message([b"small"]), message([b"x" * 100] * 20), message([b"y" * 200_000]), message([b"last"])])
    items = read_all(raw, small=True)
    assert list(contents(items)) == ["1", "4"] and [item.uri for item in rejected(items)] == ["2", "3"]
    assert rejected(items)[0].reason == "larger than max_bytes = 1,000 bytes (2,035)"
    items = read_all(b"no mail\n\n" + mboxrd([message([b"a"])]))
    assert len(kept(items)) == 1 and rejected(items)[0].reason.startswith("9 bytes before the first message")
    assert read_all(b"") == []
