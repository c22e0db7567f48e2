"""Mail with quotes, signatures, footers and disclaimers; logs of a channel of IRC as they are."""

import re
from email.message import EmailMessage
from pathlib import Path

from mixture.planting import Mixture, words
from mixture.real_texts import CARRIERS, chats, passages

_MAILS = 40
_LOGS = 6
_ATTRIBUTIONS = (
    "On Mon, 3 Jan 2011 at 10:{:02d}, Ann Smith <ann.smith@example.org> wrote:",
    "On 2011-01-03 10:{:02d}, Ann Smith wrote:\n",
    "Am 03.01.2011 um 10:{:02d} schrieb Ann Smith <ann.smith@example.org>:",
    "Le 3 janv. 2011 à 10:{:02d}, Ann Smith a écrit :",
    "Ann Smith <ann.smith@example.org> writes:",
    "El 3 de enero de 2011, 10:{:02d}, Ann Smith escribió:",
)
_SIGNATURES = (
    "-- \nMary Major\nInstitute of Applied Examples, Springfield\nphone extension upon request",
    "--\nMary Major | Head of Testing | Example Widgets Limited",
    "Best regards,\nMary Major\nHead of Testing",
    "Mit freundlichen Grüßen\nMary Major\nLeiterin der Prüfung",
    "Sent from my iPhone",
)
_FOOTERS = (
    "_______________________________________________\nexample-users mailing list\nexample-users@lists.example.org\n"
    "https://lists.example.org/mailman/listinfo/example-users",
    "-----------------------------------------------------\nTo unsubscribe, e-mail: users-unsubscribe@example.org\n"
    "For additional commands, e-mail: users-help@example.org",
)
_DISCLAIMER = (
    "This e-mail and any files transmitted with it are confidential and intended solely for the use of the individual "
    "or entity to whom they are addressed. If you have received this e-mail in error please notify the sender "
    "immediately and delete it. Any unauthorised disclosure, copying or distribution is strictly prohibited."
)
_BELOW = (
    "-----Original Message-----\nFrom: Ann Smith\nSent: Monday, January 3, 2011 10:12 AM\nTo: Mary Major\nSubject: "
    "{}\n\n{}",
    "________________________________\nVon: Ann Smith\nGesendet: Montag, 3. Januar 2011 10:12\nAn: Mary "
    "Major\nBetreff: {}\n\n{}",
)
_STAMP = r"^\[\d\d:\d\d\] "
_NOTICE = r"^=== \S+ \[[^\]]*\] +has (joined|left|quit)|^=== \S+ is now known as"


def plant_talk(mixture: Mixture, data: Path) -> None:
    mixture.source("mail", "CC-BY-4.0", kind="mail")
    _plant_mail(mixture, passages(data)[2 * CARRIERS : 2 * CARRIERS + 100])
    mixture.source("chat", "CC-BY-4.0", kind="chat")
    _plant_chat(mixture, data)


def _sentences(page: str) -> list[str]:
    return [line for part in page.split("\n") for line in re.split(r"(?<=[.!?]) ", part) if 40 < len(line) < 200]


def _plant_mail(mixture: Mixture, carriers: list[str]) -> None:
    sentences = [sentence for carrier in carriers for sentence in _sentences(carrier)]
    for number in range(_MAILS):
        uri = f"mail/{number:02d}.eml"
        own, old = sentences[10 * number : 10 * number + 6], sentences[10 * number + 6 : 10 * number + 10]
        first, second = "\n".join(own[:3]), "\n".join(own[3:])
        parts: list[str] = []
        below = ""
        if number % 4 < 3:  # a reply between quoted lines
            attribution = _ATTRIBUTIONS[number % len(_ATTRIBUTIONS)].format(number)
            parts += [f"{attribution}\n" + "\n".join(f"> {line}" for line in old[:2]), first]
            parts += ["\n".join(f"> {line}" for line in old[2:]), second]
            mixture.plant("quotes in mail", uri, "erased", "\n".join(old), "quote")
            mixture.plant("quotes in mail", uri, "absent", attribution.strip(), "attribution")
        else:  # a reply above all of it
            below = _BELOW[number // 4 % len(_BELOW)].format(f"Question {number}", "\n".join(old))
            parts += [first, second]
            mixture.plant("quotes in mail", uri, "erased", below, "message below")
        signature = _SIGNATURES[number % len(_SIGNATURES)]
        parts.append(signature)
        _plant_lines(mixture, "signatures of mail", uri, signature)
        if number % 3 == 0:
            footer = _FOOTERS[number // 3 % len(_FOOTERS)]
            parts.append(footer)
            _plant_lines(mixture, "footers of mail", uri, footer)
        if number % 3 == 1:
            parts.append(_DISCLAIMER)
            mixture.plant("footers of mail", uri, "erased", _DISCLAIMER, "disclaimer")
        if below:
            parts.append(below)
        mixture.write(uri, _message("\n\n".join(parts), number), _message(f"{first}\n\n{second}", number))
        for kind in ("quotes in mail", "signatures of mail", "footers of mail"):
            mixture.keep(kind, uri, f"{first}\n{second}")


def _plant_lines(mixture: Mixture, kind: str, uri: str, text: str) -> None:
    for line in text.split("\n"):
        if any(map(str.isalnum, line)):
            mixture.plant(kind, uri, "absent", line)


def _message(text: str, number: int) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "Mary Major <mary@example.org>",
        "list@example.org",
        f"Re: {number}",
    )
    message["Date"] = "Mon, 03 Jan 2011 11:00:00 +0000"
    message.set_content(text + "\n")
    return message.as_bytes()


def _plant_chat(mixture: Mixture, data: Path) -> None:
    """Nothing is planted here: time stamps and notices are in the logs. What people said is to stay."""
    logs = chats(data)
    names = mixture.generator("chat").sample(sorted(logs), min(_LOGS, len(logs)))
    for name in sorted(names):
        text = "\n".join(logs[name].decode("utf-8", "replace").split("\n")[:800])
        uri = f"chat/{name}"
        mixture.write(uri, text, text)
        for kind, pattern in (("time stamps of chat", _STAMP), ("notices of chat", _NOTICE)):
            lines = len(re.findall(pattern, text, re.M))
            mixture.plant(kind, uri, "fewer_lines", f"{lines} {pattern}")
        nicks = {word for nick in re.findall(r"^(?:\[\d\d:\d\d\] <|=== )([^>\s]+)", text, re.M) for word in words(nick)}
        said = [match[1] for match in re.finditer(r"^\[\d\d:\d\d\] <[^>]+> (.*)$", text, re.M)]
        kept = [line for line in said if not nicks & set(words(line))]
        for kind in ("time stamps of chat", "notices of chat"):
            mixture.keep(kind, uri, "\n".join(kept))
