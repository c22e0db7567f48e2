"""Answers that a language model writes, with and without verification, beside the answers in quotes.

    python benchmarks/written_answers.py WORKSPACE --model qwen2.5-coder-1.5b-instruct --questions 50 --out rows.jsonl

Asked are test questions that a person answered in a few words, every fifth of them with the places hidden that answer.
Both arms come from one draft: "as drafted" is its first attempt, "verified" what the system says. `--floor 0` asks the
writer whatever the confidence. Measured are, of the statements, those whose evidence is a gold span, and those whose
words (all but a fifth) stand in the passage that they cite; of the answers, the share of the person's words that they
have. A removed statement whose words and gold span are both right counts as a false rejection. The first twenty answers
are printed, to be read.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import lmworks
from lmworks.adapt.adapter import load
from lmworks.evaluate.question_set import read_questions
from lmworks.evaluate.span_overlap import is_right
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Delta, Request
from lmworks.ground.config import WritingConfig
from lmworks.ground.grounded_answer import filters_of
from lmworks.ground.written_answer import Writer
from lmworks.records import Question, Retrieved, Verdict
from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.system import System
from lmworks.workspace import artefact_of

HELD = 0.8  # share of a statement's words that its passage must have


class Recorded:
    """An engine that keeps what it wrote."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.texts = engine, list[str]()

    def stream(self, request: Request) -> Iterator[Delta]:
        self.texts.append("")
        for delta in self.engine.stream(request):
            self.texts[-1] += delta.text
            yield delta


def words(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS}


def share(wanted: set[str], text: str) -> float:
    return len(wanted & words(text)) / len(wanted) if wanted else 1.0


def judged(one: Verdict, question: Question, passages: Sequence[Retrieved]) -> dict[str, Any]:
    cited = next((each.text for each in passages if each.span.overlap(one.evidence)), "")
    held = share(words(one.text), cited) >= HELD
    row = {"text": one.text, "verdict": one.verdict, "support": one.support, "uri": one.uri}
    return row | {"gold": is_right(one.evidence, question.gold), "held": held}


def asked(question: Question, system: System, writer: Writer, engine: Recorded) -> dict[str, Any]:
    answerer = system.answerer
    answerer.writer, filters = None, filters_of(question)
    quotes, _ = answerer.respond(question.text, filters=filters)
    answerer.writer, engine.texts = writer, []
    began = time.perf_counter()
    answer, evidence = answerer.respond(question.text, filters=filters)
    statements = [judged(one, question, evidence.passages) for one in answer.verdicts if one.origin == "generated"]
    first = sum(bool(line.strip()) for line in engine.texts[0].split("\n")) if engine.texts else 0
    wanted = words(question.answer)

    def said(text: str, abstained: bool) -> float:
        return 0.0 if abstained else share(wanted, text)

    drafted = statements[:first]
    return {
        "question": question.text, "kind": question.kind, "answerable": question.answerable, "wanted": question.answer,
        "confidence": answer.confidence, "threshold": answerer.calibration.threshold, "statements": statements,
        "first": first, "drafts": engine.texts, "answer": answer.text, "abstained": answer.abstained,
        "quotes": quotes.text, "quotes_abstained": quotes.abstained,
        "quotes_gold": [is_right(one.evidence, question.gold) for one in quotes.citations],
        "complete": said(answer.text, answer.abstained), "quotes_complete": said(quotes.text, quotes.abstained),
        "draft_complete": said(" ".join(one["text"] for one in drafted), not drafted),
        "seconds": time.perf_counter() - began, "timings": dict(answer.timings),
    }  # fmt: skip


def summary(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    answerable = [row for row in rows if row["answerable"]]
    drafted = [one for row in answerable for one in row["statements"][: row["first"]]]
    kept = [one for row in answerable for one in row["statements"] if one["verdict"] == "cited"]
    removed = [
        one for row in answerable for one in row["statements"] if one["verdict"] in ("unsupported", "not a quote")
    ]

    def mean(values: Sequence[Any]) -> str:
        return f"{np.mean(values):.2f} (n={len(values)})" if len(values) else "none"

    for name, statements in (("as drafted", drafted), ("verified", kept), ("removed", removed)):
        console.print(f"{name}: evidence is gold {mean([one['gold'] for one in statements])}, words held "
                      f"{mean([one['held'] for one in statements])}")  # fmt: skip
    console.print(f"quotes: evidence is gold {mean([one for row in answerable for one in row['quotes_gold']])}")
    sound = [one["verdict"] != "cited" for one in drafted if one["held"] and one["gold"]]
    console.print(f"false rejections, of drafted statements with both: {mean(sound)}")
    for name in ("draft_complete", "complete", "quotes_complete"):
        console.print(f"{name}: {mean([row[name] for row in answerable])}")
    for name in ("abstained", "quotes_abstained"):
        others = [row[name] for row in rows if not row["answerable"]]
        console.print(f"{name}: answerable {mean([row[name] for row in answerable])}, not answerable {mean(others)}")
    console.print(f"seconds: {mean([row['seconds'] for row in rows])}, of them verifying "
                  f"{mean([row['timings'].get('verify', 0.0) for row in rows])}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--model", required=True, help="name or path of the language model that writes")
    parser.add_argument("--verifier", default="minilm-verifier")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--floor", type=float, default=0.0)
    parser.add_argument("--out", type=Path, required=True, help="a row for each question; those that are there stay")
    options = parser.parse_args()
    system = lmworks.open(options.workspace)
    questions = read_questions(artefact_of(system.workspace, system.current, "ground.questions"))
    own = [one for one in questions if one.split == "test" and one.answer]
    able, hidden = ([one for one in own if one.answerable is wanted] for wanted in (True, False))
    chosen = [hidden.pop(0) if n % 5 == 4 else able.pop(0) for n in range(options.questions)]
    engine = Recorded(Engine(load(options.model), slots=1))
    verifier = CrossEncoder(load(options.verifier))
    logits = CrossEncoder(load("minilm-reranker")).relevance
    writer = Writer(WritingConfig(floor=options.floor), lambda: engine, verifier, logits, "measured")  # type: ignore[arg-type]
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    with options.out.open("a") as out:
        for question in chosen[len(rows) :]:
            rows.append(asked(question, system, writer, engine))
            print(json.dumps(rows[-1]), file=out, flush=True)
    console = Console(highlight=False, markup=False)
    for row in rows[:20]:
        console.print(f"\n{row['question']}   (wanted: {row['wanted']})\n  {row['confidence']:.2f} {row['answer']}")
        for one in row["statements"]:
            console.print(f"    {one['verdict']} {one['support']} gold={one['gold']} held={one['held']}: {one['text']}")
    summary(rows, console)


if __name__ == "__main__":
    main()
