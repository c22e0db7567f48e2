"""Files of code: whether a program wrote it, whose it is, which of it is data, if it parses, its comments, and which of
these are licences. Nothing is edited: a policy decides.
"""

import ast
import json
import re
import tomllib
import warnings
from itertools import groupby

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.tagger import Text, built_in, without_overlaps

_HEAD = 5000  # characters in which a program says that it wrote a file
_LONGEST_PARSED = 1_000_000  # characters
_LONG_LINE = 500  # characters of a line that is minified, if hardly any is a space
_LONG_LITERAL = 1000

PATTERNS = read_patterns(__file__)
# To the end of its line, where it is not closed: so each character is looked at once.
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\[^\n]?)*+(?:"|(?=\n)|\Z)|' + r"'(?:[^'\\\n]|\\[^\n]?)*+(?:'|(?=\n)|\Z)")

_LONGEST_TOKENISED = 200_000  # characters
_HEADER_LINES = 4  # lines before the comment that may be a licence: a shebang, an encoding, a tag

_LINE_COMMENTS = ("#", "//", "--", ";", "%")


def inspect_code(text: Text) -> Attributes:
    """Tag a file of code, whose name is the last part of `text.uri`; nothing of an empty one.

    Comments are looked for in the first 200,000 characters; but for Python, no further than to what hardly a person
    writes: 600 letters, blanks, slashes and stars in a row, 1,000 of these and brackets, or a line of 2,000 characters.
    """
    if text.kind != "code" or not (code := text.text):
        return Attributes()
    name = text.uri.rsplit("/", 1)[-1]
    generated = []  # places where a program says in a comment that it wrote the file; code that writes code does not
    for match in PATTERNS["generated"].finditer(code, 0, _HEAD):
        before = code[code.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip()
        is_comment = before.startswith(("#", "//", "/*", "*", "--", ";", "%", "<!--"))
        if is_comment or not any(mark in before for mark in "=()\"'"):
            is_sure = PATTERNS["surely"].search(match[0])
            generated.append(TaggedSpan("code.generated", *match.span(), 1.0 if is_sure else 0.7))
    places = [match.span() for match in PATTERNS["data"].finditer(code)]
    places += [match.span() for match in _LITERAL.finditer(code) if match.end() - match.start() >= _LONG_LITERAL]
    data = without_overlaps((TaggedSpan("code.data", *place) for place in places), lambda span: (span.start, span.end))
    minified, position = [], 0  # runs of long lines with hardly a space in them
    for is_minified, run in groupby(text.lines, _is_minified):
        size = sum(len(line) + 1 for line in run)
        if is_minified:
            minified.append(TaggedSpan("code.minified", position, position + size - 1))
        position += size
    blocks, shares = _comments(code, name)
    lines = [len(line) for line in text.lines if line]
    scores = {
        "code_generated": max((each.score for each in generated), default=0.0),
        "code_vendored": float(bool(PATTERNS["vendored"].search(text.uri))),
        "code_data_share": sum(each.end - each.start for each in data) / len(code),
        "code_mean_line_length": sum(lines) / max(1, len(lines)),
        "code_longest_line": float(max(lines, default=0)),
        "code_space_share": (len(code) - len("".join(code.split()))) / len(code),
        "code_alphanumeric_share": len(PATTERNS["not_alphanumeric"].sub("", code)) / len(code),
        **_parsed(code, name),
        **shares,
    }
    if PATTERNS["generated_name"].fullmatch(name):
        scores["code_generated"] = 1.0
    spans = [*generated, *minified, *data, *_licence(code, blocks)]
    return Attributes(scores, tuple(sorted(spans, key=lambda span: (span.start, span.end, span.rule))))


CODE = built_in("code", inspect_code)


def _is_minified(line: str) -> bool:
    return len(line) >= _LONG_LINE and line.count(" ") + line.count("\t") <= 0.1 * len(line)


def _parsed(code: str, name: str) -> dict[str, float]:
    """`code_parses` of a file in a language that Python brings a parser for; nothing of one that is too long."""
    parsers = {".py": ast.parse, ".pyi": ast.parse, ".json": json.loads, ".toml": tomllib.loads}
    parse = parsers.get("".join(name.rpartition(".")[1:]).lower())
    if parse is None or len(code) > _LONGEST_PARSED:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a "\d" in somebody's string
            parse(code)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # ValueError: of JSON, TOML, and a null byte
        return {"code_parses": 0.0}
    return {"code_parses": 1.0}


# ---------------------------------------------------------------------------------------------------------------------
# Comments


def _comments(code: str, file_name: str) -> tuple[list[tuple[int, int]], dict[str, float]]:
    """The comments of a file, those as one that have nothing but white space between them and no empty line, and their
    scores; nothing of one that no lexer knows, or that is blank."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.token import Comment, String
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_for_filename(file_name)
    except ClassNotFound:
        return [], {}
    stretch = None if file_name.endswith((".py", ".pyi")) else PATTERNS["stretch"].search(code, 0, _LONGEST_TOKENISED)
    for_programs = (Comment.Preproc, Comment.PreprocFile, Comment.Hashbang)
    blocks: list[tuple[int, int]] = []
    comment_length = docstring_length = length = 0
    for start, kind, value in lexer.get_tokens_unprocessed(code[: stretch.start() if stretch else _LONGEST_TOKENISED]):
        solid = len("".join(value.split()))
        length += solid
        if kind in Comment and not any(kind in other for other in for_programs):
            comment_length += solid
            between = code[blocks[-1][1] : start] if blocks else "\n\n"
            if not between.strip() and between.count("\n") <= 1:
                blocks[-1] = blocks[-1][0], max(blocks[-1][1], start + len(value))
            else:
                blocks.append((start, start + len(value)))
        elif kind in String.Doc:
            docstring_length += solid
    if not length:
        return [], {}
    return blocks, {"code_comment_share": comment_length / length, "code_docstring_share": docstring_length / length}


def _licence(code: str, blocks: list[tuple[int, int]]) -> list[TaggedSpan]:
    """The comment at the head of a file, if it speaks of a licence; what it says before the sentence that first does is
    no part of it. A comment that has a closing sign goes as a whole, since that cannot stay without the opening one."""
    for start, end in blocks[:3]:
        found = {match.casefold() for match in PATTERNS["licence"].findall(code, start, end)}
        if not found or code.count("\n", 0, start) > _HEADER_LINES:
            continue
        lines = [match.span() for match in PATTERNS["line"].finditer(code, start, end)]
        bare = [PATTERNS["leader"].sub("", code[first:last], count=1).strip() for first, last in lines]
        at = next((index for index, line in enumerate(bare) if PATTERNS["licence"].search(line)), 0)
        while (
            at and not PATTERNS["begins"].match(bare[at]) and bare[at - 1] and not PATTERNS["ends"].search(bare[at - 1])
        ):
            at -= 1
        while at and not any(map(str.isalnum, bare[at - 1])):  # a line that separates
            at -= 1
        if any(all(code[first:last].lstrip().startswith(sign) for first, last in lines) for sign in _LINE_COMMENTS):
            start = lines[at][0] if at else start
        return [TaggedSpan("code.licence_header", start, end, 1.0 if len(found) > 1 else 0.7)]
    return []
