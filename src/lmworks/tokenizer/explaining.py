"""Why a text is cut into these tokens: which merges made each of them, and when they were learnt."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lmworks.tokenizer.tokenizer import Tokenizer

TRACE = "merges.tsv"  # beside a tokenizer.json: what was merged, and how often it was seen when that was learnt
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
    """Every token of `text`, and where it comes from; `trace` is what `read_trace` gives."""
    state = json.loads(tokenizer.backend.to_str())["model"]
    ids, offsets = tokenizer.encode_with_offsets(text)
    names = [str(tokenizer.backend.id_to_token(token)) for token in ids]
    rank = {_pair(merge): number for number, merge in enumerate(state.get("merges") or [])}
    result: list[ExplainedToken] = []
    known: dict[str, tuple[tuple[Step, ...], str]] = {}
    for token, name, (start, end) in zip(ids, names, offsets, strict=True):
        if name not in known:
            known[name] = _reason(tokenizer, state, name, token, rank, trace or {})
        result.append(ExplainedToken(token, name, start, end, *known[name]))
    return result


def read_trace(folder: Path) -> Trace:
    """What lies beside a tokenizer that lmworks has trained, in the order of learning; empty without one."""
    path = folder / TRACE
    if not path.is_file():
        return {}
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:]]
    try:
        return {int(token): (int(left), int(right), int(count)) for token, left, right, count in rows}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def merge_steps(symbols: Sequence[str], rank: Mapping[tuple[str, str], int]) -> tuple[list[str], list[tuple[str, str]]]:
    """What merging makes of `symbols`, and the pairs in the order in which they were merged: always the one that was
    learnt first, from the left (Sennrich et al. 2016)."""
    parts, steps = list(symbols), []
    while True:
        pairs = [(rank[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in rank]
        if not pairs:
            return parts, steps
        _, place = min(pairs)
        steps.append((parts[place], parts[place + 1]))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


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
    parts, merges = merge_steps(name, rank)
    steps: list[Step] = []
    for left, right in merges:
        made = tokenizer.backend.token_to_id(left + right)
        seen = None if made is None or made not in trace else trace[made][2]
        steps.append(Step(left, right, rank[left, right] + 1, seen))
    if len(parts) > 1:
        return tuple(steps), "a word that is a token as a whole: merges alone would not lead there"
    return tuple(steps), "" if steps else "a symbol of the alphabet"


def _learnt(tokenizer: Tokenizer, token: int, trace: Trace) -> tuple[Step, ...]:
    """The merges that made a WordPiece, from the trace: its tokenizer.json holds none."""
    made: list[int] = []
    open_ = [token]
    while open_:
        one = open_.pop()
        if one in trace:
            made.append(one)
            open_ += trace[one][:2]
    first = next(iter(trace), 0)
    name = tokenizer.backend.id_to_token
    return tuple(
        Step(str(name(trace[one][0])), str(name(trace[one][1])), one - first + 1, trace[one][2])
        for one in sorted(set(made))
    )


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """A merge is stored as a pair, or in older files as "left right"."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
