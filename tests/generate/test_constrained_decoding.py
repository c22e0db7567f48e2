"""Constrained decoding: every walk under the masks gives a text that an independent check accepts, and every text that
the constraint allows is reached by whatever tokens spell it."""

import datetime
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import pytest
from constrained_cases import accepted, allowed, cut, sentence_piece_tokenizer, texts_of_walks, walk
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint import Choice, Constraint, ConstraintError, Grammar, JsonSchema, Regex
from lmworks.tokenizer.token_bytes import drops_first_space, token_bytes

ROWS = 400  # more rows of logits than either tokenizer has tokens


@pytest.fixture(scope="module", params=["byte-level", "sentence-piece"])
def compiler(request, tiny_tokenizer):
    """Both kinds of tokenizer; two tokens end a text, as for models that end turns and texts differently."""
    tokenizer = tiny_tokenizer if request.param == "byte-level" else sentence_piece_tokenizer()
    compiler = ConstraintCompiler(tokenizer, ROWS, [*tokenizer.eos_ids, ROWS - 3], time_limit_seconds=20)
    yield compiler
    compiler.close()


def accepts(compiler: ConstraintCompiler, constraint: Constraint, text: str, seed: int = 0) -> bool:
    """Whether the text is allowed, as tokens drawn at random, and may end; each mask must say the same."""
    tokens = [*cut(text, compiler.tokenizer, seed), compiler.tokenizer.eos_ids[0]]
    matcher = compiler.compile(constraint).start()
    count = accepted(matcher, tokens)
    for token in tokens[:count]:
        assert token in allowed(matcher)
        matcher.advance(token)
    if count < len(tokens):
        assert tokens[count] not in allowed(matcher)
    return count == len(tokens)


# ---------------------------------------------------------------------------------------------------------------------
# JSON

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 9},
        "age": {"type": "integer", "minimum": 0},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS = {
    "person": PERSON,
    "any": {},
    "bounds": {"type": "array", "items": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 20}, "maxItems": 3},
    "multiples": {"type": "array", "items": {"type": "integer", "multipleOf": 7, "maximum": 700}, "minItems": 1},
    "enum": {"enum": ["é", 'a"b\n', None, 1.5, {"x": [1]}, "日本"]},
    "strings": {"type": "string", "pattern": "^[a-cé]+b$", "maxLength": 6},
    "either": {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 2}, {"$ref": "#/$defs/list"}],
               "$defs": {"list": {"type": "array", "prefixItems": [{"const": 1}], "items": {"$ref": "#"}}}},
    "map": {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
    "patterns": {"type": "object", "patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
    "all": {"allOf": [PERSON | {"additionalProperties": True}, {"properties": {"age": {"maximum": 99}}}]},
    **{name: {"type": "string", "format": name} for name in ("email", "ipv4", "ipv6", "uuid")},
    "one": {"oneOf": [{"type": "integer"}, {"type": "null"}]},
    "no more than one": {"type": "object", "maxProperties": 1, "minProperties": 1},
}  # fmt: skip


@for_each("name", SCHEMAS)
def test_walks_give_json_that_the_schema_accepts_and_that_is_accepted_again(compiler, name):
    schema = SCHEMAS[name]
    check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    constraint, spaced = JsonSchema(json.dumps(schema)), JsonSchema(json.dumps(schema), compact=False)
    for seed, text in enumerate(texts_of_walks(compiler.compile(constraint), count=12, least=5)):
        value = json.loads(text)
        check.validate(value)
        assert not re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", text)), "white space costs tokens"
        if "Infinity" in json.dumps(value):  # a number such as 1e999, of which Python keeps no digits
            continue
        assert accepts(compiler, constraint, json.dumps(value, ensure_ascii=False, separators=(",", ":")), seed)
        assert accepts(compiler, spaced, json.dumps(value, ensure_ascii=False), seed)
        assert accepts(compiler, spaced, json.dumps(value, ensure_ascii=False, indent=2), seed)


STRINGS = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n\t\r\b\f"\\'), max_size=9)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3), max_leaves=6,
))  # fmt: skip
def test_any_json_is_accepted_where_any_is_asked_for(compiler, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert accepts(compiler, JsonSchema("{}"), text)
    assert not accepts(compiler, JsonSchema("{}"), text + "}")


@for_each(
    "text",
    ['{"a":"x"}', '{"b":"x","a":"y"}', r'{"\u0061":"x"}', '{"a":1,"a":2}', '{"a":1.5}', '{"a":1,}', '{"a":1', "{a:1}"],
)
def test_no_spelling_gets_around_the_schema(compiler, text):
    """The third is JSON's other way to write the first, which makes a string of what must be an integer."""
    assert not accepts(compiler, JsonSchema(json.dumps(SCHEMAS["map"])), text)
    assert accepts(compiler, JsonSchema(json.dumps(SCHEMAS["map"])), '{"a":1,"b":"é"}')


@for_each(("schema", "named"), [
    ({"type": "string", "not": {"pattern": "a"}}, "'pattern'"),
    ({"contains": {}}, "'contains'"),
    ({"propertyNames": {"maxLength": 3, "pattern": "a"}}, "propertyNames"),
    ({"unevaluatedProperties": False}, "'unevaluatedProperties'"),
    ({"if": {"type": "string"}, "then": {"minLength": 1}}, "'if'"),
    ({"uniqueItems": True, "items": {"enum": ["a", "b"]}, "minItems": 3}, "3 different items"),
    ({"$dynamicRef": "#a"}, r"\$dynamicRef"),
    ({"nullable": True, "type": "string"}, "null"),
    ({"contentEncoding": "base64"}, "format base64"),
    ({"contentMediaType": "application/json", "contentSchema": {"minimum": 3}}, "contentSchema"),
    ({"enum": [1, 2**53 + 1]}, "9007199254740993"),
    ({"properties": {"a": {"const": "\1"}}}, "control characters"),
    ({"x-guidance": {"lenient": True}, "type": "string"}, "x-guidance"),
    ({"patern": "a"}, "'patern'"),
    ({"anyOf": [{}, {"$defs": {"a": {"frmat": 1}}}]}, r"#/anyOf/1/\$defs/a"),
    ({"type": "string", "format": "iri"}, "iri"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "pattern": "(a"}, "not a regular expression"),
    ({"items": [{"type": "string"}]}, "#/items"),
    ({"exclusiveMinimum": True, "minimum": 1}, "exclusiveMinimum"),
    ({"$ref": "https://example.org/a"}, r"\$defs"),
    ({"type": "object", "minProperties": 2}, "minProperties"),
    ({"oneOf": [{"type": "string"}, {"pattern": "a", "type": "string"}]}, "oneOf"),
    ({"type": "integer", "minimum": 3, "maximum": 1}, "minimum"),
    ({"$ref": "#"}, "accepts no text"),
    ({"format": ["date"]}, "#/format must be a string"),
    ({"properties": {"a": {"required": 5}}}, "#/properties/a/required must be an array"),
    ({"required": [1]}, "string for 'required'"),
    ({"type": "integer", "multipleOf": -2}, "#/multipleOf must be above 0"),
    (False, "false"),
    (3, "#"),
])  # fmt: skip
def test_a_schema_that_is_not_honoured_is_refused_by_name(compiler, schema, named):
    with pytest.raises(ConstraintError, match=named):
        compiler.compile(JsonSchema(json.dumps(schema)))


def test_what_is_no_json_is_no_schema(compiler):
    for text in ("{", '{"maximum": NaN}', '{"items":' * 3000 + "{}" + "}" * 3000):
        with pytest.raises(ConstraintError, match="JSON schema"):
            compiler.compile(JsonSchema(text))


@for_each(("name", "read"), [
    ("date", datetime.date.fromisoformat), ("time", datetime.time.fromisoformat),
    ("date-time", datetime.datetime.fromisoformat),
])  # fmt: skip
def test_dates_and_times_are_what_python_reads(compiler, name, read):
    for text in texts_of_walks(compiler.compile(JsonSchema(f'{{"format":"{name}","type":"string"}}')), 40, least=40):
        year_one = re.sub(r"^0000", "2000", json.loads(text))  # Python knows no year 0, which is a leap year as well
        assert read(re.sub(r"(\.\d{6})\d+", r"\1", year_one)) is not None


@for_each("day", ["2024-02-29", "2000-02-29", "2023-02-29", "1900-02-29", "2024-02-30", "2024-04-31"])
def test_days_are_those_of_the_calendar(compiler, day):
    try:
        exists = time.strptime(day, "%Y-%m-%d") is not None
    except ValueError:
        exists = False
    assert accepts(compiler, JsonSchema('{"type":"string","format":"date"}'), f'"{day}"') is exists


# ---------------------------------------------------------------------------------------------------------------------
# Expressions, choices, grammars

EXPRESSIONS = (
    "", "abc|abd", r"\d{4}-\d\d", r"[a-zé日]{2,5}", r"(ab|a)(c|bcd)?", r"\w+\s\S", r" a b", r" ?x", r".{0,3}é.?",
    r"(?s:.){2}", r"[^a-z]{1,3}", r"a*b*?c+", r"\x41\.\$", r"[\]\[^-]+", "^a+$", r"🙂|日本語",
)  # fmt: skip


@for_each("pattern", EXPRESSIONS)
def test_walks_give_text_that_the_expression_matches(compiler, pattern):
    for seed, text in enumerate(texts_of_walks(compiler.compile(Regex(pattern)), count=12, least=5)):
        assert re.fullmatch(pattern, text, re.ASCII)
        as_tokens = f" {text}" if drops_first_space(compiler.tokenizer, token_bytes(compiler.tokenizer)) else text
        assert accepts(compiler, Regex(pattern), as_tokens, seed)


@given(st.sampled_from(EXPRESSIONS), st.text(st.sampled_from("abcdx1-. é日🙂\n"), max_size=6), st.integers(0, 99))
def test_a_text_is_accepted_exactly_where_python_matches_it(compiler, pattern, text, seed):
    """As it decodes: SentencePiece's first space is not in the text."""
    if drops_first_space(compiler.tokenizer, token_bytes(compiler.tokenizer)):
        assert accepts(compiler, Regex(pattern), f" {text}", seed) is bool(re.fullmatch(pattern, text, re.ASCII))
        text = text.lstrip(" ")
    assert accepts(compiler, Regex(pattern), text, seed) is bool(re.fullmatch(pattern, text, re.ASCII))


@for_each(("pattern", "named"), [
    ("(?i)a", "flag 'i'"), ("(?i:a)", "flag 'i'"), ("a++", "possessive"), (r"(a)\1", "backreference"),
    ("a(?=b)", "look"), (r"a\b", "look"), ("(?>a)", "atomic"), ("[[a]]", "nested set"), ("[a&&b]", "set"),
    ("a^b", "inside"), ("(", "not a re"), (r"a{2,1}", "not a re"),
])  # fmt: skip
def test_an_expression_that_would_mean_something_else_is_refused(compiler, pattern, named):
    with pytest.raises(ConstraintError, match=named):
        compiler.compile(Regex(pattern))


@for_each("options", [
    ("yes", "no"), ("a", "ab", "abc"), ("",), ("", " ", "  x"), ('"', "\\", "\n\t", "\x00"), ("é", "日本", "🙂", "/x/"),
])  # fmt: skip
def test_a_choice_is_one_of_its_options_and_each_can_be_chosen(compiler, options):
    texts = texts_of_walks(compiler.compile(Choice(options)), count=200, least=200)
    assert set(texts) == set(options)


ARITHMETIC = r"""
start: sum
sum: product (("+" | "-") product)*
product: atom ("*" atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[0-9]{1,3}/
"""
GBNF = """
root ::= sum
sum ::= product (("+" | "-") product)*
product ::= atom ("*" atom)*
atom ::= [1-9] | "(" sum ")"
"""


@for_each("source", [ARITHMETIC, GBNF])
def test_walks_give_texts_of_the_grammar(compiler, source):
    for text in texts_of_walks(compiler.compile(Grammar(source)), count=12, least=5):
        eval(re.sub(r"\b0+(?=\d)", "", text), {"__builtins__": {}})  # Python's own grammar, but for zeros in front
        assert set(text) <= set("0123456789+-*()")
    for text in ("1", "(1+2)*3", "((4))-5*6"):
        assert accepts(compiler, Grammar(source), text)
    for text in ("", "1+", "(1", "1)", "a"):
        assert not accepts(compiler, Grammar(source), text)


@for_each(("source", "named"), [
    ('start: "a" <|im_end|>', "special tokens"), ('start: <[1]> "a"', "special tokens"),
    ('start: %json {"not": {}}', "JSON"), ('%llguidance {"no_forcing": false}\nstart: "a"', "directives"),
    ('start: a\na[stop="x"]: /.*/', "options"),
    ("start: missing", "missing"), ('begin: "a"', "start"), ("root ::= (", "GBNF"),
    ('start: a\na: a "b"', "accepts no text"),
    ('start: "s" (' + " | ".join(f"a{n}" for n in range(2500)) + ")\n"
     + "\n".join(f'a{n}: "a" b{n}\nb{n}: "{n}"' for n in range(2500)), "beyond 0 tokens.*items"),
])  # fmt: skip
def test_a_grammar_that_cannot_be_followed_is_refused(compiler, source, named):
    with pytest.raises(ConstraintError, match=named) as caught:
        compiler.compile(Grammar(source))
    assert "\n" not in str(caught.value)  # nor the grammar that was made of it


# ---------------------------------------------------------------------------------------------------------------------
# Tokens


def test_the_text_ends_by_any_of_its_ends_exactly_where_it_may(compiler):
    ends = {compiler.tokenizer.eos_ids[0], ROWS - 3}
    matcher = compiler.compile(Regex("ab?")).start()
    assert matcher.mask().shape == ((ROWS + 31) // 32,) and matcher.mask().dtype == np.uint32
    assert not ends & set(allowed(matcher))
    matcher.advance(cut("a", compiler.tokenizer, 0)[0])
    assert ends < set(allowed(matcher))
    matcher.advance(cut("b", compiler.tokenizer, 0)[0])
    assert set(allowed(matcher)) == ends
    matcher.advance(ROWS - 3)
    assert matcher.finished and accepted(matcher, [ROWS - 3]) == 0
    with pytest.raises(ValueError, match="has ended"):
        matcher.mask()


def test_what_is_no_text_is_never_allowed(compiler):
    spelled = token_bytes(compiler.tokenizer)
    no_text = {token for token, text in enumerate(spelled) if not text} | set(range(len(spelled), ROWS))
    ends = {compiler.tokenizer.eos_ids[0], ROWS - 3}
    matcher = compiler.compile(Regex("(?s:.)*")).start()
    text = b""
    for token in cut("ab é🙂", compiler.tokenizer, 1):
        # In the middle of a character a text cannot end.
        assert set(allowed(matcher)) & no_text == (ends if text.decode("utf-8", "ignore").encode() == text else set())
        for wrong in (*no_text - ends, -1, ROWS, 10**9):
            assert accepted(matcher, [wrong]) == 0
        matcher.advance(token)
        text += spelled[token]


def test_a_wrong_token_changes_nothing(compiler):
    matcher = compiler.compile(Regex("abc")).start()
    (a,), (z,) = cut("a", compiler.tokenizer, 0), cut("z", compiler.tokenizer, 0)
    with pytest.raises(ConstraintError, match=f"token {z} is not allowed"):
        matcher.advance(z)
    matcher.advance(a)
    with pytest.raises(ConstraintError, match=f"token {a} is not allowed"):
        matcher.advance(a)
    assert accepted(matcher, [*cut("bc", compiler.tokenizer, 0), compiler.tokenizer.eos_ids[0], a]) == 3


@given(
    st.sampled_from([JsonSchema(json.dumps(PERSON)), Regex(r" ?(\w+ ?)*"), Grammar(ARITHMETIC)]), st.integers(0, 500)
)
def test_copies_stand_where_a_fresh_matcher_does(compiler, constraint, seed):
    compiled = compiler.compile(constraint)
    tokens = walk(compiled, seed, most=60) or walk(compiled, 0) or []
    masks, matcher = [], compiled.start()
    for token in tokens:
        masks.append(matcher.mask())
        matcher.advance(token)
    copies, matcher = [], compiled.start()
    for token in tokens:
        copies.append(matcher.copy())
        assert accepted(matcher, tokens[len(copies) - 1 :]) == len(tokens) - len(copies) + 1
        matcher.advance(token)
    for copy, mask in zip(copies, masks, strict=True):
        assert np.array_equal(copy.mask(), mask) and not copy.finished


def test_a_proposal_spells_what_must_come(compiler):
    matcher = compiler.compile(Regex(r'é the日\{"name": (a|b)')).start()
    for _ in range(3):  # at the beginning, and in the middle of what must come
        tokens, before = matcher.proposal(), matcher._taken
        text = b"".join(token_bytes(compiler.tokenizer)[token] for token in tokens).decode("utf-8", "ignore")
        assert len(tokens) > 4 and accepted(matcher, tokens) == len(tokens) and matcher._taken == before
        assert text.strip() in 'é the日{"name": '
        matcher.advance(tokens[0])
    everything = compiler.compile(Regex("(?s:.)*")).start()
    assert everything.proposal() == []


# ---------------------------------------------------------------------------------------------------------------------
# A server


def test_threads_get_what_one_thread_gets(compiler):
    constraints = [JsonSchema(json.dumps(SCHEMAS[name])) for name in ("person", "either", "bounds")] * 4
    expected = {c: [walk(compiler.compile(c), seed, most=80) for seed in range(4)] for c in set(constraints)}
    fresh = ConstraintCompiler(compiler.tokenizer, ROWS, [*compiler.tokenizer.eos_ids, ROWS - 3])
    barrier = threading.Barrier(len(constraints))

    def work(constraint):
        barrier.wait()
        compiled = fresh.compile(constraint)
        return compiled, [walk(compiled, seed, most=80) for seed in range(4)]

    with ThreadPoolExecutor(len(constraints)) as pool:
        results = list(pool.map(work, constraints))
    assert [walks for _, walks in results] == [expected[constraint] for constraint in constraints]
    assert len({id(compiled) for compiled, _ in results}) == 3  # each was compiled once
    fresh.close()
