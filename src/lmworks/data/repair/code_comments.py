"""Comments of a file of code: how much of it they are, and which of them are licences, banners or dead code."""

import re
from collections.abc import Iterable, Iterator

from lmworks.data.annotation import Annotations, Mark

_LONGEST = 200_000  # characters that are tokenised
# Lexers look for the name of a function, a type or the end of a comment over such a stretch, again from each of its
# characters: those of C's family in the first one, of Java's and others in the second, of most in a long line.
_STRETCH = re.compile(r"[\w\s/*]{600}|[\w\s/*.<>\[\]$?&@{]{1000}|[^\n]{2000}")
_HEADER_LINES = 4  # lines before the comment that may be a licence: a shebang, an encoding, a tag
_FEWEST = 3  # lines of code in a comment, in a row

_LICENCE = re.compile(
    r"licen[cs]e|copyright|©|\(c\)\s*(?:19|20)\d\d|all rights reserved|spdx-|public domain|redistribution and use|"
    r"permission is hereby granted",
    re.I,
)
_BEGINS = re.compile(
    r"(?:licen[cs]ed?\b|copyright|©|\(c\)|spdx-|permission is|this (?:file|program|module|code)\b)", re.I
)
_ENDS = re.compile(r"[.:!?>)]\Z")  # of a line: a sentence may end, too, with an address or a name in brackets
_LINE_COMMENTS = ("#", "//", "--", ";", "%")
_LINE = re.compile(r"[^\n]+")
_BANNER = re.compile(r"([#*=\-~_+/<>.])\1{19}")
_LEADER = re.compile(r"\s*(?://+|#+|--+|;+|%+|/?\*+|\"{3}|'{3}|<!--)?\s?")
_CODE_LINE = re.compile(
    r"""\s*(?:
      [^\n]*[;{}]\s*\Z                                             # a statement or a block of C's family
    | (?:if|elif|for|while|def|class|with|try|else|except|return|import|from|func|fn|let|var|const)\b
      [^\n]*[:;({)\]]\s*\Z
    | (?:import|from)\s+[\w.]+(?:\s+import\b[^\n]*)?\Z
    | [\w.\[\]'"]+\s*(?:[-+*/|&%]?=|:=|\+\+|--)(?!=)[^\n]*         # an assignment
    | [\w.]+\([^\n]*\)[;,]?\s*\Z                                    # a call
    )""",
    re.X,
)


def measure_comments(text: str, file_name: str) -> Annotations:
    """Comments of a file whose name tells its language; nothing where it does not.

    Measures: `code_comment_share` and `code_docstring_share`, of the characters that are no white space. Marks:
    `code.licence_header`, `code.banner` and `code.dead_code` (comments that hold code). Looks at the first 200,000
    characters; but for Python, no further than to what hardly a person writes: 600 letters, blanks, slashes and stars
    in a row, 1,000 of these and brackets, or a line of 2,000 characters.
    """
    stretch = None if file_name.endswith((".py", ".pyi")) else _STRETCH.search(text, 0, _LONGEST)
    tokens = _tokens(text[: stretch.start() if stretch else _LONGEST], file_name)
    if tokens is None:
        return Annotations()
    comments: list[tuple[int, int]] = []
    comment_length = docstring_length = length = 0
    for start, kind, value in tokens:
        solid = len("".join(value.split()))
        length += solid
        if kind == "comment":
            comment_length += solid
            comments.append((start, start + len(value)))
        elif kind == "docstring":
            docstring_length += solid
    if not length:
        return Annotations()
    blocks = list(_blocks(text, comments))
    marks = [*_licence(text, blocks), *(mark for block in blocks for mark in _marks(text, *block))]
    measures = {"code_comment_share": comment_length / length, "code_docstring_share": docstring_length / length}
    return Annotations(measures, tuple(sorted(marks, key=lambda mark: (mark.start, mark.end, mark.rule))))


def _tokens(text: str, file_name: str) -> Iterator[tuple[int, str, str]] | None:
    """(start, "comment", "docstring" or "", text) of each token; None for a file that no lexer knows."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.token import Comment, String
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(file_name)
    except ClassNotFound:
        return None

    for_programs = (Comment.Preproc, Comment.PreprocFile, Comment.Hashbang)

    def kinds() -> Iterator[tuple[int, str, str]]:
        for start, kind, value in lexer.get_tokens_unprocessed(text):
            if kind in Comment and not any(kind in other for other in for_programs):
                yield start, "comment", value
            else:
                yield start, "docstring" if kind in String.Doc else "", value

    return kinds()


def _blocks(text: str, comments: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Comments that have nothing but white space between them, and no empty line, as one."""
    held: tuple[int, int] | None = None
    for start, end in comments:
        if held:
            between = text[held[1] : start]
            if start <= held[1] or (not between.strip() and between.count("\n") <= 1):
                held = held[0], max(held[1], end)
                continue
            yield held
        held = start, end
    if held:
        yield held


def _licence(text: str, blocks: list[tuple[int, int]]) -> list[Mark]:
    """The comment at the head of a file, if it speaks of a licence; what it says before that is no part of it."""
    for start, end in blocks[:3]:
        if text.count("\n", 0, start) > _HEADER_LINES:
            break
        if found := {match.casefold() for match in _LICENCE.findall(text, start, end)}:
            begin = _begin_of_licence(text, start, end)
            return [Mark("code.licence_header", begin, end, 1.0 if len(found) > 1 else 0.7)]
    return []


def _begin_of_licence(text: str, start: int, end: int) -> int:
    """Where the sentence begins that first speaks of a licence. A comment that has a closing sign goes as a whole,
    since that cannot stay without the opening one."""
    lines = [match.span() for match in _LINE.finditer(text, start, end)]
    if not any(all(_is_comment(text[first:last], sign) for first, last in lines) for sign in _LINE_COMMENTS):
        return start
    bare = [_LEADER.sub("", text[first:last], count=1).strip() for first, last in lines]
    at = next((index for index, line in enumerate(bare) if _LICENCE.search(line)), 0)
    while at and not _BEGINS.match(bare[at]) and bare[at - 1] and not _ENDS.search(bare[at - 1]):
        at -= 1
    while at and not any(map(str.isalnum, bare[at - 1])):  # a line that separates
        at -= 1
    return lines[at][0] if at else start


def _is_comment(line: str, sign: str) -> bool:
    return line.lstrip().startswith(sign)


def _marks(text: str, start: int, end: int) -> Iterator[Mark]:
    lines: list[tuple[int, int, bool]] = []
    position = start
    for line in text[start:end].split("\n"):
        if not any(map(str.isalnum, line)) and _BANNER.search(line):
            yield Mark("code.banner", position, position + len(line))
        bare = _LEADER.sub("", line, count=1)
        lines.append((position, position + len(line), bool(bare.strip()) and bool(_CODE_LINE.match(bare[:200]))))
        position += len(line) + 1
    code = [index for index, line in enumerate(lines) if line[2]]
    if len(code) >= _FEWEST:
        first, last = code[0], code[-1]
        share = len(code) / (last - first + 1)
        if share >= 0.6:
            yield Mark("code.dead_code", lines[first][0], lines[last][1], share)
