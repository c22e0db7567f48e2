"""The merges that made each token of a text, and when they were learnt."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lmworks.tokenizer.library import Text
from lmworks.tokenizer.tokenizer import Tokenizer

TRACE = "merges.tsv"  # next to a tokenizer.json: what was merged, and how often it was seen when that was learnt
HEADINGS = "token\tleft\tright\tcount"  # its first line
Trace = Mapping[int, tuple[int, int, int]]  # token id -> ids of the two tokens it was merged from, how often they met


@dataclass(frozen=True, slots=True)
class Step:
    """A merge: `number` counts from 1 in the order of learning; `count`, where that is known, how often the two were
    neighbours in the texts that taught it."""

    left: str
    right: str
    number: int
    count: int | None


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token of a text.

    name      what the vocabulary calls it
    start     the code points [start, end) of the text that it stands for
    steps     of BPE: the merges that made it from its first symbols, in the order in which they were applied
    because   one sentence for what the steps do not tell
    """

    id: int
    name: str
    start: int
    end: int
    steps: tuple[Step, ...]
    because: str


def explain(tokenizer: Tokenizer, text: str, trace: Trace | None = None) -> list[ExplainedToken]:
    """Every token of `text`, and where it comes from; `trace` is what `read_trace` gives.

    ValueError where the trace is another tokenizer's.
    """
    state = json.loads(tokenizer.backend.to_str())["model"]
    ids, offsets = tokenizer.encode_with_offsets(text)
    names = [str(tokenizer.backend.id_to_token(token)) for token in ids]
    rank = {tuple(merge): number for number, merge in enumerate(state.get("merges") or [])}
    result: list[ExplainedToken] = []
    known: dict[str, tuple[tuple[Step, ...], str]] = {}
    for token, name, (start, end) in zip(ids, names, offsets, strict=True):
        if name not in known:
            known[name] = _reason(tokenizer, state, name, token, rank, trace or {})
        result.append(ExplainedToken(token, name, start, end, *known[name]))
    return result


def legible(text: str) -> str:
    """A token as it is shown: with Python's escapes for line breaks, tabs and all else that cannot be seen."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def read_trace(folder: Path) -> Trace:
    """The merges file next to a tokenizer that lmworks has trained, in the order of learning; empty without one.

    ValueError names the line that is damaged.
    """
    path = folder / TRACE
    if not path.is_file():
        return {}
    headings, *lines = path.read_bytes().split(b"\n")
    if headings != HEADINGS.encode():
        raise _damaged(path, 1, headings, f"are not the headings {HEADINGS!r}")
    trace: dict[int, tuple[int, int, int]] = {}
    for number, line in enumerate(lines[:-1], start=2):
        try:
            token, left, right, count = map(int, line.split(b"\t"))
        except ValueError:
            raise _damaged(path, number, line, "does not hold four numbers with tabs between") from None
        if min(left, right) < 0 or max(left, right) >= token or token <= next(reversed(trace), -1):
            raise _damaged(path, number, line, "does not hold a token's id, above the line before, and two lower ones")
        trace[token] = left, right, count
    if lines[-1:] != [b""]:
        raise _damaged(path, len(lines) + 1, (lines or [headings])[-1], "is not complete")
    return trace


def _damaged(path: Path, number: int, line: bytes, why: str) -> ValueError:
    return ValueError(
        f"{path}, line {number}: {line[:80]!r} {why}. Train the tokenizer again, or delete the file: then all is "
        "explained but how often pairs were seen"
    )


def merge_steps(
    symbols: Sequence[Text], rank: Callable[[tuple[Text, Text]], int | None]
) -> tuple[list[Text], list[tuple[Text, Text]]]:
    """The tokens that merging makes of `symbols`, and the pairs in the order of merging: always the one of the lowest
    rank, from the left (Sennrich et al. 2016); a pair without a rank stays apart."""
    tokens, steps = list(symbols), []
    while True:
        ranked = [(number, at) for at, pair in enumerate(pairwise(tokens)) if (number := rank(pair)) is not None]
        if not ranked:
            return tokens, steps
        _, at = min(ranked)
        steps.append((tokens[at], tokens[at + 1]))
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]


def _reason(
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    name: str,
    token: int,
    rank: Mapping[tuple[str, str], int],
    trace: Trace,
) -> tuple[tuple[Step, ...], str]:
    kind = state["type"]
    if name in tokenizer.special_ids or name == state.get("unk_token"):
        return (), "nothing in the vocabulary stands for this part of the text"
    if kind == "Unigram":
        return (), f"log-probability {state['vocab'][token][1]:.2f}; the likeliest way to cut the text has it"
    if kind == "WordPiece":
        return _learnt(tokenizer, token, trace), "the longest piece of the vocabulary that fits here"
    if kind != "BPE":
        return (), "a word of the vocabulary"
    if name.startswith("<0x") and state.get("byte_fallback"):
        return (), "a byte of a character that has no token of its own"
    symbols, merges = merge_steps(list(name), rank.get)
    steps: list[Step] = []
    for left, right in merges:
        made = tokenizer.backend.token_to_id(left + right)
        traced = None if made is None else trace.get(made)
        if traced is not None and [tokenizer.backend.id_to_token(index) for index in traced[:2]] != [left, right]:
            raise _foreign(left + right)
        steps.append(Step(left, right, rank[left, right] + 1, traced and traced[2]))
    if len(symbols) > 1:
        return tuple(steps), "a word that is a token as a whole: merges alone would not lead there"
    return tuple(steps), "" if steps else "a symbol of the alphabet"


def _learnt(tokenizer: Tokenizer, token: int, trace: Trace) -> tuple[Step, ...]:
    """The merges that made a WordPiece, from the trace: its tokenizer.json holds none."""
    made: set[int] = set()
    unexplained = [token]
    while unexplained:
        token = unexplained.pop()
        if token in trace:
            made.add(token)
            unexplained += trace[token][:2]
    first = next(iter(trace), 0)
    steps: list[Step] = []
    for token in sorted(made):
        *pair, count = trace[token]
        name, left, right = (str(tokenizer.backend.id_to_token(index)) for index in (token, *pair))
        if not right.endswith(name.removeprefix(left)):
            raise _foreign(name)
        steps.append(Step(left, right, token - first + 1, count))
    return tuple(steps)


def _foreign(name: str) -> ValueError:
    return ValueError(
        f"{TRACE} was learnt with another tokenizer: it makes {name!r} of other tokens. Put the file that was written "
        "with this tokenizer.json next to it, or delete it"
    )
