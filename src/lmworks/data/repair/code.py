"""What is to be said of a file of code: whether a program wrote it, whose it is, what of it is data, if it parses.

Nothing is edited: these are measures and marks, from which a policy decides.
"""

import json
import re
import tomllib
import warnings
from collections.abc import Iterator

from lmworks.data.annotation import Annotations, Mark, Text
from lmworks.data.repair.code_comments import measure_comments

_HEAD = 5000  # characters in which a program says that it wrote a file
_LONGEST_PARSED = 1_000_000  # characters
_LONG_LINE = 500  # characters of a line that is minified, if hardly any is a space
_LONG_LITERAL = 1000

_GENERATED = re.compile(
    r"@generated\b|(?-i:DO NOT (?:EDIT|MODIFY))|\bdo not (?:edit|modify) (?:this file|it|by hand|manually|directly)\b|"
    r"\bauto(?:matically |-?)generated\b|\bgenerated (?:by|from|with|using) (?:the )?[\w.\"'/-]+|"
    r"\bthis (?:file|code) (?:is|was|has been) generated\b|"
    r"\b(?:changes|edits|modifications)(?: \w+){0,2} (?:in|to) (?:this|the) (?:\w+ )?file will be "
    r"(?:lost|overwritten)\b",
    re.I,
)
_SURELY = re.compile(
    r"@generated\b|\bdo not (?:edit|modify)\b|\bauto(?:matically |-?)generated\b|\bwill be (?:lost|overwritten)\b", re.I
)
_GENERATED_NAME = re.compile(
    r"(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|poetry\.lock|pdm\.lock|"
    r"uv\.lock|pipfile\.lock|cargo\.lock|gemfile\.lock|composer\.lock|go\.sum|packages\.lock\.json|mix\.lock|"
    r"flake\.lock|[\w.-]+_pb2(?:_grpc)?\.pyi?|[\w.-]+\.pb(?:\.gw)?\.(?:go|h|cc|cpp|c)|[\w.-]+_pb\.(?:js|d\.ts)|"
    r"[\w.-]+\.g\.(?:dart|cs)|[\w.-]+\.freezed\.dart|[\w.-]+\.designer\.cs|[\w.-]+\.min\.(?:js|css)|"
    r"[\w.-]+\.(?:js|css)\.map|[\w.-]+\.bundle\.js|zz_generated[\w.-]+|[\w.-]+\.generated\.[\w.]+|"
    r"ui_[\w-]+\.h|moc_[\w-]+\.cpp|parsetab\.py)",
    re.I,
)
_VENDORED = re.compile(
    r"(?:^|/)(?:vendor|node_modules|bower_components|third[_-]?party|externals?|site-packages|dist-packages|godeps|"
    r"pods|carthage|\.venv|venv|\.yarn|jspm_packages)/",
    re.I,
)
_DATA = re.compile(
    r"""(?:(?<![\w.])-?0x[0-9a-fA-F]{1,16}[uUlL]{0,3}\s*+,\s*+){31}          # numbers in hexadecimal
        (?:-?0x[0-9a-fA-F]{1,16}[uUlL]{0,3}\s*+,?\s*+)++
    | (?:(?<![\w.])-?[0-9][0-9._]*+(?:[eE][-+]?[0-9]++)?[fFuUlL]{0,3}\s*+,\s*+){63}  # numbers
        (?:-?[0-9][0-9._]*+(?:[eE][-+]?[0-9]++)?[fFuUlL]{0,3}\s*+,?\s*+)++
    | (?:\\x[0-9a-fA-F]{2}){32,}+                                            # bytes of a literal
    | (?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{200,}+={0,2}                          # base64
    """,
    re.X,
)
# To the end of its line, where it is not closed: so each character is looked at once.
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\[^\n]?)*+(?:"|(?=\n)|\Z)|' + r"'(?:[^'\\\n]|\\[^\n]?)*+(?:'|(?=\n)|\Z)")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def inspect_code(text: Text) -> Annotations:
    """Measures and marks of a file of code; its name is the last part of `text.uri`.

    Measures: `code_generated` (how sure it is that a program wrote it; 0 where nothing says so), `code_vendored` (1 for
    a path of other people's code, else 0), `code_mean_line_length` and `code_longest_line` (characters),
    `code_space_share`, `code_alphanumeric_share`, `code_data_share` (of the characters), `code_parses` (1 or 0; of
    Python, JSON and TOML), and those of `measure_comments`. Marks: `code.generated`, `code.minified`, `code.data`, and
    those of `measure_comments`. No measures of an empty text.
    """
    if not text.text:
        return Annotations()
    name = text.uri.rsplit("/", 1)[-1]
    generated, score = _generated(text.text, name)
    data = list(_data(text.text))
    comments = measure_comments(text.text, name)
    measures = {
        "code_generated": score,
        "code_vendored": float(bool(_VENDORED.search(text.uri))),
        "code_data_share": sum(mark.end - mark.start for mark in data) / len(text.text),
        **_shape(text),
        **_parsed(text.text, name),
        **comments.measures,
    }
    marks = [*generated, *_minified(text), *data, *comments.marks]
    return Annotations(measures, tuple(sorted(marks, key=lambda mark: (mark.start, mark.end, mark.rule))))


def _generated(text: str, name: str) -> tuple[list[Mark], float]:
    marks = [
        Mark("code.generated", match.start(), match.end(), 1.0 if _SURELY.search(match[0]) else 0.7)
        for match in _GENERATED.finditer(text, 0, _HEAD)
        if _is_comment(text, match.start())
    ]
    score = 1.0 if _GENERATED_NAME.fullmatch(name) else max((mark.score for mark in marks), default=0.0)
    return marks, score


def _is_comment(text: str, position: int) -> bool:
    """Whether the line at a position begins as a comment or as the text within one; code that writes code does not."""
    line = text[text.rfind("\n", 0, position) + 1 : position].lstrip()
    return not any(mark in line for mark in "=()\"'") or line.startswith(("#", "//", "/*", "*", "--", ";", "%", "<!--"))


def _shape(text: Text) -> dict[str, float]:
    length = len(text.text)
    lines = [len(line) for line in text.lines if line]
    spaces = length - len("".join(text.text.split()))
    return {
        "code_mean_line_length": sum(lines) / max(1, len(lines)),
        "code_longest_line": float(max(lines, default=0)),
        "code_space_share": spaces / length,
        "code_alphanumeric_share": len(_NOT_ALPHANUMERIC.sub("", text.text)) / length,
    }


def _minified(text: Text) -> Iterator[Mark]:
    """Runs of long lines with hardly a space in them."""
    position = 0
    start = -1
    for line in [*text.lines, ""]:
        minified = len(line) >= _LONG_LINE and line.count(" ") + line.count("\t") <= 0.1 * len(line)
        if minified and start < 0:
            start = position
        elif not minified and start >= 0:
            yield Mark("code.minified", start, position - 1)
            start = -1
        position += len(line) + 1


def _data(text: str) -> Iterator[Mark]:
    """Arrays of numbers, base64, and literals of a thousand characters, without overlaps."""
    found = [match.span() for match in _DATA.finditer(text)]
    found += [match.span() for match in _LITERAL.finditer(text) if match.end() - match.start() >= _LONG_LITERAL]
    done = 0
    for start, end in sorted(found):
        if start >= done:
            yield Mark("code.data", start, end)
            done = end


def _parsed(text: str, name: str) -> dict[str, float]:
    """`code_parses` of a file in a language that Python brings a parser for; nothing of one that is too long."""
    if len(text) > _LONGEST_PARSED:
        return {}
    suffix = name.rsplit(".", 1)[-1].lower()
    parsers = {"py": _parse_python, "pyi": _parse_python, "json": json.loads, "toml": tomllib.loads}
    if suffix not in parsers or "." not in name:
        return {}
    try:
        parsers[suffix](text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # ValueError: of JSON, TOML, and a null byte
        return {"code_parses": 0.0}
    return {"code_parses": 1.0}


def _parse_python(text: str) -> None:
    import ast

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a "\d" in somebody's string
        ast.parse(text)
