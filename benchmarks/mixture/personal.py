"""Personal data and credentials: presidio's sentences, data made by rule with digits that check, and look-alikes."""

import random
import string
from pathlib import Path

from mixture.planting import ORIGINALS, PLANTED, Mixture
from mixture.real_texts import passages, personal_sentences

_SOUGHT = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN")
_MADE = 30  # of each kind that is made
_PLACEHOLDER = "that"
_HEX = "0123456789abcdef"


def plant_personal(mixture: Mixture, data: Path) -> None:
    mixture.source("people", "MIT", kind="text")
    _plant_sentences(mixture, data)
    _plant_made(mixture, passages(data))


def _plant_sentences(mixture: Mixture, data: Path) -> None:
    """Ten sentences a document; in the originals a plain word is in the place of each find."""
    sentences = personal_sentences(data)
    wanted = [each for each in sentences if any(kind in _SOUGHT for *_, kind in each[1])]
    mixture.generator("sentences").shuffle(wanted)
    for number in range(0, len(wanted), 10):
        uri = f"people/sentences/{number:03d}.txt"
        planted: list[str] = []
        plain: list[str] = []
        for text, spans in wanted[number : number + 10]:
            pieces, done = [], 0
            for start, end, kind in sorted(spans):
                if kind in _SOUGHT and start >= done:
                    mixture.plant(f"personal data: {kind}", uri, "absent", text[start:end])
                    pieces += [text[done:start], _PLACEHOLDER]
                    done = end
            planted.append(text)
            plain.append("".join([*pieces, text[done:]]))
        mixture.write(uri, "\n\n".join(planted), "\n\n".join(plain))
        mixture.keep("personal data: sentences", uri, "\n\n".join(plain), [ORIGINALS])


def _plant_made(mixture: Mixture, carriers: list[str]) -> None:
    generator = mixture.generator("personal")
    makers = {
        "made card": lambda: f"Please charge my card {_card(generator)} for it.",
        "made IBAN": lambda: f"The money goes to {_iban(generator)} by Friday.",
        "made key": lambda: f"export ACCESS={_key(generator)} before you start.",
        "made password": lambda: f"password: {_secret(generator)} works for the test machine.",
        "made e-mail": lambda: f"Write to {_email(generator)} if in doubt.",
        "made phone": lambda: f"Call me at {_phone(generator)} in the evening.",
        "made IP address": lambda: f"The host answers at {_address(generator)} only.",
    }
    for name, make in makers.items():
        for number in range(_MADE):
            sentence = make()
            uri = f"people/{name.replace(' ', '_')}/{number:02d}.txt"
            mixture.write(uri, _within(carriers.pop(), sentence))
            mixture.plant(f"personal data: {name}", uri, "absent", _value(name, sentence))
    for number, sentence in enumerate(_look_alikes(generator)):
        uri = f"people/look_alikes/{number:03d}.txt"
        text = _within(carriers.pop(), sentence)
        mixture.write(uri, text, text)
        mixture.keep("personal data: look-alikes", uri, sentence, (PLANTED, ORIGINALS))


def _within(page: str, sentence: str) -> str:
    paragraphs = page.split("\n\n")
    return "\n\n".join([*paragraphs[: len(paragraphs) // 2], sentence, *paragraphs[len(paragraphs) // 2 :]])


def _value(name: str, sentence: str) -> str:
    before, after = {
        "made card": ("card ", " for it"), "made IBAN": ("to ", " by Friday"), "made key": ("ACCESS=", " before"),
        "made password": ("password: ", " works"), "made e-mail": ("to ", " if in"), "made phone": ("at ", " in the"),
        "made IP address": ("at ", " only"),
    }[name]  # fmt: skip
    return sentence.partition(before)[2].rpartition(after)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Made by rule


def _luhn(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


def _card(generator: random.Random) -> str:
    prefix, length = generator.choice((("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("2221", 16)))
    digits = prefix + "".join(generator.choices(string.digits, k=length - len(prefix) - 1))
    digits += _luhn(digits)
    separator = generator.choice(("", " ", "-"))
    groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    parts, at = [], 0
    for size in groups:
        parts.append(digits[at : at + size])
        at += size
    return separator.join(parts)


def _iban(generator: random.Random) -> str:
    """Check digits of ISO 13616: 98 minus the number, with the country behind it, modulo 97."""
    country, letters, length = generator.choice(
        (("DE", "", 18), ("FR", "", 23), ("GB", "NWBK", 14), ("NL", "ABNA", 10), ("ES", "", 20))
    )
    account = letters + "".join(generator.choices(string.digits, k=length))
    number = int("".join(str(int(character, 36)) for character in f"{account}{country}00"))
    whole = f"{country}{98 - number % 97:02d}{account}"
    return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4)) if generator.random() < 0.5 else whole


def _key(generator: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    return generator.choice(
        (
            "ghp_" + "".join(generator.choices(letters, k=36)),
            "AKIA" + "".join(generator.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16)),
            "sk-proj-" + "".join(generator.choices(letters, k=48)),
            "xoxb-" + "".join(generator.choices(string.digits, k=12)) + "-" + "".join(generator.choices(letters, k=24)),
            "AIza" + "".join(generator.choices(letters, k=35)),
            "glpat-" + "".join(generator.choices(letters, k=20)),
            "sk_live_" + "".join(generator.choices(letters, k=24)),
        )
    )


def _secret(generator: random.Random) -> str:
    return "".join(generator.choices(string.ascii_letters, k=6)) + "".join(generator.choices("23456789!$%&", k=6))


def _email(generator: random.Random) -> str:
    names = ("johanna", "r.patel", "kwame_b", "li.wei", "sofia-r", "t.novak")
    hosts = ("gmail.com", "web.de", "uni-jena.de", "orange.fr", "corp.acme.io", "yahoo.co.uk")
    return f"{generator.choice(names)}{generator.randint(1, 999)}@{generator.choice(hosts)}"


def _phone(generator: random.Random) -> str:
    def digits(count: int) -> str:
        return "".join(generator.choices(string.digits[2:], k=count))

    return generator.choice(
        (
            f"+49 30 {digits(8)}", f"+44 20 7{digits(3)} {digits(4)}", f"(212) {digits(3)}-{digits(4)}",
            f"+1 415-{digits(3)}-{digits(4)}", f"+33 6 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        )
    )  # fmt: skip


def _address(generator: random.Random) -> str:
    if generator.random() < 0.3:
        return "2a01:4f8:" + ":".join("".join(generator.choices(_HEX[1:], k=4)) for _ in range(6))
    return f"{generator.choice((5, 46, 81, 93, 188))}." + ".".join(str(generator.randint(20, 250)) for _ in range(3))


def _look_alikes(generator: random.Random) -> list[str]:
    """What only looks like personal data: numbers that do not check, hashes, versions, dates, examples."""

    def digits(count: int) -> str:
        return "".join(generator.choices(string.digits, k=count))

    def hexadecimal(count: int) -> str:
        return "".join(generator.choices(_HEX, k=count))

    made: list[str] = []
    number = generator.randint
    for _ in range(12):
        card = _card(generator).replace(" ", "").replace("-", "")
        wrong = card[:-1] + str((int(card[-1]) + 1 + generator.randrange(8)) % 10)
        version = ".".join(str(number(0, 9)) for _ in range(4))
        date = f"20{number(10, 29)}-{number(1, 12):02d}-{number(1, 28):02d}"
        made += [
            f"The order number {wrong} was shipped yesterday.",
            f"The commit {hexadecimal(40)} broke the build.",
            f"Its identifier is {hexadecimal(8)}-{hexadecimal(4)}-4a1b-9c2d-{hexadecimal(12)} in the table.",
            f"The book has ISBN 978-3-{digits(2)}-{digits(6)}-{digits(1)} on its cover.",
            f"Version {version} was released.",
            f"The meeting is on {date} at {number(8, 19):02d}:30.",
            f"There were {digits(1)},{digits(3)},{digits(3)} people in {number(1900, 2020)}.",
            "Write to user@example.com, which does not exist.",
            f"The tests use 192.0.2.{number(1, 254)} and 127.0.0.1 only.",
            "Set password: <your password here> in the file.",
            f"See pages {number(100, 400)}-{number(401, 900)} of volume {number(1, 40)}.",
            f"Invoice {digits(4)}-{digits(6)} of part number {digits(3)}-{digits(2)}-{digits(3)}.",
        ]
    return made
