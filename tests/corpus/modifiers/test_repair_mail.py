"""Parts of mails in several languages, against what their writers wrote."""

from kit.tables import for_each
from lmworks.corpus.modifiers.quoted_mail import repair_mail
from noise import check

OWN = "Hello Ann,\n\nI have looked at it, and it works for me now.\nCould you try again?\n"
QUOTES = [
    "On Mon, 3 May 2004 at 10:11, Ann <ann@example.org> wrote:\n> It does not.\n>\n> > Try it.\n> Ann\n",
    "On Mon, 3 May 2004 at 10:11:12 +0200, Ann Smith-Jones\n<ann@example.org> wrote:\n\n> It does not.\n",
    "Ann Smith wrote:\n> It does not work.\n",
    "Am 03.05.2004 um 10:11 schrieb Ann Smith:\n> Es geht nicht.\n",
    "Le 3 mai 2004 à 10:11, Ann Smith a écrit :\n> Cela ne marche pas.\n",
    "El lun., 3 may. 2004 a las 10:11, Ann (<ann@example.org>) escribió:\n> No funciona.\n",
    "-----Original Message-----\nFrom: Ann\nSent: May 3, 2004\nTo: Bob\nSubject: It\n\nIt does not.\n",
    "\n________________\nFrom: Ann\nSent: May 3, 2004\nTo: Bob\nSubject: It\n\nIt does not.\n",
    "\nVon: Ann Smith\nGesendet: Montag, 3. Mai 2004\nAn: Bob\nBetreff: Es\n\nEs geht nicht.\n",
    "AS> It does not work.\nAS> At all.\n",
]
CLOSING = "Best regards,\nBob Jones\nHead of Things\n"
SIGNATURES = [
    "-- \nBob Jones\nHead of Things, Example Inc.\n+1 555 0100\n", CLOSING, "Mit freundlichen Grüßen\n\nBob Jones\n",
]  # fmt: skip
FOOTER = "_______________________\nThings mailing list\nThings@example.org\nhttp://example.org/listinfo/things\n"
DISCLAIMER = (
    "This message is confidential and intended solely for the recipient. If you received it in error, notify the\n"
    "sender and delete this message. Any unauthorised use is strictly prohibited.\n"
)
PARTS_OF_MAIL = [
    *((part, "quote") for part in QUOTES),
    *((part, "signature") for part in SIGNATURES),
    ("Sent from my iPhone\n", "footer"),
    (f"{CLOSING}\n{DISCLAIMER}\n{FOOTER}", "signature disclaimer footer"),
]


@for_each(("part", "rules"), PARTS_OF_MAIL)
def test_what_the_writer_did_not_write_goes(part: str, rules: str) -> None:
    text = f"{OWN}\n{part}"
    edits = repair_mail(text)
    assert check(text, edits).strip() == OWN.strip()
    assert {edit.rule for edit in edits} == {f"mail.{rule}" for rule in rules.split()}


HEADERS = "---------- Forwarded message ----------\nFrom: Ann <a@example.org>\nDate: Monday\nSubject: It\nTo: Bob\n"
WRITTEN = [
    OWN, "From: Ann\nTo: Bob\nSubject: It\nDate: now\n\nThe message with headers above it.\n",
    "Received: by x\nFrom: Ann\nTo: Bob\nSubject: It\nDate: now\n\nThe message.\n",
    "This is what she wrote:\nthe letter of the year.\n", "a -> b\nx >= y\nif a > b: pass\n",
    "Thanks for all of it, but I can not come today because of the rain.\nIt is wet.\n",
    "A table\n-------\n\nof things\n=========\n",
]  # fmt: skip


@for_each(
    ("text", "repaired"),
    [
        ("Ann wrote:\n> Does it?\n\nYes.\n\n> And that?\n\nNo.\n", "\nYes.\n\n\nNo.\n"),
        (f"See below.\n\n{HEADERS}\nIt works now.\n", "See below.\n\n\nIt works now.\n"),
        ("I saw it.\n>From here it looks good.\nReally.\n", "I saw it.\nFrom here it looks good.\nReally.\n"),
        *((text, text) for text in WRITTEN),
    ],
)
def test_what_people_write_stays(text: str, repaired: str) -> None:
    assert check(text, repair_mail(text)) == repaired
