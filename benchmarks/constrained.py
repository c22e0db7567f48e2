"""What constrained decoding costs: compiling a constraint, and a mask for each token of a text that fulfils it.

    python benchmarks/constrained.py [--tokenizer FOLDER]

Each row is one constraint and texts that fulfil it, on SmolLM2's vocabulary of 49,152 tokens. `compiling` is the whole
call, with the trial in its own process. A time is a mask and taking a token. `first` are those of the first matchers,
`again` those of others on the same texts, which find the states that the first have visited. Where xgrammar is
installed (it is no dependency), it does the same schemas after us, in the same process.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.generate.constrained_decoding import Compiled, ConstraintCompiler
from lmworks.generate.constraint import CitedText, Constraint, JsonSchema, Quote, quotable
from lmworks.model.checkpoint import load
from lmworks.model.download import pull
from lmworks.tokenizer.tokenizer import Tokenizer

STRING, INTEGER = {"type": "string"}, {"type": "integer"}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 80},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": "string", "format": "email"},
        "address": {"type": "object", "properties": {"street": STRING, "city": STRING}, "required": ["city"]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
CALL = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": {"type": "object", "properties": {key: kind},
                           "required": [key], "additionalProperties": False}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, key, kind in (("weather", "city", STRING), ("search", "query", STRING), ("add", "numbers",
                                {"type": "array", "items": {"type": "number"}, "minItems": 2}))
    ]
}  # fmt: skip
ISSUE = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 120},
        "labels": {"type": "array", "items": {"enum": ["bug", "feature", "question"]}, "maxItems": 3},
        "opened": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        "id": {"type": "string", "format": "uuid"},
        "priority": {"type": ["integer", "null"], "minimum": 1, "maximum": 5},
    },
    "required": ["title", "labels", "opened", "id", "priority"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": INTEGER, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["value", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SETTINGS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
DOCUMENTS = {
    "person": (PERSON, {"name": "José Müller", "age": 41, "email": "jose@example.org",
                        "address": {"street": "Long Acre 7", "city": "Exeter"}}),
    "call": (CALL, {"name": "search", "arguments": {"query": "how tall is the tower that leans the most"}}),
    "issue": (ISSUE, {"title": "The parser stops at the first empty line", "labels": ["bug", "question"],
                      "opened": "2026-11-25", "id": "123e4567-e89b-12d3-a456-426614174000", "priority": None}),
    "tree": (TREE, {"value": 1, "children": [{"value": 2, "children": []}, {"value": 33, "children": []}]}),
    "settings": (SETTINGS, {"colour": "dark", "size": 12.5, "wrap": True, "font name": "A serif of some kind"}),
}  # fmt: skip


def passages() -> tuple[str, ...]:
    """Ten of two hundred words, of the docstrings of Python's library."""
    text = " ".join(str(module.__doc__) for module in (argparse, json, np, importlib.util, time))
    text += " ".join(str(getattr(np, name).__doc__) for name in ("einsum", "linspace", "percentile", "unique", "pad"))
    words = text.split()
    return tuple(" ".join(words[start : start + 200]) for start in range(0, 2000, 200))


def spellings(value: Any) -> list[str]:
    """One value as JSON: as Python writes it, compact, and on lines."""
    styles: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}]
    return [json.dumps(value, ensure_ascii=False, **style) for style in styles]


def masks(step: Callable[[int], None], tokens: list[int]) -> np.ndarray:
    """Milliseconds of each step, which computes a mask and takes a token."""
    times = []
    for token in tokens:
        begun = time.perf_counter()
        step(token)
        times.append((time.perf_counter() - begun) * 1e3)
    return np.array(times)


def row(name: str, seconds: float, first: np.ndarray, again: np.ndarray) -> None:
    cells = [f"{np.median(part):8.3f} {np.percentile(part, 99):8.3f}" for part in (first, again)]
    print(f"{name:22} {seconds * 1e3:9.1f}   {'   '.join(cells)}   {len(first):4}", flush=True)


def measure(name: str, compiler: ConstraintCompiler, constraint: Constraint, texts: list[list[int]]) -> None:
    begun = time.perf_counter()
    compiled = compiler.compile(constraint)
    seconds = time.perf_counter() - begun
    row(name, seconds, *(np.concatenate([_ours(compiled, tokens) for tokens in texts]) for _ in range(2)))


def _ours(compiled: Compiled, tokens: list[int]) -> np.ndarray:
    matcher = compiled.start()

    def step(token: int) -> None:
        matcher.mask()
        matcher.advance(token)

    return masks(step, tokens)


def measure_xgrammar(tokenizer: Tokenizer, documents: dict[str, tuple[dict, list[list[int]]]]) -> None:
    import xgrammar  # pyright: ignore[reportMissingImports]

    names = [tokenizer.backend.id_to_token(token) for token in range(tokenizer.vocabulary_size)]
    kind = xgrammar.VocabType.BYTE_LEVEL
    info = xgrammar.TokenizerInfo(names, vocab_type=kind, stop_token_ids=list(tokenizer.eos_ids))
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    bits = xgrammar.allocate_token_bitmask(1, tokenizer.vocabulary_size)
    for name, (schema, texts) in documents.items():
        begun = time.perf_counter()
        compiled = compiler.compile_json_schema(json.dumps(schema))
        seconds = time.perf_counter() - begun
        rounds = [
            np.concatenate([_theirs(xgrammar.GrammarMatcher(compiled), bits, t) for t in texts]) for _ in range(2)
        ]
        row(f"xgrammar {name}", seconds, *rounds)


def _theirs(matcher: Any, bits: Any, tokens: list[int]) -> np.ndarray:
    def step(token: int) -> None:
        matcher.fill_next_token_bitmask(bits)
        assert matcher.accept_token(token)

    return masks(step, tokens)


def main() -> None:
    arguments = argparse.ArgumentParser(description="What constrained decoding costs")
    arguments.add_argument("--tokenizer", type=Path, help="a folder with tokenizer.json, instead of SmolLM2's")
    folder = arguments.parse_args().tokenizer
    tokenizer = Tokenizer.load(folder) if folder else load(pull("smollm2-135m-instruct")).tokenizer
    begun = time.perf_counter()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocabulary_size, tokenizer.eos_ids)
    compiler.compile(JsonSchema("{}"))  # the trial's process comes up
    print(f"one compiler, its process and a first constraint: {(time.perf_counter() - begun) * 1e3:.0f} ms\n")
    print(f"{'ms':22} {'compiling':>9}   {'first p50':>8}      p99   {'again p50':>8}      p99  masks")
    ends = [tokenizer.eos_ids[0]]
    documents = {name: (schema, [tokenizer.encode(text) + ends for text in spellings(value)])
                 for name, (schema, value) in DOCUMENTS.items()}  # fmt: skip
    for name, (schema, texts) in documents.items():
        measure(name, compiler, JsonSchema(json.dumps(schema)), texts)
    sources = passages()
    quotes = [" ".join(quotable(source).split()[20:50]) for source in sources]
    cited = [f'As it says, "{quote}" [{n}]. It has more to say [2].' for n, quote in enumerate(quotes, start=1)]
    for name, constraint, texts in (("quote", Quote(tuple(map(quotable, sources))), quotes),
                                    ("cited", CitedText(sources), cited)):  # fmt: skip
        measure(f"{name}, 10 passages", compiler, constraint, [tokenizer.encode(text) + ends for text in texts])
    compiler.close()
    if importlib.util.find_spec("xgrammar"):
        measure_xgrammar(tokenizer, documents)


if __name__ == "__main__":
    main()
