"""The web: pages of newspapers and manuals with their frames, junk that rules of quality are for, broken encodings."""

import re
from collections.abc import Sequence
from pathlib import Path

from contenders.manuals import read_manual, text_blocks

from mixture.planting import ORIGINALS, Mixture, around, windows, words
from mixture.real_texts import articles, news, web_pages

_JUNK = 15  # documents of each class
_MANUALS = 40  # pages of each
_NOTICES = (
    "This website uses cookies so that it works as it should and so that we can see how it is used; by going on you "
    "agree that they are stored on your device, as our policy tells in more detail.",
    "All material on these pages is the property of its publisher. No part of it may be copied, stored or passed on in "
    "any form without written permission, which can be asked for at the address given below.",
    "Sign up for our newsletter today and get the best stories of the week in your inbox every Friday morning, free of "
    "charge and without any obligation. You can leave the list again at any time.",
)


def plant_web(mixture: Mixture, data: Path, manuals: Sequence[Path]) -> None:
    mixture.source("articles", "LicenseRef-news", kind="web")
    _plant_articles(mixture, data)
    mixture.source("manuals", "LicenseRef-manuals", kind="web")
    _plant_manuals(mixture, manuals)
    mixture.source("pages", "ODC-By-1.0", kind="web")
    pages = web_pages(data)
    for number, page in enumerate(pages[:130]):
        uri = f"pages/plain/{number:03d}.txt"
        mixture.write(uri, page, page)
        mixture.keep("(plain web pages)", uri, page)
    _plant_junk(mixture, pages[:130])
    _plant_notices(mixture, pages[130:180])
    _plant_mojibake(mixture, data)


# ---------------------------------------------------------------------------------------------------------------------
# Frames of pages


def _plant_articles(mixture: Mixture, data: Path) -> None:
    """Nothing is planted: what is around an article is the defect, and people marked the article."""
    for name, page, body in articles(data):
        uri = f"articles/{name[:16]}.html"
        mixture.write(uri, page, page)
        _plant_frame(mixture, "frame of a news page", uri, page, body)


def _plant_frame(mixture: Mixture, kind: str, uri: str, page: bytes, body: str) -> None:
    inside = windows(words(body))
    for place, block in enumerate(dict.fromkeys(text_blocks(page.decode("utf-8", "replace")))):
        found = words(block)
        if len(found) >= 4 and not windows(found) & inside:
            mixture.plant(kind, uri, "erased", block, f"block {place}")
    mixture.keep(kind, uri, body)


def _plant_manuals(mixture: Mixture, folders: Sequence[Path]) -> None:
    """Pages that say where their text is; what is outside of it is their frame."""
    if not folders:
        mixture.notes.append("no manuals in HTML on this machine: name folders of them with --manuals")
    for folder in folders:
        pages = read_manual(folder)[:_MANUALS]
        for page in pages:
            uri = f"manuals/{page.name}"
            mixture.write(uri, page.raw, page.raw)
            _plant_frame(mixture, "frame of a manual", uri, page.raw, page.body)
        mixture.notes.append(f"manuals: {len(pages)} pages of {folder}" + ("" if pages else ", none marks its text"))


# ---------------------------------------------------------------------------------------------------------------------
# Junk


def _plant_junk(mixture: Mixture, pages: list[str]) -> None:
    """Texts that no one reads, of words that people wrote."""
    generator = mixture.generator("junk")
    vocabulary = sorted({word for page in pages for word in re.findall(r"\b[a-z]{5,12}\b", page)})
    common = (
        "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not",
        "he", "his", "but", "at", "are", "this", "have", "from", "or",
    )  # fmt: skip

    def sentence(fewest: int = 8, most: int = 20) -> str:
        picked = generator.choices(vocabulary, k=generator.randint(fewest, most))
        return " ".join(w for word in picked for w in (word, generator.choice(common))).capitalize() + "."

    def repeated_line() -> str:
        return "\n".join([sentence()] * 12 + [sentence() for _ in range(6)])

    def repeated_paragraph() -> str:
        paragraph = " ".join(sentence() for _ in range(3))
        return "\n\n".join([paragraph, sentence(), paragraph, sentence(), paragraph, paragraph])

    def repeated_phrase() -> str:
        phrase = " ".join(generator.choices(vocabulary, k=4))
        return " ".join(f"{phrase} {generator.choice(vocabulary)} {generator.choice(common)}" for _ in range(60)) + "."

    def keywords() -> str:
        return ", ".join(" ".join(generator.choices(vocabulary, k=2)) for _ in range(120))

    def symbols() -> str:
        return " ".join(f"{generator.choice(vocabulary)} # {generator.choice('|*=+~')} ..." for _ in range(90))

    def bullets() -> str:
        return "\n".join(f"• {' '.join(generator.choices(vocabulary, k=5))} the of" for _ in range(50))

    def ellipses() -> str:
        return "\n".join(f"{sentence(6, 10)[:-1]} ..." for _ in range(30))

    def numbers() -> str:
        return "\n".join(" ".join(str(generator.randint(1, 9999)) for _ in range(12)) for _ in range(40))

    def short() -> str:
        return sentence(6, 9)

    makers = {
        "repeated line": repeated_line, "repeated paragraph": repeated_paragraph, "repeated phrase": repeated_phrase,
        "list of keywords": keywords, "symbols": symbols, "bullets": bullets, "ellipses": ellipses, "numbers": numbers,
        "a line or two": short,
    }  # fmt: skip
    for name, make in makers.items():
        for number in range(_JUNK):
            uri = f"pages/{name.replace(' ', '_')}/{number:02d}.txt"
            mixture.write(uri, make())
            mixture.plant("web junk", uri, "gone", where=name)


def _plant_notices(mixture: Mixture, pages: list[str]) -> None:
    """The same notice in many pages, at either end or between two paragraphs."""
    kind = "notice in many pages"
    generator = mixture.generator("notices")
    for number, page in enumerate(pages):
        uri = f"pages/notices/{number:02d}.txt"
        notice = _NOTICES[number % len(_NOTICES)]
        paragraphs = page.split("\n")
        paragraphs.insert(generator.choice((0, len(paragraphs) // 2, len(paragraphs))), notice)
        mixture.write(uri, "\n\n".join(paragraphs), "\n\n".join(page.split("\n")))
        mixture.plant(kind, uri, "once", notice)
        mixture.keep(kind, uri, page)


def _plant_mojibake(mixture: Mixture, data: Path) -> None:
    """UTF-8 that was read as Windows-1252: each word with a broken letter is a defect."""
    kind = "broken encoding (mojibake)"
    lines = news(data)
    for language in ("de", "fr", "es", "pt", "pl", "fi"):
        for number in range(4):
            text = "\n\n".join(lines[language][300 + 20 * number : 320 + 20 * number])
            uri = f"pages/mojibake/{language}{number}.txt"
            try:
                broken = text.encode("utf-8").decode("cp1252")
            except UnicodeDecodeError:  # bytes that Windows-1252 has no character for, which browsers pass on
                broken = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in text.encode("utf-8"))
            mixture.write(uri, broken, text)
            tokens = text.split()
            for at, token in enumerate(tokens):
                if not token.isascii() and any(map(str.isalpha, token)):
                    mixture.plant(kind, uri, "restored", around(tokens, at, 1, 3), token)
            mixture.keep(kind, uri, text, [ORIGINALS])
