"""Parts of mails in several languages, against what their writers wrote."""

import pytest

from lmworks.corpus.modifiers.quoted_mail import repair_mail
from noise import check

OWN = "Hello Ann,\n\nI have looked at it, and it works for me now.\nCould you try again?\n"
QUOTES = {
    "English": "On Mon, 3 May 2004 at 10:11, Ann <ann@example.org> wrote:\n> It does not.\n>\n> > Try it.\n> Ann\n",
    "wrapped": "On Mon, 3 May 2004 at 10:11:12 +0200, Ann Smith-Jones\n<ann@example.org> wrote:\n\n> It does not.\n",
    "short": "Ann Smith wrote:\n> It does not work.\n",
    "German": "Am 03.05.2004 um 10:11 schrieb Ann Smith:\n> Es geht nicht.\n",
    "French": "Le 3 mai 2004 à 10:11, Ann Smith a écrit :\n> Cela ne marche pas.\n",
    "Spanish": "El lun., 3 may. 2004 a las 10:11, Ann (<ann@example.org>) escribió:\n> No funciona.\n",
    "original": "-----Original Message-----\nFrom: Ann\nSent: May 3, 2004\nTo: Bob\nSubject: It\n\nIt does not.\n",
    "Outlook": "\n________________\nFrom: Ann\nSent: May 3, 2004\nTo: Bob\nSubject: It\n\nIt does not.\n",
    "German Outlook": "\nVon: Ann Smith\nGesendet: Montag, 3. Mai 2004\nAn: Bob\nBetreff: Es\n\nEs geht nicht.\n",
    "initials": "AS> It does not work.\nAS> At all.\n",
}
SIGNATURES = {
    "delimiter": "-- \nBob Jones\nHead of Things, Example Inc.\n+1 555 0100\n",
    "closing": "Best regards,\nBob Jones\nHead of Things\n",
    "German": "Mit freundlichen Grüßen\n\nBob Jones\n",
}
FOOTER = "_______________________\nThings mailing list\nThings@example.org\nhttp://example.org/listinfo/things\n"
DISCLAIMER = (
    "This message is confidential and intended solely for the recipient. If you received it in error, notify the\n"
    "sender and delete this message. Any unauthorised use is strictly prohibited.\n"
)


OTHERS = {
    "device": ("Sent from my iPhone\n", {"mail.footer"}),
    "all": (f"{SIGNATURES['closing']}\n{DISCLAIMER}\n{FOOTER}", {"mail.signature", "mail.disclaimer", "mail.footer"}),
}
PARTS_OF_MAIL = {
    **{f"quote, {name}": (part, {"mail.quote"}) for name, part in QUOTES.items()},
    **{f"signature, {name}": (part, {"mail.signature"}) for name, part in SIGNATURES.items()},
    **OTHERS,
}


@pytest.mark.parametrize("name", PARTS_OF_MAIL)
def test_what_the_writer_did_not_write_goes(name: str) -> None:
    part, rules = PARTS_OF_MAIL[name]
    text = f"{OWN}\n{part}"
    edits = repair_mail(text)
    assert check(text, edits).strip() == OWN.strip()
    assert {edit.rule for edit in edits} == rules


def test_answers_between_quotes_stay() -> None:
    text = "Ann wrote:\n> Does it?\n\nYes.\n\n> And that?\n\nNo.\n"
    assert check(text, repair_mail(text)).split() == ["Yes.", "No."]


def test_a_message_that_was_passed_on_stays_without_its_headers() -> None:
    headers = "---------- Forwarded message ----------\nFrom: Ann <a@example.org>\nDate: Monday\nSubject: It\nTo: Bob\n"
    text = "See below.\n\n" + headers + "\nIt works now, after all this time.\n"
    assert check(text, repair_mail(text)).split("\n\n") == ["See below.", "\nIt works now, after all this time.\n"]


@pytest.mark.parametrize(
    "text",
    [
        OWN,
        "From: Ann\nTo: Bob\nSubject: It\nDate: now\n\nThe message with headers above it.\n",
        "Received: by x\nFrom: Ann\nTo: Bob\nSubject: It\nDate: now\n\nThe message.\n",
        "This is what she wrote:\nthe letter of the year.\n",
        "a -> b\nx >= y\nif a > b: pass\n",
        "Thanks for all of it, but I can not come today because of the rain.\nIt is wet.\n",
        "A table\n-------\n\nof things\n=========\n",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert repair_mail(text) == []


def test_an_escaped_from_is_no_quote() -> None:
    text = "I saw it.\n>From here it looks good.\nReally.\n"
    assert check(text, repair_mail(text)) == "I saw it.\nFrom here it looks good.\nReally.\n"
