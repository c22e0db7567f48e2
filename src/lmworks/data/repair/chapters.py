"""Where the chapters of a book begin, by their headings."""

import re
from collections.abc import Sequence

from lmworks.data.repair.layout import ends_sentence, roman_value, split_lines

_LONGEST = 120  # characters of a heading
_NEAR = 100  # characters between headings of a list of contents, at most
LABELS = (
    "chapter|book|part|letter|section|canto|act|scene|volume|stave|kapitel|teil|buch|brief|abschnitt|akt|szene|"
    "chapitre|livre|partie|lettre|tome|acte|scène|"
    "capítulo|capitulo|libro|parte|carta|capitolo|hoofdstuk|deel|boek"
)
_ORDINALS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|"
    "(?:the )?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|last)"
)
_NAMES = (
    "preface|foreword|introduction|introductory|prologue|epilogue|conclusion|appendix|afterword|postscript|"
    "vorwort|einleitung|nachwort|anhang|préface|avant-propos|épilogue|conclusión|prólogo|epílogo|prefazione|"
    "introducción|introduzione"
)
_LABELLED = re.compile(
    rf"(?P<label>(?:(?:{LABELS})\s+(?:[0-9]{{1,3}}|[ivxlc]{{1,9}}|{_ORDINALS})))"
    rf"(?P<rest>(?:\s*[.:,—–-].*)?|\s+.*)|(?:the\s+)?(?:{_NAMES})(?:\s+[0-9ivx]{{1,5}})?(?:\s*[.:—–-].*)?",
    re.I,
)
_NUMERAL = re.compile(r"(?:[0-9]{1,3}|[IVXLC]{1,9})\.?")
_MARKDOWN = re.compile(r"#{1,6}\s*\S")


def chapters(text: str) -> list[tuple[int, str]]:
    """(start, title) of each chapter, in order: code points to the line of its heading, and the heading's text.

    A heading stands between empty lines (or is marked as one in Markdown) and begins with a name such as "Chapter"
    and a number, or is one such as "Preface". In a text without those, numerals that count up from 1 alone on their
    lines are headings. A list of contents is none.
    """
    lines, starts = split_lines(text)
    found = [line for line in range(len(lines)) if _is_heading(lines, line)]
    found = _without_contents(found, lines, starts) or _numerals(lines)
    return [(starts[line], _title(lines, line)) for line in found]


def _is_heading(lines: Sequence[str], line: int) -> bool:
    text = lines[line]
    if not text or len(text) > 2 * _LONGEST:
        return False
    bare = plain_heading(text)
    if not bare or len(bare) > _LONGEST:
        return False
    if _MARKDOWN.match(text):
        return True
    if not bare[0].isupper() or not (match := _LABELLED.fullmatch(bare)) or not _is_set_off(lines, line):
        return False
    rest = (match["rest"] or "").strip()
    # "Part I have seen" is a sentence: without a mark, a title has to begin as one, and not to end as a sentence
    return not rest or rest[0] in ".:,—–-" or (rest[0].isupper() and not rest.endswith((".", ",", ";")))


def plain_heading(line: str) -> str:
    """A line without the marks of Markdown's headings and emphasis."""
    return line.strip().lstrip("#").strip(" \t*_#")


def _is_set_off(lines: Sequence[str], line: int) -> bool:
    before = lines[line - 1].strip() if line else ""
    after = lines[line + 1].strip() if line + 1 < len(lines) else ""
    return not before and (not after or (len(after) <= _LONGEST and not _LABELLED.fullmatch(plain_heading(after))))


def _without_contents(found: Sequence[int], lines: Sequence[str], starts: Sequence[int]) -> list[int]:
    """Without runs of three headings and more that have next to nothing between them; the last one may be real."""
    kept: list[int] = []
    run: list[int] = []
    for line in [*found, len(lines)]:
        if run and starts[line] - starts[run[-1] + 1] > _NEAR:
            kept += run if len(run) < 3 else run[-1:]
            run = []
        if line < len(lines):
            run.append(line)
    if run:
        kept += run if len(run) < 3 else run[-1:]
    return kept


def _numerals(lines: Sequence[str]) -> list[int]:
    """Lines of numerals that count up from 1, if there are three at least."""
    found: list[int] = []
    for line, text in enumerate(lines):
        if not text or len(text) > _LONGEST or not _NUMERAL.fullmatch(bare := plain_heading(text)):
            continue
        numeral = bare.removesuffix(".")
        value = int(numeral) if numeral.isdigit() else roman_value(numeral)
        if value == len(found) + 1 and _is_set_off(lines, line):
            found.append(line)
    return found if len(found) >= 3 else []


def _title(lines: Sequence[str], line: int) -> str:
    """The heading, with the line behind it where that is the title of what has only a number."""
    title = plain_heading(lines[line])
    match = _LABELLED.fullmatch(title)
    only_number = _NUMERAL.fullmatch(title) or (match and match["label"] and not (match["rest"] or "").strip(" .:"))
    if not only_number or _MARKDOWN.match(lines[line]):
        return title
    for after in range(line + 1, min(line + 4, len(lines))):
        following = plain_heading(lines[after])
        if following:
            alone = after + 1 == len(lines) or not lines[after + 1].strip()
            is_title = alone and len(following) <= _LONGEST and (following.isupper() or not ends_sentence(following))
            return f"{title} {following}" if is_title and following[0].isalpha() else title
    return title
