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
    questions = [question for chunk in chunks for question in _of_rules(chunk, task)]
    if write:
        sentences = [sentence for chunk in chunks[: 2 * limit] for sentence in _sentences(chunk)[:1]]
        texts = write([_text(sentence) for sentence in sentences])
        asked = [_Made(text, quote.chunk, quote.start, quote.end) for text, quote in zip(texts, sentences, strict=True)]
        questions = [*(question for question in asked if question.text.endswith("?")), *questions]
        left_out["the language model wrote no question"] += sum(not question.text.endswith("?") for question in asked)
    by_text = defaultdict[str, list[_Made]](list)
    for question in questions:
        by_text[question.text].append(question)
    left_out["two passages answer it"] += sum(len(same) > 1 for same in by_text.values())
    rows, count = [], 0
    for question in (same[0] for same in by_text.values() if len(same) == 1):
        if count == limit:
            break
        negatives = _mined(finder, question, left_out)
        if negatives:
            count += 1
            rows += _rows(question, negatives, task, unanswered=count % 2 == 0)
            progress(count, limit, "questions kept")
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
    for sentence in sentences:
        match = _DEFINITION.match(_text(sentence))
        if match and match["name"] not in _VAGUE:
            text = f"What is {match['name'] or 'a ' + match['thing']}?".replace("`", "")
            yield _Made(text, chunk, sentence.start + match.start("answer"), sentence.start + match.end("answer"))


def _sentences(chunk: IndexedChunk) -> list[_Made]:
    """The sentences of a passage that are short enough to be an answer."""
    units = [unit for unit in chunk.units if unit.kind not in UNITS and 40 <= unit.end - unit.start <= LONGEST]
    return [_Made("", chunk, unit.start, unit.end) for unit in units]


def _text(question: _Made) -> str:
    start = question.chunk.span.start
    return question.chunk.text[question.start - start : question.end - start]


def _mined(finder: Finder, asked: _Made, left_out: Counter[str]) -> list[IndexedChunk]:
    """The best passages that do not hold the answer; none where the question's own is not found again before them."""
    hits = fused(finder.index, read_queries(finder.index, [asked.text], finder.encoder), finder.config.search)
    chunks = finder.index.chunks(hits.keys[:DEPTH])
    wrong = [chunk for chunk in chunks if not chunk.span.overlap(asked.chunk.span) and _text(asked) not in chunk.text]
    negatives = wrong[:NEGATIVES]
    if reranker := finder.heads.get("reranker"):
        logits = reranker.relevance(asked.text, [chunk.prefix + chunk.text for chunk in (asked.chunk, *negatives)])
        again = bool(negatives) and float(logits[0]) > float(logits[1:].max())
    else:
        again = bool(negatives) and any(chunk.key == asked.chunk.key for chunk in chunks[:1])
    left_out["the search finds no other passage"] += not negatives
    left_out["another passage is found before its own"] += bool(negatives) and not again
    return negatives if again else []


def _rows(question: _Made, negatives: Sequence[IndexedChunk], task: Task, unanswered: bool) -> list[dict[str, Any]]:
    context, *negative_texts = (chunk.prefix + chunk.text for chunk in (question.chunk, *negatives))
    if task == "reranker":
        return [{"anchor": question.text, "positive": context, "negatives": negative_texts}]
    start = question.start - question.chunk.span.start + len(question.chunk.prefix)
    answer = {"text": [_text(question)], "answer_start": [start]}
    none = [{"question": question.text, "context": negative_texts[0], "answers": {"text": [], "answer_start": []}}]
    return [{"question": question.text, "context": context, "answers": answer}, *(none if unanswered else [])]
