"""The web: pages of newspapers and manuals with their frames, junk that rules of quality are for, broken encodings."""

import re
from collections.abc import Iterator
from pathlib import Path

from mixture.planting import ORIGINALS, Mixture, around, windows, words
from mixture.real_texts import articles, news, web_pages

_JUNK = 15  # documents of each class
_MANUALS = 40
_NOTICES = (
    "This website uses cookies so that it works as it should and so that we can see how it is used; by going on you "
    "agree that they are stored on your device, as our policy tells in more detail.",
    "All material on these pages is the property of its publisher. No part of it may be copied, stored or passed on in "
    "any form without written permission, which can be asked for at the address given below.",
    "Sign up for our newsletter today and get the best stories of the week in your inbox every Friday morning, free of "
    "charge and without any obligation. You can leave the list again at any time.",
)
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")  # of an encoding that the text no longer has


def plant_web(mixture: Mixture, data: Path, manuals: Path | None) -> None:
    mixture.source("articles", "LicenseRef-news", kind="web")
    _plant_articles(mixture, data)
    mixture.source("manuals", "MIT OR Apache-2.0", kind="web")
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
    for place, block in enumerate(dict.fromkeys(_blocks(page.decode("utf-8", "replace")))):
        found = words(block)
        if len(found) >= 4 and not windows(found) & inside:
            mixture.plant(kind, uri, "erased", block, f"block {place}")
    mixture.keep(kind, uri, body)


def _blocks(page: str) -> Iterator[str]:
    """The text of each element that stands by itself, in order."""
    from lxml import html

    breaks = {
        "p",
        "div",
        "li",
        "td",
        "th",
        "tr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "section",
        "article",
        "ul",
        "ol",
        "br",
    }
    held: list[str] = []
    for event, element in _events(html.document_fromstring(_DECLARATION.sub("", page))):
        if element.tag in breaks and held:
            yield " ".join(held)
            held = []
        text = element.text if event == "start" else element.tail
        if text and text.strip() and (event == "end" or element.tag not in ("script", "style", "noscript", "template")):
            held.append(" ".join(text.split()))
    if held:
        yield " ".join(held)


def _events(root) -> Iterator:
    from lxml.etree import iterwalk, strip_elements

    body = root.find("body")
    if body is None:
        return
    strip_elements(body, "script", "style", "noscript", "template", "svg", "textarea", with_tail=False)
    for event, element in iterwalk(body, events=("start", "end")):
        if isinstance(element.tag, str):
            yield event, element


def find_manuals() -> Path | None:
    """A folder of manuals in HTML on this machine: of a Debian package, or else the book that comes with Rust."""
    folders = {path.parent for path in Path("/usr/share/doc").glob("*/html/*.html")}
    large = [folder for folder in folders if len(list(folder.glob("*.html"))) >= 20]
    rust = (Path.home() / ".rustup" / "toolchains").glob("*/share/doc/rust/html/book")
    return min(large, default=None) or min((path for path in rust if path.is_dir()), default=None)


def _plant_manuals(mixture: Mixture, folder: Path | None) -> None:
    """Pages whose text is within <main>; what is outside of it is their frame."""
    kind = "frame of a manual"
    if folder is None:
        mixture.notes.append("no manuals in HTML on this machine: name a folder of them with --manuals")
        return
    from lxml import html

    mixture.notes.append(f"manuals: pages in HTML of {folder}")
    used = 0
    for path in sorted(folder.glob("*.html")):
        page = path.read_bytes()
        found = html.document_fromstring(page.decode("utf-8")).find(".//main")
        body = "" if found is None else "\n".join(_blocks(f"<body>{html.tostring(found, encoding='unicode')}"))
        if len(words(body)) < 150 or path.name in ("print.html", "toc.html"):
            continue
        uri = f"manuals/{path.name}"
        mixture.write(uri, page, page)
        _plant_frame(mixture, kind, uri, page, body)
        used += 1
        if used == _MANUALS:
            break
    if not used:
        mixture.notes.append(f"{folder}: no page has a <main>, so none of them is in the mixture")


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
