"""Books as scanners leave them: page numbers, running heads, broken words, misread letters, notes, licences."""

import random
from pathlib import Path

from contenders.texts import books

from mixture.planting import Mixture, around

LICENCE = "LicenseRef-public-domain"
_WIDTH, _LINES = 68, 34
_LENGTH = 110_000  # characters of a book
# What is printed → what is read in its place, as OCR does it.
_MISREAD = {
    "rn": "m", "m": "rn", "h": "b", "e": "c", "li": "h", "cl": "d", "d": "cl", "th": "tli", "ll": "U", "w": "vv",
    "u": "ii", "in": "m", "f": "t", "ri": "n", "o": "0", "l": "1",
}  # fmt: skip
_GUTENBERG = (
    "The Project Gutenberg EBook of {title}\n\nThis eBook is for the use of anyone anywhere at no cost and "
    "with\nalmost no restrictions whatsoever. You may copy it, give it away or\nre-use it under the terms of the "
    "Project Gutenberg License included\nwith this eBook or online at www.gutenberg.org\n\nTitle: {title}\n\nLanguage: "
    "English\n\n*** START OF THIS PROJECT GUTENBERG EBOOK {upper} ***\n\n",
    "\n\nEnd of the Project Gutenberg EBook of {title}\n\n*** END OF THIS PROJECT GUTENBERG EBOOK {upper} ***\n\n"
    "Updated editions will replace the previous one, and the old editions\nwill be renamed. Redistribution is subject "
    "to the trademark license,\nespecially commercial redistribution.\n\nSection 1. General Terms of Use and "
    "Redistributing Project Gutenberg\nelectronic works\n",
)


def plant_books(mixture: Mixture, data: Path) -> None:
    """One class a book, and the last with all of them."""
    mixture.source("books", LICENCE, kind="book")
    found = books(data)
    classes = (
        ("book page numbers, form feeds", {"numbers": True, "form_feeds": True}),
        ("book page numbers, no form feeds", {"numbers": True}),
        ("book running heads, form feeds", {"heads": True, "form_feeds": True}),
        ("book running heads with numbers", {"heads": True, "head_numbers": True}),
        ("book broken words", {"hyphenate": True}),
        ("book misread words", {"misread": 0.01}),
        ("book all of them", {"numbers": True, "form_feeds": True, "heads": True, "hyphenate": True, "misread": 0.01}),
    )
    for (name, text), (kind, settings) in zip(found.items(), classes, strict=False):
        _plant_print(mixture, kind, name, _middle(text), settings)
    later = list(found.items())[len(classes) :]
    _plant_notes(mixture, *later[0])
    _plant_licence(mixture, *later[1])


def _middle(text: str, length: int = _LENGTH) -> list[list[str]]:
    """Paragraphs of a part of a book, as tokens; without its own footnotes, which are to go."""
    plain = text.replace("\r\n", "\n")
    start = min(len(plain) // 4, max(0, len(plain) - length))
    paragraphs = plain[start : start + length].split("\n\n")[1:-1]
    return [paragraph.split() for paragraph in paragraphs if paragraph.strip() and paragraph.strip()[0] not in "*[†"]


def _plant_print(mixture: Mixture, kind: str, name: str, paragraphs: list[list[str]], settings: dict) -> None:
    generator = mixture.generator(name)
    tokens = [token for paragraph in paragraphs for token in paragraph]
    uri = f"books/{Path(name).stem}.txt"
    press = _Press(mixture, kind, uri, Path(name).stem.upper(), tokens, generator, settings)
    printed = [_misread_all(press, paragraphs)] if settings.get("misread") else [paragraphs]
    planted = press.pages(press.lines(printed[0]))
    plain = "\n\n".join("\n".join(_wrap(paragraph)) for paragraph in paragraphs) + "\n"
    mixture.write(uri, planted, plain)
    mixture.keep(kind, uri, "\n\n".join(map(" ".join, paragraphs)))


def _wrap(tokens: list[str]) -> list[str]:
    lines, line = [], ""
    for token in tokens:
        if line and len(line) + 1 + len(token) > _WIDTH:
            lines.append(line)
            line = token
        else:
            line = f"{line} {token}".strip()
    return [*lines, line] if line else lines


class _Press:
    """Prints a book, and writes down what it does to it. `at` counts the tokens of the text that are printed."""

    def __init__(
        self,
        mixture: Mixture,
        kind: str,
        uri: str,
        title: str,
        tokens: list[str],
        generator: random.Random,
        settings: dict,
    ) -> None:
        self.mixture, self.kind, self.uri, self.title = mixture, kind, uri, title
        self.tokens, self.generator, self.settings = tokens, generator, settings

    def lines(self, paragraphs: list[list[str]]) -> list[tuple[str, int]]:
        """(line, number of the first token that is wholly behind it); an empty line ends a paragraph."""
        printed: list[tuple[str, int]] = []
        at = 0
        for paragraph in paragraphs:
            line = ""
            for token in paragraph:
                room = _WIDTH - len(line) - 1
                if not line or len(token) <= room:
                    line = f"{line} {token}".strip()
                elif self.settings.get("hyphenate") and token.isalpha() and len(token) >= 7 and room >= 5:
                    cut = self.generator.randint(3, min(room - 1, len(token) - 3))
                    printed.append((f"{line} {token[:cut]}-", at))
                    line = token[cut:]
                    self.mixture.plant(self.kind, self.uri, "restored", around(self.tokens, at, 2, 3), "broken word")
                else:
                    printed.append((line, at))
                    line = token
                at += 1
            printed += [(line, at), ("", at)]
        return printed

    def pages(self, printed: list[tuple[str, int]]) -> str:
        settings = self.settings
        if not (settings.get("numbers") or settings.get("heads")):
            return "\n".join(line for line, _ in printed) + "\n"
        parts: list[str] = []
        for page, first in enumerate(range(0, len(printed), _LINES)):
            body = printed[first : first + _LINES]
            number = 41 + page
            if settings.get("heads"):
                head = self.title if page % 2 else f"BOOK {1 + page // 12}"
                if settings.get("head_numbers"):
                    head = f"{head}    {number}" if page % 2 else f"{number}    {self.title}"
                parts.append(f"{head}\n")
            parts.append("\n".join(line for line, _ in body).strip("\n") + "\n")
            if settings.get("numbers"):
                parts.append(f"\n{number}\n")
            if settings.get("form_feeds"):
                parts.append("\f")
            at = body[-1][1]
            if 3 < at < len(self.tokens) - 3:
                self.mixture.plant(self.kind, self.uri, "restored", around(self.tokens, at), f"page {number}")
        return "".join(parts)


def _misread_all(press: _Press, paragraphs: list[list[str]]) -> list[list[str]]:
    """Words of four letters and more with one confusion, that are no other word of the book then."""
    known = {token.strip(".,;:!?'\"").casefold() for token in press.tokens}
    at = 0
    result: list[list[str]] = []
    for paragraph in paragraphs:
        changed: list[str] = []
        for token in paragraph:
            read = _misread(token, press.generator) if press.generator.random() < press.settings["misread"] else token
            if read != token and read.strip(".,;:!?'\"").casefold() not in known:
                press.mixture.plant(
                    press.kind, press.uri, "restored", around(press.tokens, at, 2, 3), f"read as {read}"
                )
                changed.append(read)
            else:
                changed.append(token)
            at += 1
        result.append(changed)
    return result


def _misread(token: str, generator: random.Random) -> str:
    if not token.isalpha() or not token.islower() or len(token) < 4:
        return token
    places = [(at, printed) for printed in _MISREAD for at in range(len(token)) if token.startswith(printed, at)]
    if not places:
        return token
    at, printed = generator.choice(places)
    return token[:at] + _MISREAD[printed] + token[at + len(printed) :]


def _plant_notes(mixture: Mixture, name: str, text: str) -> None:
    """A reference in every sixth paragraph, and its note behind the paragraph."""
    kind, uri = "book footnotes", f"books/{Path(name).stem}.txt"
    paragraphs = _middle(text)
    printed: list[str] = []
    count = 0
    for number, paragraph in enumerate(paragraphs):
        if number % 6 or len(paragraph) < 20 or any("[" in token for token in paragraph):
            printed.append("\n".join(_wrap(paragraph)))
            continue
        count += 1
        noted = [*paragraph[:9], f"{paragraph[9]}[{count}]", *paragraph[10:]]
        note = f"The editor has compared this place with edition number {count} of the year {1600 + count}."
        printed += ["\n".join(_wrap(noted)), f"[{count}] {note}"]
        mixture.plant(kind, uri, "erased", note, f"note {count}")
        mixture.plant(kind, uri, "restored", " ".join(paragraph[7:13]), f"reference {count}")
    mixture.write(uri, "\n\n".join(printed) + "\n", "\n\n".join("\n".join(_wrap(p)) for p in paragraphs) + "\n")
    mixture.keep(kind, uri, "\n\n".join(map(" ".join, paragraphs)))


def _plant_licence(mixture: Mixture, name: str, text: str) -> None:
    kind, title = "book Gutenberg licence", Path(name).stem
    uri = f"books/{title}.txt"
    body = "\n\n".join("\n".join(_wrap(paragraph)) for paragraph in _middle(text))
    head, foot = (part.format(title=title, upper=title.upper()) for part in _GUTENBERG)
    mixture.write(uri, f"{head}{body}{foot}", body + "\n")
    for where, part in (("head", head), ("foot", foot)):
        for paragraph in part.split("\n\n"):
            if len(paragraph.split()) >= 5:
                mixture.plant(kind, uri, "erased", paragraph, where)
    mixture.keep(kind, uri, body)
