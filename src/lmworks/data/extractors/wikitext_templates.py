"""The few templates of MediaWiki that stand for words of a sentence. All others are decoration, data or notes.

The names are those of the English Wikipedia, which many other wikis have taken over.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lmworks.data.extractors.markdown_writer import lowered, raised
from lmworks.data.extractors.wikitext_marks import QUOTE_BEGINS, QUOTE_ENDS

_MAX_NAME = 60
_NAME_OF_ARGUMENT = re.compile(r"[A-Za-z0-9_ -]{1,40}")
_MAX_PARTS = 20  # of a quantity
_RANGES = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ",
           "*": " × ", "+/-": " ± ", "±": " ± ", "to(-)": " to ", "and(-)": " and "}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Arguments:
    positional: Sequence[str]
    named: Mapping[str, str]

    def at(self, number: int) -> str:
        """The positional argument with this number, from 1; empty when there is none."""
        return self.positional[number - 1] if number <= len(self.positional) else ""


def expand(name: str, arguments: Sequence[str]) -> str | None:
    """The text that a template stands for, by its name and its arguments as written; None when it is to be left out."""
    name = " ".join(name.replace("_", " ").split())
    if len(name) > _MAX_NAME:
        return None
    function, colon, value = name.partition(":")
    if colon and function.lower() in ("formatnum", "lc", "uc", "lcfirst", "ucfirst"):
        return value.strip()
    name = name.lower()
    if name in _WORDS:
        return _WORDS[name]
    reader = _READERS.get(name) or (_first if name.startswith("lang-") else None)
    return None if reader is None else reader(_parse(arguments))


def _parse(arguments: Sequence[str]) -> _Arguments:
    positional: list[str] = []
    named: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        name = name.strip()
        if not equals or not _NAME_OF_ARGUMENT.fullmatch(name):
            positional.append(argument.strip())
        elif name == str(len(positional) + 1):  # `1=` says that the text may hold an equals sign
            positional.append(value.strip())
        else:
            named[name.lower()] = value.strip()
    return _Arguments(positional, named)


def _first(arguments: _Arguments) -> str:
    return arguments.at(1)


def _second(arguments: _Arguments) -> str:
    return arguments.at(2)


def _last(arguments: _Arguments) -> str:
    return arguments.positional[-1] if arguments.positional else ""


def _spaced(arguments: _Arguments) -> str:
    return " ".join(filter(None, arguments.positional))


def _keys(arguments: _Arguments) -> str:
    return "+".join(filter(None, arguments.positional))


def _circa(arguments: _Arguments) -> str:
    return "–".join(f"c. {date}" for date in arguments.positional) or "c."


def _as_of(arguments: _Arguments) -> str:
    return f"As of {arguments.at(1)}"


def _fraction(arguments: _Arguments) -> str:
    """`frac|2`, `frac|1|2`, `frac|3|1|2`: 1/2, 1/2, 3 1/2."""
    numbers = arguments.positional
    if len(numbers) == 1:
        return f"1/{numbers[0]}"
    whole = f"{numbers[0]} " if len(numbers) == 3 else ""
    return whole + "/".join(numbers[-2:])


def _value(arguments: _Arguments) -> str:
    """`val|1.5|0.1|u=m`: 1.5 ± 0.1 m."""
    exponent = arguments.named.get("e", "")
    unit = arguments.named.get("u", "") or arguments.named.get("ul", "")
    number = " ± ".join(filter(None, arguments.positional[:2]))
    return " ".join(filter(None, (number, f"× 10{raised(exponent)}" if exponent else "", unit)))


def _convert(arguments: _Arguments) -> str:
    """The quantity as the author wrote it, without what it is converted to: `convert|3|to|5|km|mi` is 3 to 5 km."""
    parts = list(arguments.positional[:_MAX_PARTS])
    text = parts.pop(0) if parts else ""
    while len(parts) >= 2 and parts[0].lower() in _RANGES:
        text += _RANGES[parts[0].lower()] + parts[1]
        del parts[:2]
    while parts:
        text += f" {parts.pop(0)}"  # the unit
        if len(parts) < 2 or not parts[0].isdigit() or not parts[1].isalpha():
            break
        text += f" {parts.pop(0)}"  # the number of a smaller unit, as in 6 ft 2 in
    return text


def _quotation(arguments: _Arguments) -> str:
    text = arguments.named.get("text") or arguments.named.get("quote") or arguments.at(1)
    author = arguments.named.get("author") or arguments.named.get("sign") or arguments.at(2)
    return f"{QUOTE_BEGINS}{text}" + (f"\n\n— {author}" if author else "") + QUOTE_ENDS


def _raised(arguments: _Arguments) -> str:
    return raised(arguments.at(1))


def _lowered(arguments: _Arguments) -> str:
    return lowered(arguments.at(1))


_WORDS = {
    "!": "|", "=": "=", "'": "'", "·": " · ", "bull": " • ", "dot": " · ", "middot": " · ", "em dash": "—",
    "emdash": "—", "mdash": "—", "en dash": "–", "endash": "–", "ndash": "–", "snd": " – ", "spaced en dash": " – ",
    "spaced ndash": " – ", "spnd": " – ", "ellipsis": "…", "minus": "−", "n/a": "n/a", "nbsp": " ", "no": "No",
    "pi": "π", "times": "×", "yes": "Yes",
}  # fmt: skip

_READERS: dict[str, Callable[[_Arguments], str]] = {
    **dict.fromkeys(
        (
            "abbr", "angbr", "big", "bigmath", "code", "em", "gloss", "ill", "interlanguage link", "kbd", "larger",
            "math", "mono", "mvar", "nihongo", "no italic", "nobold", "nobr", "noitalic", "nowrap", "proper name",
            "samp", "sc", "sic", "small", "smallcaps", "smallcaps all", "smaller", "strong", "tooltip", "tt",
            "unicode", "var",
        ),
        _first,
    ),
    **dict.fromkeys(("lang", "langx", "wikt-lang"), _second),
    **dict.fromkeys(("color", "font color", "ipa", "transl", "transliteration"), _last),
    **dict.fromkeys(("hms", "ship", "sclass", "uss"), _spaced),
    **dict.fromkeys(("key press", "keypress"), _keys),
    **dict.fromkeys(("c.", "ca.", "circa"), _circa),
    **dict.fromkeys(("convert", "cvt"), _convert),
    **dict.fromkeys(("frac", "fraction", "sfrac"), _fraction),
    **dict.fromkeys(
        ("blockquote", "bquote", "cquote", "poem quote", "poemquote", "quotation", "quote"), _quotation
    ),
    "as of": _as_of,
    "sub": _lowered,
    "sup": _raised,
    "val": _value,
}  # fmt: skip
