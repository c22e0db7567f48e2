"""Schemas of many keywords: what constrained decoding accepts is valid, as the field's own suite and validators say."""

import json
import re

import jsonschema
import pytest
from constrained_cases import CORE, accepted, agreement, cut, read_suite, sentence_piece_tokenizer, suite_compiler, walk
from hypothesis import assume, given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint import Constraint, ConstraintError, FunctionCalls, JsonSchema
from published_data import DATA, needs_data


@pytest.fixture(scope="module")
def compiler():
    tokenizer = sentence_piece_tokenizer()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocabulary_size, tokenizer.eos_ids, time_limit_seconds=20)
    yield compiler
    compiler.close()


def accepts(compiler: ConstraintCompiler, constraint: Constraint, text: str) -> bool:
    """Whether the text is allowed; its masks must say the same."""
    tokens = [*cut(text, compiler.tokenizer, 0), compiler.tokenizer.eos_ids[0]]
    matcher = compiler.compile(constraint).start()
    count = accepted(matcher, tokens)
    for token in tokens[:count]:
        matcher.advance(token)
    if count < len(tokens):
        with pytest.raises(ConstraintError):
            matcher.advance(tokens[count])
    return count == len(tokens)


@needs_data
def test_nothing_is_accepted_that_the_suite_has_as_wrong(compiler):
    compiled, suite = suite_compiler(compiler), read_suite(DATA / "json-schema-test-suite")
    results = {name: agreement(groups, compiled) for name, groups in suite.items()}
    assert not any(counts["wrongly accepted"] for counts in results.values())
    assert sum(results[name]["agree"] for name in CORE) >= 445 and results["uniqueItems"]["agree"] == 69


@for_each("value", [
    "hello\0there", "\x1f", "a\x7fb", ["\x02"], {"b": "\x03"}, 2**53, 2**53 + 1, 2**60, 2**63, 2**64 - 1,
    123456789012345678, -(2**63) - 1, 10**20, 0.1 + 0.2, 123456.7890123, 1e-7, "tab\t and\nlines",
])  # fmt: skip
@for_each("keyword", ["const", "enum"])
def test_a_value_is_written_as_it_is_or_refused(compiler, keyword, value):
    """Some others, into which it might be changed, are not written; a walk, which writes what there is, tells them."""
    schema = JsonSchema(json.dumps({keyword: [value] if keyword == "enum" else value}))
    try:
        compiled = compiler.compile(schema)
    except ConstraintError as error:
        assert not isinstance(value, float) and re.search("string|control characters", str(error))
        return
    for seed in range(4):
        assert json.loads(compiler.tokenizer.decode(walk(compiled, seed) or [])) == value


@for_each("bound", [2**53 + 1, 2**53 + 2, 2**62 + 1, 2**63 - 1, -(2**53) - 1])
@for_each("keyword", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
def test_bounds_beyond_doubles_are_kept(compiler, keyword, bound):
    schema = {"type": "integer", keyword: bound}
    near = [
        value for value in range(bound - 3, bound + 4) if not jsonschema.Draft202012Validator(schema).is_valid(value)
    ]
    try:
        assert near and not any(accepts(compiler, JsonSchema(json.dumps(schema)), str(value)) for value in near)
    except ConstraintError as error:
        assert re.search("compiled|double", str(error))  # the library knows no numbers above 2**62 or so


ITEMS = st.sampled_from(["a", "ab", "é\n", 0, 1, 10, True, False, None, [], ["a"], [1], {}, {"a": 1}, {"a": [1, 1]}])
OF_ITEMS = ({}, {"type": ["string", "integer", "boolean"]}, {"enum": ["a", "ab", 1, None]}, {"type": "boolean"},
            {"anyOf": [{"type": "array", "uniqueItems": True}, {"type": "string"}]})  # fmt: skip


@given(st.sampled_from(OF_ITEMS), st.lists(ITEMS, max_size=4), st.lists(ITEMS, max_size=4))
def test_items_differ_where_they_must(compiler, items, different, free):
    schema = {"type": "object", "properties": {"set": {"$ref": "#/$defs/set"}, "list": {"type": "array"}},
              "$defs": {"set": {"type": "array", "items": items, "uniqueItems": True}}}  # fmt: skip
    value = {"set": different, "list": free}
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    text = json.dumps(value, ensure_ascii=False)
    assert accepts(compiler, JsonSchema(json.dumps(schema), compact=False), text) is valid
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    calls = FunctionCalls(
        '<call>{"name": "', '", "arguments": ', "}</call>", "<call>", (("f", json.dumps(schema)),), " "
    )
    call = f'<call>{{"name": "f", "arguments": {text}}}</call>'
    assert accepts(compiler, calls, call) is accepts(compiler, calls, f"a {call} {call}") is valid


VALUES = [None, True, 0, 2, -1, "", "a", "ab", "b", [], [1], ["a", 1], {}, {"a": 1}, {"b": "a"}]
NAMES, COUNTS = st.sampled_from(["a", "b"]), st.integers(0, 2)
SIMPLE = st.one_of(
    st.sampled_from([True, {"type": "string"}, {"type": ["object", "null"]}, {"type": "integer"}]),
    st.builds(lambda keyword, value: {keyword: value}, st.sampled_from(["minimum", "exclusiveMaximum"]), COUNTS),
    st.builds(lambda keyword, value: {keyword: value}, st.sampled_from(["minLength", "maxItems"]), COUNTS),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(VALUES[:9]), min_size=1, max_size=3)),
    st.builds(lambda name: {"required": [name]}, NAMES),
)


def combined(inner: st.SearchStrategy) -> st.SearchStrategy:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda one: {"not": one}, inner),
        st.builds(lambda keyword, parts: {keyword: parts}, st.sampled_from(["oneOf", "anyOf", "allOf"]), several),
        st.builds(lambda name, one: {"properties": {name: one}}, NAMES, inner),
        st.builds(lambda name, one: {"dependentSchemas": {name: one}}, NAMES, inner),
        st.builds(lambda one, other: {"dependentRequired": {one: [other]}}, NAMES, NAMES),
        st.builds(lambda one: {"prefixItems": [one]}, inner),
        st.builds(lambda names, one: {"propertyNames": {"enum": names}, "additionalProperties": one},
                  st.lists(NAMES, max_size=2), inner),
    )  # fmt: skip


@given(st.recursive(SIMPLE, combined, max_leaves=5), st.sampled_from(VALUES), st.integers(0, 99))
def test_what_is_not_and_what_is_one_alone(compiler, schema, value, seed):
    check = jsonschema.Draft202012Validator(schema)
    try:
        compiled = compiler.compile(JsonSchema(json.dumps(schema)))
    except ConstraintError:
        assume(False)
        return
    accepted = accepts(compiler, JsonSchema(json.dumps(schema)), json.dumps(value, separators=(",", ":")))
    assert accepted is check.is_valid(value)
    tokens = walk(compiled, seed)
    if tokens is not None:
        check.validate(json.loads(compiler.tokenizer.decode(tokens)))


def test_references_go_by_the_names_of_schemas(compiler):
    leaf = {"$id": "b/leaf", "$defs": {"a/b%": {"$anchor": "x", "$ref": "#/anyOf/0"}}, "anyOf": [{"type": "integer"}]}
    properties = {"next": {"$ref": "#"}, "leaf": {"$ref": "b/leaf#x"}}
    tree = {"$id": "tree", "type": "object", "properties": properties, "additionalProperties": False}
    schema = {"$id": "https://example.org/a/root.json", "$ref": "tree", "$defs": {"tree": tree, "leaf": leaf}}
    for value in ({"next": {"leaf": 1}}, {"leaf": 1}, {"next": {"leaf": "a"}}, {"leaf": {}}, {"next": 1}):
        text = json.dumps(value, separators=(",", ":"))
        valid = jsonschema.Draft202012Validator(schema).is_valid(value)
        assert accepts(compiler, JsonSchema(json.dumps(schema)), text) is valid
