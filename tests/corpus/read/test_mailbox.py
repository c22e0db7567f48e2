"""Mail in mbox files, written by `mailbox` and after the definition of mboxrd."""

import mailbox
import re
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_cases import LIMITS, SMALL, contents, flipped, kept, read_all, refused, trickle
from lmworks.corpus.read.mailboxes import read_mbox
from lmworks.corpus.read.record import Record, Refused

FROM = b"From name@example.org Thu Feb 29 12:00:00 2024\n"
LINES = st.sampled_from(
    [b"text", b"From me to you", b">From him", b">>From her", b"", b"From: a field", b"-- ", b"> quoted"]
)


def mboxrd(messages: list[bytes]) -> bytes:
    """Each behind a `From ` line, lines that could be one quoted once more, and an empty line at the end."""
    return b"".join(FROM + re.sub(rb"^(>*From )", rb">\1", message, flags=re.M) + b"\n" for message in messages)


def message(lines: list[bytes]) -> bytes:
    return b"Subject: one\n\n" + b"".join(line + b"\n" for line in lines)


@given(st.lists(st.lists(LINES, max_size=6).map(message), max_size=4), st.integers(1, 200))
def test_messages_are_read_back(messages: list[bytes], size: int) -> None:
    items = list(read_mbox(trickle(mboxrd(messages), size), LIMITS))
    assert [item.content for item in items if isinstance(item, Record)] == messages
    assert [item.name for item in items] == [str(number) for number in range(1, len(messages) + 1)]


def test_a_mailbox_of_the_standard_library_is_read_back(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for number in range(3):
        mail = EmailMessage()
        mail["Subject"] = f"Number {number}"
        mail.set_content(f"From here on\nnumber {number}\n\n\n")
        box.add(mail)
    box.flush()
    items = read_all(read_mbox, (tmp_path / "box").read_bytes())
    expected = [box.get_bytes(key).replace(b"\n>From ", b"\nFrom ") for key in box.iterkeys()]
    assert list(contents(items).values()) == expected
    assert {item.media_type for item in items if isinstance(item, Record)} == {"message/rfc822"}


@pytest.mark.parametrize(
    "line",
    [
        b"From name@example.org Thu Feb 29 12:00:00 2024\n",
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\r\n",
        b"From - Mon Jan 01 00:00:00 2001\n",
        b"From 1784@xxx Thu Feb 29 12:00:00 +0000 2024\n",
        b"From someone at example.org  Sat Jan  3 01:05:34 1996\n",
        b"From a@b.c Fri, 08 Jul 2011 12:08:34 +0000\n",
    ],
)
def test_lines_that_begin_a_message(line: bytes) -> None:
    items = read_all(read_mbox, FROM + b"Subject: a\n\nfirst\n\n" + line + b"Subject: b\n\nsecond\n")
    assert list(contents(items).values()) == [b"Subject: a\n\nfirst\n", b"Subject: b\n\nsecond\n"]


@pytest.mark.parametrize(
    "line", [b"From the beginning\n", b"From Monday on at 12:00 in 2024\n", b"from a Thu Feb 29 12:00:00 2024\n"]
)
def test_lines_that_do_not(line: bytes) -> None:
    whole = b"Subject: a\n\nfirst\n\n" + line + b"second\n"
    assert list(contents(read_all(read_mbox, FROM + whole)).values()) == [whole]


def test_a_line_behind_one_that_is_not_empty_begins_nothing() -> None:
    whole = b"Subject: a\n\nfirst\n" + FROM + b"second\n"
    assert list(contents(read_all(read_mbox, FROM + whole)).values()) == [whole]


def test_lines_may_end_as_on_windows() -> None:
    raw = b"".join(FROM + b"Subject: a\n\n>From me\n\n" for _ in range(2)).replace(b"\n", b"\r\n")
    assert list(contents(read_all(read_mbox, raw)).values()) == [b"Subject: a\r\n\r\nFrom me\r\n"] * 2


def test_a_message_that_is_too_large_is_read_over() -> None:
    raw = mboxrd([message([b"small"]), message([b"x" * 100] * 20), message([b"y" * 200_000]), message([b"last"])])
    items = read_all(read_mbox, raw, SMALL)
    assert list(contents(items)) == ["1", "4"]
    assert [item.name for item in refused(items)] == ["2", "3"]
    assert refused(items)[0] == Refused("2", "larger than max_bytes = 1,000 bytes (2,035)")


def test_what_comes_before_the_first_message_is_told() -> None:
    items = read_all(read_mbox, b"no mail\n\n" + mboxrd([message([b"a"])]))
    assert len(kept(items)) == 1 and refused(items)[0].reason.startswith("9 bytes before the first message")
    assert refused(read_all(read_mbox, b"no mail at all"))[0].reason.startswith("14 bytes before the first message")
    assert read_all(read_mbox, b"") == []


def test_cut_off_anywhere_it_gives_what_came_before() -> None:
    """All but the last message, of which nothing says how long it is."""
    raw = mboxrd([message([b"a", b"b"]), message([b"c"]), message([])])
    whole = kept(read_all(read_mbox, raw))
    for end in range(len(raw)):
        found = kept(read_all(read_mbox, raw[:end]))
        assert found[:-1] == whole[: max(0, len(found) - 1)]


@given(st.data())
def test_flipped_bytes_do_no_harm(data: st.DataObject) -> None:
    read_all(read_mbox, data.draw(flipped(mboxrd([message([b"a"]), message([b"From b"])]))), SMALL)
