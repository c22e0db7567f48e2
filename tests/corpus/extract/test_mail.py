"""Mails: the text that was written, whatever it was packed in."""

from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.mail import extract_mail, join_flowed

HEAD = b"From: Ann <ann@example.org>\r\nSubject: Hi\r\n"
FLOWED = HEAD + b"Content-Type: text/plain; format=flowed"
ASCII = HEAD + b"Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
WORDS = st.text(st.sampled_from("ab>é "), min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


def mail(text: str = "Plain words.\n", html: str = "", attached: object = None) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Grüße aus Köln"
    message["From"] = '"ann@home.example" <ann@example.org>'
    message["Date"] = "Wed, 01 May 2024 12:30:00 +0200"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    if isinstance(attached, bytes):
        message.add_attachment(attached, maintype="image", subtype="png", filename="a.png")
    elif attached:
        message.add_attachment(attached)
    return message


def test_text_subject_and_date() -> None:
    extracted = extract_mail(mail("Hello,\n\nhow are you?\n", attached=b"\x89PNG").as_bytes())
    assert (extracted.text, extracted.title) == ("Hello,\n\nhow are you?", "Grüße aus Köln")
    assert extracted.metadata == {"date": "2024-05-01T12:30:00+02:00", "encoding": "ascii", "attachments": "1"}
    false = extract_mail(ASCII + "Schöne Grüße".encode())
    assert false.metadata["encoding_declared"] == "us-ascii"
    assert extract_mail("From: a@b.example\nSubject: Grüße\n\ntext".encode()).title == "Grüße"


@for_each(
    ("raw", "text"),
    [
        (mail(html="<p>HTML <b>words</b>.</p>").as_bytes(), "Plain words."),
        (mail(" \n", html="<p>HTML <b>words</b>.</p>").as_bytes(), "HTML **words**."),
        (mail("See.\n", attached=mail()).as_bytes(), "See.\n\nForwarded message: Grüße aus Köln\n\nPlain words."),
        (ASCII + "Schöne Grüße".encode("cp1252"), "Schöne Grüße"),
        (
            FLOWED + b"\r\n\r\nA long \r\nline.\r\n> quoted \r\n> too\r\n-- \r\nAnn \r\nB",
            "A long line.\n> quoted too\n-- \nAnn B",
        ),
        (FLOWED + b"; delsp=yes\r\n\r\nA lo \r\nng line.\r\nnext", "A long line.\nnext"),
        (HEAD + b"Content-Type: multipart/mixed\r\n\r\nno border", "no border"),
    ],
)
def test_what_was_written_is_the_text(raw: bytes, text: str) -> None:
    assert extract_mail(raw).text == text


@for_each("encoding", ["quoted-printable", "base64", "8bit"])
def test_transfer_encodings_are_undone(encoding: str) -> None:
    text = "Übergrößenträger " * 30
    message = mail()
    message.set_content(text, cte=encoding, charset="utf-8")
    assert extract_mail(message.as_bytes()).text == text.strip()


def flow(paragraph: str, level: int, width: int) -> str:
    """A paragraph as a sender of RFC 3676 divides it: at spaces, which stay at the ends of the lines."""
    words = paragraph.split(" ")
    lines = [" ".join(words[start : start + width]) for start in range(0, len(words), width)]
    stuffed = [" " + line if level or line.startswith((">", " ", "From")) else line for line in lines]
    return " \n".join(">" * level + line for line in stuffed)


@given(st.lists(st.tuples(WORDS, st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=6))
def test_what_a_sender_divides_is_joined_again(paragraphs: list[tuple[str, int, int]]) -> None:
    sent = "\n".join(flow(text, level, width) for text, level, width in paragraphs)
    assert join_flowed(sent) == "\n".join(f"{'>' * level} {text}" if level else text for text, level, _ in paragraphs)


@for_each(("raw", "reason"), [
    (b"", "no mail"), (b"just some words\n\nand more", "no mail"), (HEAD + b"\r\n \r\n", "without text"),
    (HEAD + b"Content-Type: application/pkcs7-mime\r\n\r\nabc", "encrypted"),
    (HEAD + b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBO", "without text"),
    (HEAD + b"Content-Type: text/plain" + b"; a=b" * 9999 + b"\r\n\r\nabc", "a header of more than"),
    (HEAD + (b"Content-Type: message/rfc822\r\n\r\n" + HEAD) * 2000 + b"\r\ntext", "RecursionError"),
])  # fmt: skip
def test_what_gives_no_text_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        extract_mail(raw)
