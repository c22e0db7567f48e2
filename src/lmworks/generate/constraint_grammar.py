"""Constraints as grammars of the matcher (llguidance): Lark's EBNF, and JSON schemas that it compiles itself."""

import json
import re
from collections.abc import Iterator

from llguidance import LLMatcher, regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from lmworks.generate.constraint import (
    Choice,
    CitedText,
    Constraint,
    ConstraintError,
    FunctionCalls,
    Grammar,
    JsonSchema,
    Quote,
    Regex,
    quotable,
)
from lmworks.generate.json_schema import check_expression, prepare_schema

# That options exclude each other is seen to before. Escapes are all of JSON's but "/" and "u": "\u0061" is another
# spelling of the name "a", which the library takes for a name of which the schema says nothing.
_JSON = {"whitespace_flexible": False, "coerce_one_of": True, "lenient": False, "json_allowed_escapes": 'nrbtf\\"'}
# A small model that may put any white space between two parts tends to put nothing else there, without end.
_WHITE_SPACE = {"whitespace_flexible": True, "whitespace_pattern": r" |\n[ \t]{0,64}"}
# Where only one text can follow, the library would otherwise allow but one way to cut it into tokens.
_OPTIONS = '%llguidance {"no_forcing": true}\n'


def to_grammar(constraint: Constraint) -> str:
    """The matcher's grammar of a constraint; ConstraintError for what it cannot honour."""
    return LLMatcher.grammar_from_lark(_OPTIONS + _lark(constraint))


def _lark(constraint: Constraint) -> str:
    match constraint:
        case JsonSchema():
            return f"start: {_embedded(constraint)}"
        case Regex(pattern):
            check_expression(pattern)
            return f"start: TEXT\nTEXT: /{regex_to_lark(pattern, 'dws')}/"
        case Choice(options):
            return f"start: TEXT\nTEXT: {' | '.join(json.dumps(option, ensure_ascii=False) for option in options)}"
        case Grammar(source):
            return _own_grammar(source)
        case Quote(passages):
            return f"start: TEXT\nTEXT: {' | '.join(_span(passage) for passage in passages if passage.strip())}"
        case CitedText():
            return "\n".join(_cited_text(constraint))
        case FunctionCalls():
            return "\n".join(_function_calls(constraint))
    raise ConstraintError(f"{type(constraint).__name__} is no constraint: use one of generate/constraint.py")


def _embedded(constraint: JsonSchema, arguments: bool = False) -> str:
    """A JSON schema inside a grammar; references in it (`#/…`) begin at the schema itself.

    Arguments are an object: they go by their names, whatever else a schema that says no type allows.
    """
    schema, options = prepare_schema(constraint.schema), _JSON | ({} if constraint.compact else _WHITE_SPACE)
    if arguments and "object" not in schema.get("type", ["object"]):
        raise ConstraintError(f"the arguments of a function are an object, got parameters of the type {schema['type']}")
    return f"%json {json.dumps({**schema, **({'type': 'object'} if arguments else {}), 'x-guidance': options})}"


# ---------------------------------------------------------------------------------------------------------------------
# Passages

_PIECE = re.compile(r"\w+|[^\w\s]|\s+")  # words, punctuation marks and what is between them


def _cited_text(cited: CitedText) -> Iterator[str]:
    """A line is an opening and what follows, each of which ends in a citation.

    Prose up to and with its citation is one terminal: the matcher's lexer is greedy, and prose alone would take what
    belongs to the citation.
    """
    numbers = "|".join(str(number) for number in range(1, len(cited.passages) + 1))
    any_sign, visible, plain, word = (
        rf'[^\[\]"“”„‟«»{less}]' for less in (r"\p{Cc}", r"\s\p{Cc}", r".!?\p{Cc}", r".!?\s\p{Cc}")
    )
    inner = rf"({plain}|[.!?]+{word}|e\.g\. |i\.e\. ){{0,{cited.longest}}}" if cited.longest else f"{any_sign}*"
    stop = "[.!?]*" if cited.longest else ""
    quoted = [(n, quotable(p)) for n, p in enumerate(cited.passages, start=1) if p.strip()] if cited.quotes else []
    refusal = f" | {_literal(cited.refusal)}" if cited.refusal else ""
    more = f' ("\\n" line){{0,{cited.lines - 1}}}' if cited.lines > 1 else ""
    yield f"start: line{more}{refusal}"
    yield 'line: opening following* "."?'
    yield f"opening: OPENING{' | OPENING_PROSE? quotation' if quoted else ''}"
    yield f"following: FOLLOWING{' | PROSE quotation' if quoted and not cited.longest else ''}"
    yield f"OPENING: /{visible}({inner}{visible})?{stop} \\[({numbers})\\]/"
    yield f"FOLLOWING: /{'' if cited.longest else f'({inner}{visible})?'} \\[({numbers})\\]/"
    if quoted:
        yield f"OPENING_PROSE: /{visible}{inner}/"
        yield f"PROSE: /{any_sign}+/"
        yield f"quotation: {' | '.join(f'quotation_{number}' for number, _ in quoted)}"
    for number, passage in quoted:
        yield f'quotation_{number}: "\\"" SPAN_{number} "\\" [{number}]"'
        yield f"SPAN_{number}: {_span(passage)}"


def _span(passage: str) -> str:
    """A terminal: whole pieces of the passage in a row, the first and the last of them no white space."""
    pieces = {"substring_chunks": _PIECE.findall(passage)}
    return f"(%regex {json.dumps(pieces)} & /\\S(?s:.*\\S)?/)"


# ---------------------------------------------------------------------------------------------------------------------
# Grammars of the user's own

# What is not closed goes to the end of its line: to look for its end from each of its characters would take forever.
_TEXTS = re.compile(
    r'"(?:\\.|[^"\\\n])*(?:"i?|\\?(?=\n|\Z))|/(?:\\.|[^/\\\n])+(?:/[a-z]*|\\?(?=\n|\Z))|//[^\n]*|#[^\n]*'
)
_REFUSED = {
    r"<[^<>\n]*>": "special tokens",
    r"%(?!ignore\b|regex\b)\w+": "directives but %ignore and %regex (JSON has a constraint of its own)",
    r"(?m)^[ \t]*[!?]?[\w.-]+[ \t]*\[[^\]\n]*\][ \t]*:": "options of rules",
}


def _own_grammar(source: str) -> str:
    bare = _TEXTS.sub('""', source)
    is_gbnf = "::=" in bare
    for sign, name in () if is_gbnf else _REFUSED.items():
        refused = re.search(sign, bare)
        if refused:
            raise ConstraintError(f"the grammar has {refused[0]!r}: {name} are not supported in grammars")
    try:
        return any_to_lark(source) if is_gbnf else source
    except Exception as error:  # the converter raises errors of several kinds
        raise ConstraintError(f"the grammar is not GBNF: {error}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Function calls

_SIGNS = frozenset(r"\.+*?()|[]{}^$/")  # what means something in a regular expression between slashes


def _function_calls(constraint: FunctionCalls) -> Iterator[str]:
    """The rules of words and calls, from `start` on.

    A lazy rule ends at the first place where it can: at the first marker, before which the words do not hold it.
    """
    leads, more = {"call": (constraint.opening + constraint.before)[len(constraint.marker) :]}, ""
    if constraint.separator is not None and constraint.most > 1:
        leads["further"] = constraint.separator + constraint.before
        more = f" further{{0,{constraint.most - 1}}}"
    more += f" {_literal(constraint.closing)}" if constraint.closing else ""
    calls = f"{_literal(constraint.marker)} call{more}"
    if constraint.required:
        yield f"start: {calls}"
    elif constraint.answer is not None:
        yield f"start: answer | {calls}"
        yield f"answer: {_embedded(constraint.answer)}"
    else:
        marker = "".join(f"\\{sign}" if sign in _SIGNS else sign for sign in constraint.marker)
        yield f"start: WORDS | marked call{more}"
        yield f"WORDS: /(?s:.*)/ & ~/(?s:.*){marker}(?s:.*)/"
        yield f"marked[lazy]: /(?s:.*){marker}/"
    after = f" {_literal(constraint.after)}" if constraint.after else ""
    for rule, lead in leads.items():
        names = [_literal(lead + name + constraint.between) for name, _ in constraint.functions]
        yield f"{rule}: " + " | ".join(f"{name} arguments_{number}{after}" for number, name in enumerate(names))
    for number, (_, parameters) in enumerate(constraint.functions):
        yield f"arguments_{number}: {_embedded(JsonSchema(parameters), arguments=True)}"


def _literal(text: str) -> str:
    """Lark reads JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
