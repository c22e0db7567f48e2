"""Where planted documents go, and the truth about them: what is wrong with each, and which of its text is harmless.

Every document is written twice: with its defect below `planted/`, and as it was below `originals/`. Both are cleaned by
one recipe. What is caught is read off the first, what is taken wrongly off both, by comparing texts alone: no name of a
rule and no score is looked at.

Texts are compared as words (runs of letters and digits, casefolded, in Unicode's form NFKC; single characters where a
script writes no spaces), so marks, blanks and line ends count for nothing.
"""

import json
import random
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

# What is to become of a planted defect:
#   restored   `text`, words around the place as they were without the defect, stand in the document in a row
#   absent     `text` stands no more in the document
#   erased     no six words in a row of `text` stand in the document
#   gone       the document is not among the cleaned ones
#   fewer      of the documents that share `text`, the name of their group, at most one is left
#   once       of the documents with the same `text`, at most one still holds it
#   fewer_lines  of so many lines, the number at the beginning of `text`, none matches the pattern behind it any more
#   language   the document is told to be in the language `text`
#   accounted  the file became a document, or is named among what was left out, with a reason
Expect = Literal["restored", "absent", "erased", "gone", "fewer", "once", "fewer_lines", "language", "accounted"]

PLANTED, ORIGINALS = "planted", "originals"
_WORD = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\\W_]+")


@dataclass(frozen=True, slots=True)
class Defect:
    """One planted defect: its class, the document (source and path), and what is to become of it."""

    kind: str
    uri: str
    expect: Expect
    text: str = ""
    where: str = ""  # for the reader of the truth: line, page or the like


@dataclass(frozen=True, slots=True)
class Harmless:
    """Text of a document that is to stay, whatever is done about the class; `build` is the half that it is part of."""

    kind: str
    build: str
    uri: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A `corpus.read` stage: the folder of its files, and its settings."""

    name: str
    licence: str
    kind: str = "auto"
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Mixture:
    """What is being written. `seed` makes all choices of all builders."""

    folder: Path
    seed: int = 0
    sources: dict[str, Source] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    harmless: list[Harmless] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # of data that were not there, and where some came from

    def generator(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def source(self, name: str, licence: str, kind: str = "auto", **settings: str) -> None:
        self.sources[name] = Source(name, licence, kind, settings)

    def write(self, uri: str, planted: str | bytes | None, original: str | bytes | None = None) -> None:
        """A file of a source, in the halves for which it is given. `uri` begins with the name of the source."""
        for half, content in ((PLANTED, planted), (ORIGINALS, original)):
            if content is not None:
                path = self.folder / half / uri
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)

    def plant(self, kind: str, uri: str, expect: Expect, text: str = "", where: str = "") -> None:
        self.defects.append(Defect(kind, uri, expect, text, where))

    def keep(self, kind: str, uri: str, text: str, halves: Iterable[str] = (PLANTED, ORIGINALS)) -> None:
        self.harmless += [Harmless(kind, half, uri, text) for half in halves]

    def save_truth(self) -> None:
        for name, rows in (("truth", self.defects), ("harmless", self.harmless)):
            with (self.folder / f"{name}.jsonl").open("w", encoding="utf-8", errors="surrogatepass") as stream:
                for row in rows:
                    stream.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def words(text: str) -> list[str]:
    """What texts are compared by."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("\u00ad", ""))


def windows(found: list[str], size: int = 4) -> set[tuple[str, ...]]:
    """All runs of so many words."""
    return {tuple(found[at : at + size]) for at in range(len(found) - size + 1)}


def around(tokens: list[str], at: int, before: int = 3, after: int = 3) -> str:
    """The tokens about a place between two of them, or about one with `after` counted from it."""
    return " ".join(tokens[max(0, at - before) : at + after])


@cache
def made_words(number: int = 1500, seed: int = 7) -> tuple[str, ...]:
    """Words that no one wrote, for texts of no sense."""
    generator = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "el", "in", "or")]
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(generator.choices(syllables, k=generator.choice((2, 2, 3, 3, 4))))] = None
    return tuple(found)
