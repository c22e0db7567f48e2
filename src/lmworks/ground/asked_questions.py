"""Questions for refusal-aware tuning, each with its passage and with another one that does not answer it.

The other passage is the one of the same source that has the question's words most (TF-IDF), and neither holds a
reference nor a character of a gold span. It may still answer in other words: nothing but a person could tell.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.artefact import StageContext, hash_fraction, hash_json
from lmworks.evaluate.metric import prompt_text
from lmworks.evaluate.question_set import QUESTIONS, read_questions
from lmworks.evaluate.string_metrics import contains
from lmworks.evaluate.task import Task, examples, read_tasks
from lmworks.ground.config import RefusalsConfig
from lmworks.records import Span
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.retrieve.index import Index, IndexedChunk
from lmworks.tokenizer.sentence_splitter import sentence_ranges

OPENING = 240  # characters of a gold span whose chunk is its passage


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its references, its passage if any, and `other`, which does not answer; "": none was found."""

    id: str
    text: str
    references: tuple[str, ...]
    held_out: bool
    passage: str = ""
    answerable: bool = True
    other: str = ""


def share_of(text: str) -> float:
    """A number in [0, 1) that the text decides."""
    return hash_fraction(hash_json(text))


def tasks_of(config: RefusalsConfig, base: Path) -> list[Task]:
    """The tasks; errors of `read_tasks`, and ValueError for one that generates nothing or has no answers."""
    tasks = read_tasks(config.tasks, base)
    for task in tasks:
        if task.request != "generation" or not task.answer:
            raise ValueError(f'{task.name}: a task of questions has request = "generation" and a column of answers')
    return tasks


def asked_of_task(task: Task, config: RefusalsConfig, base: Path) -> Iterator[Asked]:
    """The questions of a task; errors of `examples`."""
    items = [example.item for example in examples(task, base / config.data, config.limit)[0]]
    pool = list(dict.fromkeys(item.contexts[0] for item in items if item.contexts))
    texts = [prompt_text(item.prompt) for item in items]
    answerable = [item.fields.get("answerable", True) is not False for item in items]
    numbers = [number for number, item in enumerate(items) if item.contexts and answerable[number]]

    def bars(number: int, index: int) -> bool:
        item, passage = items[numbers[number]], pool[index]
        return passage == item.contexts[0] or any(contains(passage, reference) for reference in item.references)

    distractors = dict(zip(numbers, _others([texts[number] for number in numbers], pool, bars), strict=True))
    for number, (item, text) in enumerate(zip(items, texts, strict=True)):
        name, held_out = f"{task.name}/{item.id}", share_of(text) < config.held_out
        passage = item.contexts[0] if item.contexts else ""
        yield Asked(name, text, item.references, held_out, passage, answerable[number], distractors.get(number, ""))


def asked_of_corpus(context: StageContext) -> Iterator[Asked]:
    """The questions of an input of ground.questions with the chunks of one of retrieve.index. Where no person wrote an
    answer, it is the first sentence of the first gold span. Twins of hidden places are left out: `other` is theirs."""
    questions = [question for question in read_questions(context.input(QUESTIONS)) if not question.hidden]
    with Index.open(context.input(CATALOGUE), None, with_store=False) as index:
        chunks = index.chunks(index.keys)
        quotes = [index.document(q.gold[0].document).quote(q.gold[0]) if q.gold else "" for q in questions]
    of_document = defaultdict[str, list[IndexedChunk]](list)
    for chunk in chunks:
        of_document[chunk.span.document].append(chunk)
    references = [question.answer or _first_sentence(quote) for question, quote in zip(questions, quotes, strict=True)]

    def bars(number: int, index: int) -> bool:
        question, chunk, reference = questions[number], chunks[index], references[number]
        hidden = chunk.span.document in question.excluded or any(map(chunk.span.overlap, question.gold))
        return hidden or bool(reference and contains(chunk.text, reference))

    distractors = _others([q.text for q in questions], [chunk.prefix + chunk.text for chunk in chunks], bars)
    for question, quote, reference, distractor in zip(questions, quotes, references, distractors, strict=True):
        name, held_out = f"questions/{question.id}", question.split == "test"
        if not question.gold:
            yield Asked(name, question.text, (), held_out, distractor, answerable=False)
            continue
        gold = question.gold[0]
        start = Span(gold.document, gold.start, min(gold.end, gold.start + OPENING))
        gold_chunk = max(of_document[gold.document], key=lambda chunk: chunk.span.overlap(start))
        passage = gold_chunk.prefix + gold_chunk.text if gold_chunk.span.overlap(start) else quote
        yield Asked(name, question.text, (reference,), held_out, passage, other=distractor)


def _first_sentence(quote: str) -> str:
    text = " ".join(quote.split())
    return "".join(text[start:end] for start, end in sentence_ranges(text)[:1])


def _others(texts: Sequence[str], pool: Sequence[str], bars: Callable[[int, int], bool]) -> list[str]:
    """For each question the passage nearest to it; not one that its number `bars`. "" where none shares a word."""
    if not texts or not pool:
        return [""] * len(texts)
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    passages = vectorizer.fit_transform(pool)
    nearest = []
    for number, text in enumerate(texts):
        row = (vectorizer.transform([text]) @ passages.T).tocoo()  # (1, passages)
        near = sorted(zip(-row.data, row.col, strict=True))
        nearest.append(next((pool[index] for _, index in near if not bars(number, int(index))), ""))
    return nearest
