"""The few templates of MediaWiki that stand for words of a sentence. All others are decoration, data or notes.

The names are those of the English Wikipedia, which many other wikis have taken over.
"""

from collections.abc import Callable, Mapping

from lmworks.corpus.extract.markdown_writer import lowered, raised

_MAX_PARTS = 20  # of a quantity
_RANGES = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ",
           "*": " × ", "+/-": " ± ", "±": " ± ", "to(-)": " to ", "and(-)": " and "}  # fmt: skip
_Arguments = Mapping[str, str]  # the positional ones by "1", "2" and so on


def expand(name: str, arguments: _Arguments) -> str | None:
    """The text that a template stands for, of a quotation as HTML; None when it is to be left out."""
    name = " ".join(name.replace("_", " ").split())
    function, colon, value = name.partition(":")
    if colon and function.lower() in ("formatnum", "lc", "uc", "lcfirst", "ucfirst"):
        return value.strip()
    name = name.lower()
    if name in _WORDS:
        return _WORDS[name]
    reader = _READERS.get(name) or (_at("1") if name.startswith("lang-") else None)
    return None if reader is None else reader(arguments)


def _at(key: str) -> Callable[[_Arguments], str]:
    return lambda arguments: arguments.get(key, "")


def _positional(arguments: _Arguments) -> list[str]:
    return [value for name, value in arguments.items() if name.isdigit()]


def _joined(by: str) -> Callable[[_Arguments], str]:
    return lambda arguments: by.join(filter(None, _positional(arguments)))


def _fraction(arguments: _Arguments) -> str:
    """`frac|2`, `frac|1|2`, `frac|3|1|2`: 1/2, 1/2, 3 1/2."""
    numbers = _positional(arguments)
    if len(numbers) == 1:
        return f"1/{numbers[0]}"
    return (f"{numbers[0]} " if len(numbers) == 3 else "") + "/".join(numbers[-2:])


def _value(arguments: _Arguments) -> str:
    """`val|1.5|0.1|u=m`: 1.5 ± 0.1 m."""
    exponent = arguments.get("e", "")
    number = " ± ".join(filter(None, _positional(arguments)[:2]))
    unit = arguments.get("u", "") or arguments.get("ul", "")
    return " ".join(filter(None, (number, f"× 10{raised(exponent)}" if exponent else "", unit)))


def _convert(arguments: _Arguments) -> str:
    """The quantity as the author wrote it, without what it is converted to: `convert|3|to|5|km|mi` is 3 to 5 km."""
    parts = _positional(arguments)[:_MAX_PARTS]
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
    text, author = (
        next(filter(None, map(arguments.get, names)), "") for names in (("text", "quote", "1"), ("author", "sign", "2"))
    )
    return f"<p>{text}</p>" + (f"<p>— {author}</p>" if author else "")


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
        _at("1"),
    ),
    **dict.fromkeys(("lang", "langx", "wikt-lang"), _at("2")),
    **dict.fromkeys(
        ("color", "font color", "ipa", "transl", "transliteration"),
        lambda arguments: (_positional(arguments) or [""])[-1],
    ),
    **dict.fromkeys(("hms", "ship", "sclass", "uss"), _joined(" ")),
    **dict.fromkeys(("key press", "keypress"), _joined("+")),
    **dict.fromkeys(
        ("c.", "ca.", "circa"),
        lambda arguments: "–".join(f"c. {date}" for date in _positional(arguments)) or "c.",
    ),
    **dict.fromkeys(("convert", "cvt"), _convert),
    **dict.fromkeys(("frac", "fraction", "sfrac"), _fraction),
    **dict.fromkeys(
        ("blockquote", "bquote", "cquote", "poem quote", "poemquote", "quotation", "quote"), _quotation
    ),
    "as of": lambda arguments: f"As of {arguments.get('1', '')}",
    "sub": lambda arguments: lowered(arguments.get("1", "")),
    "sup": lambda arguments: raised(arguments.get("1", "")),
    "val": _value,
}  # fmt: skip
