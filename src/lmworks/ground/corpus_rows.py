"""Rows that teach a reader or a reranker from an index alone: questions made of its passages, negatives mined by its
search, kept where the passage is found again among these (round-trip consistency; Alberti et al. 2019, section 3).

heading      "What does NAME do?" of a function's heading: the first sentence below it answers; for a reranker, of other
             headings too, "What does TITLE say about HEADING?": the passage below it answers
definition   "What is X?" of "X is a ...": what stands behind "is" answers
written      by a language model, of a sentence, which answers
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmworks.generate.constraint import Regex
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.ground.grounded_answer import Finder
from lmworks.progress import Report, no_report
from lmworks.records import Message
from lmworks.retrieve.index import IndexedChunk
from lmworks.retrieve.query_expansion import read_queries
from lmworks.retrieve.search import fused
from lmworks.retrieve.text_block import UNITS
from lmworks.train.objectives.cross_encoder_objective import Task

DEPTH, NEGATIVES = 20, 4  # hits that are looked through for negatives, and how many of them a row has
LONGEST = 160  # characters of an answer
PROMPT = "Write one short question that this sentence answers. Write the question only.\n\n{sentence}"
_DEFINITION = re.compile(  # of a thing ("A finder is ..."), or of a name
    r"(?:An? (?P<thing>[a-z-]+(?: (?!that|which)[a-z-]+){0,2})|(?P<name>`?[A-Z][\w.]*`?(?: `?[A-Z][\w.]*`?){0,3}))"
    r" is (?P<answer>(?:an?|the) .{12,}?)[.:;]?\Z"
)
_QUESTION = Regex(r"(What (is|are|does|do|can|happens)|Who|When|Where|Why|How|Which|Is|Does|Can) [a-z][^?!\n]{8,100}\?")
_VAGUE = frozenset("This That It There These Those They Here What Which Each One Note If When Where".split())

Write = Callable[[Sequence[str]], list[str]]  # sentences -> a question that each answers


@dataclass(frozen=True, slots=True)
class _Made:
    """A question of a passage, and the answer in its document."""

    text: str
    chunk: IndexedChunk
    start: int
    end: int


def corpus_rows(
    finder: Finder,
    task: Task,
    write: Write | None = None,
    limit: int = 400,
    progress: Report = no_report,
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """`limit` questions at most as rows of `train.objectives.cross_encoder_objective`, and why others were left out.
    The finder's reranker judges what is found again, or, where it has none, its search. ValueError for a verifier."""
    if task == "verifier":
        raise ValueError("passages do not say what follows from them: give labelled rows to a verifier, by --rows")
    index, chance, left_out = finder.index, random.Random(0), Counter[str]()
    chunks = index.chunks(sorted(index.keys.tolist()))
    chance.shuffle(chunks)
    made = [one for chunk in chunks for one in _of_rules(chunk, task)]
    if write:
        sentences = [one for chunk in chunks[: 2 * limit] for one in _sentences(chunk)[:1]]
        texts = write([_text(one) for one in sentences])
        asked = [_Made(text, one.chunk, one.start, one.end) for text, one in zip(texts, sentences, strict=True)]
        made = [*(one for one in asked if one.text.endswith("?")), *made]
        left_out["the language model wrote no question"] += sum(not one.text.endswith("?") for one in asked)
    places = defaultdict[str, list[_Made]](list)
    for one in made:
        places[one.text].append(one)
    left_out["two passages answer it"] += sum(len(found) > 1 for found in places.values())
    rows, kept = [], 0
    for one in (found[0] for found in places.values() if len(found) == 1):
        if kept == limit:
            break
        negatives = _mined(finder, one, left_out)
        if negatives:
            kept += 1
            rows += _rows(one, negatives, task, unanswered=kept % 2 == 0)
            progress(kept, limit, "questions kept")
    return rows, +left_out


def question_writer(engine: EngineProtocol) -> Write:
    """The questions of a language model, greedily."""

    def write(sentences: Sequence[str]) -> list[str]:
        sampling = SamplingParameters(max_tokens=40, constraint=_QUESTION)
        asked = [Request(messages=(Message("user", PROMPT.format(sentence=s)),), sampling=sampling) for s in sentences]
        return [completion.text for completion in engine.generate(asked)]

    return write


def _of_rules(chunk: IndexedChunk, task: Task) -> Iterator[_Made]:
    path, sentences = chunk.heading_path, _sentences(chunk)
    if chunk.opens_section and path and "(" in path[-1]:
        if sentences:
            yield replace(sentences[0], text=f"What does {path[-1].split('(')[0].removeprefix('class ')} do?")
    elif chunk.opens_section and task == "reranker" and len(path) > 1:
        yield _Made(f"What does {path[0]} say about {path[-1]}?", chunk, chunk.span.start, chunk.span.end)
    for one in sentences:
        found = _DEFINITION.match(_text(one))
        if found and found["name"] not in _VAGUE:
            text = f"What is {found['name'] or 'a ' + found['thing']}?".replace("`", "")
            yield _Made(text, chunk, one.start + found.start("answer"), one.start + found.end("answer"))


def _sentences(chunk: IndexedChunk) -> list[_Made]:
    """The sentences of a passage that are short enough to be an answer."""
    found = [unit for unit in chunk.units if unit.kind not in UNITS and 40 <= unit.end - unit.start <= LONGEST]
    return [_Made("", chunk, unit.start, unit.end) for unit in found]


def _text(one: _Made) -> str:
    start = one.chunk.span.start
    return one.chunk.text[one.start - start : one.end - start]


def _mined(finder: Finder, one: _Made, left_out: Counter[str]) -> list[IndexedChunk]:
    """The best passages that do not hold the answer; none where the question's own is not found again before them."""
    hits = fused(finder.index, read_queries(finder.index, [one.text], finder.encoder), finder.config.search)
    found = finder.index.chunks(hits.keys[:DEPTH])
    others = [chunk for chunk in found if not chunk.span.overlap(one.chunk.span) and _text(one) not in chunk.text]
    negatives = others[:NEGATIVES]
    if reranker := finder.heads.get("reranker"):
        logits = reranker.relevance(one.text, [chunk.prefix + chunk.text for chunk in (one.chunk, *negatives)])
        again = bool(negatives) and float(logits[0]) > float(logits[1:].max())
    else:
        again = bool(negatives) and any(chunk.key == one.chunk.key for chunk in found[:1])
    left_out["the search finds no other passage"] += not negatives
    left_out["another passage is found before its own"] += bool(negatives) and not again
    return negatives if again else []


def _rows(one: _Made, negatives: Sequence[IndexedChunk], task: Task, unanswered: bool) -> list[dict[str, Any]]:
    context, *others = (chunk.prefix + chunk.text for chunk in (one.chunk, *negatives))
    if task == "reranker":
        return [{"anchor": one.text, "positive": context, "negatives": others}]
    start = one.start - one.chunk.span.start + len(one.chunk.prefix)
    answer = {"text": [_text(one)], "answer_start": [start]}
    none = [{"question": one.text, "context": others[0], "answers": {"text": [], "answer_start": []}}]
    return [{"question": one.text, "context": context, "answers": answer}, *(none if unanswered else [])]
