"""Search, answers and certainty on reading sets in SQuAD's format, beside BM25, MiniLM and their fusion.

    .venv/bin/python benchmarks/answer_quality.py --sets FOLDER ... --cache FOLDER [--json OUT] [--ablation]

A set is a file or a folder of files (`.json`, `.json.gz`). Each article becomes one document; in a file with a single
article each paragraph does. Gold answers are spans of the documents. Questions without an answer are those that the set
marks so; where it marks none, a fifth of the paragraphs is hidden and their questions are the ones "on topic", while
the rest of the document is kept. "Foreign" ones are questions of the next set. Where one question is asked of many
articles ("How is my data used?"), each is asked within its own article.

A chunk is relevant when a whole gold span lies inside it. An answer is right when a gold answer stands in it, as a
string of whole words without case. Weights and thresholds of a half of the questions come from the other half. Figures
have 95 % intervals by bootstrap over questions, differences are paired. Texts are encoded once and kept in the cache.

The peers need `pip install bm25s PyStemmer sentence-transformers`; without them their rows are missing, and it says so.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from scipy.stats import rankdata

import lmworks
from lmworks.evaluate.abstention import expected_calibration_error, risk_coverage
from lmworks.evaluate.ranking_metrics import ndcg_at_k, recall_at_k
from lmworks.evaluate.span_overlap import is_right
from lmworks.generate.protocol import Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.ground.calibration import RANKED, Trial, _best, choose_threshold, f1_scores
from lmworks.ground.candidate_sentences import Sentences
from lmworks.ground.config import AnswerConfig, CalibrationConfig
from lmworks.ground.features import NAMES
from lmworks.ground.grounded_answer import Calibration, Finder, decide
from lmworks.ground.logistic_regression import cross_fit, fit
from lmworks.ground.selection import Rules
from lmworks.model.download import locate
from lmworks.records import Document, Question, Retrieved, Score, Span, Unscored
from lmworks.retrieve import search as search_module
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.index import Filters, Index, IndexedChunk
from lmworks.retrieve.search import Hits, dense, lexical, reciprocal_rank_fusion, rerank
from lmworks.statistics import bootstrap_interval, difference_score, mean_score, proportion_score

MODEL = "all-minilm-l6-v2"
DEPTH = 10
PASSAGES = 6  # that a baseline takes its sentences from, as many as the system reads
HIDDEN = 0.2  # share of the paragraphs that are hidden in a set without unanswerable questions
SHARED = 0.2  # from this share of questions that several articles have, each is asked within its article
PEERS = ("bm25s", "Stemmer", "sentence_transformers")
RANKINGS = ("search", "dense", "lexical", "fused", "fused + late interaction")
SENTENCES = 3  # that a baseline shows, as many as the system at most
SPLITS = ("calibration", "test")
ANSWERABLE, ON_TOPIC, FOREIGN = "answerable", "on topic", "foreign"


# ---------------------------------------------------------------------------------------------------------------------
# Reading sets


@dataclass(frozen=True)
class ReadingSet:
    """Documents, the answerable questions and those on topic without an answer; `scoped`: asked within an article."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    scoped: bool


def read_set(path: Path, paragraphs: int, seed: int) -> ReadingSet:
    """At most about `paragraphs` paragraphs of a set, chosen by article and the same number from each file."""
    files = [path] if path.is_file() else sorted([*path.glob("*.json"), *path.glob("*.json.gz")])
    if not files:
        raise SystemExit(f"{path} holds no .json or .json.gz in SQuAD's format")
    chooser = random.Random(seed)
    articles: list[tuple[str, list[Any]]] = []
    for file in files:
        data = json.loads((gzip.open if file.suffix == ".gz" else open)(file, "rb").read())["data"]
        if len(data) == 1:
            data = [{"title": "", "paragraphs": [one]} for one in data[0]["paragraphs"]]
        chooser.shuffle(data)
        left = paragraphs // len(files)
        for article in data:
            if left > 0:
                articles.append((article.get("title", "").replace("_", " "), article["paragraphs"]))
                left -= len(article["paragraphs"])
    asked = [qa for _, parts in articles for part in parts for qa in part["qas"]]
    hidden = 0.0 if any(qa.get("is_impossible") for qa in asked) else HIDDEN
    documents: dict[str, Document] = {}
    merged: dict[tuple[str, str], list[Span]] = {}
    for number, (title, parts) in enumerate(articles):
        kept = [part for part in parts if chooser.random() >= hidden]
        text = "\n\n".join(part["context"] for part in kept)
        source = hashlib.sha256(text.encode()).hexdigest()
        document = Document(text, f"{number:04}", "text/plain", "text", "1", source, title)
        if text:
            documents.setdefault(document.hash, document)
        starts = dict(zip(map(id, kept), np.cumsum([0, *(len(part["context"]) + 2 for part in kept)]), strict=False))
        for part in parts:
            for qa in part["qas"]:
                spans = merged.setdefault((document.hash, " ".join(qa["question"].split())), [])
                if id(part) in starts and not qa.get("is_impossible"):
                    spans += gold_spans(qa, document, int(starts[id(part)]))
    texts = [text for _, text in merged]
    scoped = 1 - len(set(texts)) / len(texts) > SHARED
    questions = [
        Question(
            f"{path.name}-{number}", text, tuple(sorted(set(spans))), "test", ANSWERABLE if spans else ON_TOPIC,
            tuple(documents.keys() - {owner}) if scoped else (),
        )
        for number, ((owner, text), spans) in enumerate(merged.items())
        if owner in documents or not scoped
    ]  # fmt: skip
    return ReadingSet(path.name, tuple(documents.values()), tuple(questions), scoped)


def gold_spans(qa: Mapping[str, Any], document: Document, offset: int) -> list[Span]:
    """The answers as spans; ValueError where one does not stand at its place."""
    spans = [
        Span(document.hash, offset + one["answer_start"], offset + one["answer_start"] + len(one["text"]))
        for one in qa["answers"]
    ]
    for span, one in zip(spans, qa["answers"], strict=True):
        if document.quote(span) != one["text"]:
            raise ValueError(f"{qa['id']}: {one['text']!r} does not stand at {one['answer_start']}")
    return spans


def sample(sets: Sequence[ReadingSet], number: int, count: int, seed: int) -> list[Question]:
    """`count` answerable questions of a set, half as many on topic and foreign; the halves are the splits."""
    own, other = sets[number], sets[(number + 1) % len(sets)]
    chooser = random.Random(seed)
    chosen: list[Question] = []
    for kind, wanted in ((ANSWERABLE, count), (ON_TOPIC, count // 2)):
        pool = [question for question in own.questions if question.kind == kind]
        chosen += chooser.sample(pool, min(wanted, len(pool)))
    if other is not own:
        every = [document.hash for document in own.documents]
        for question in chooser.sample(other.questions, min(count // 2, len(other.questions))):
            asked = chooser.choice(every)
            scope = tuple(one for one in every if one != asked) if own.scoped else ()
            chosen.append(replace(question, gold=(), kind=FOREIGN, excluded=scope))
    chooser.shuffle(chosen)
    return [replace(one, split="calibration" if place % 2 else "test") for place, one in enumerate(chosen)]


# ---------------------------------------------------------------------------------------------------------------------
# Encoding once


class Cache:
    """Arrays by kind and text in one file: vectors in float32, token vectors rounded to half precision."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".npz")
        self.arrays: dict[str, np.ndarray] = {}
        if self.path.exists():
            with np.load(self.path) as stored:
                for number in ("1", "2"):
                    parts = np.split(stored[f"arrays{number}"], stored[f"ends{number}"][:-1])
                    self.arrays |= dict(zip(stored[f"keys{number}"].tolist(), parts, strict=True))
        self.stored = len(self.arrays)

    def get(
        self, kind: str, texts: Sequence[str], make: Callable[[list[str]], Iterable[Sequence[np.ndarray]]], parts: int
    ) -> list[list[np.ndarray]]:
        """For each of the parts that `make` gives for a text (a vector, token vectors) those of all texts."""
        keys = [hashlib.sha256(f"{kind} {text}".encode("utf-8", "replace")).hexdigest()[:24] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if f"{key}0" not in self.arrays}
        for key, made in zip(missing, make(list(missing.values())) if missing else (), strict=True):
            for part, array in enumerate(made):
                self.arrays[f"{key}{part}"] = array.astype(np.float16 if array.ndim == 2 else np.float32)
        return [[self.arrays[f"{key}{part}"] for key in keys] for part in range(parts)]

    def save(self) -> None:
        if len(self.arrays) > self.stored:
            table: dict[str, np.ndarray] = {}
            for number in (1, 2):
                held = {key: array for key, array in self.arrays.items() if array.ndim == number}
                table[f"keys{number}"] = np.array(list(held))
                table[f"ends{number}"] = np.cumsum([len(array) for array in held.values()])
                table[f"arrays{number}"] = np.concatenate(list(held.values()))
            np.savez(self.path, allow_pickle=False, **table)
            self.stored = len(self.arrays)


class CachedEncoder(TextEncoder):
    """The encoder, reading from a folder what it made before; vectors and tokens come from one forward."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(lmworks.load(MODEL))
        self.cache = Cache(folder / f"{name}-{self.fingerprint[:8]}")

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        return self.encode_both(texts, role)[0]

    def encode_both(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, list[np.ndarray]]:
        both = super().encode_both
        vectors, tokens = self.cache.get(role, texts, lambda new: zip(*both(new, role), strict=True), 2)
        return np.array(vectors, dtype=np.float32).reshape(-1, self.width), [t.astype(np.float32) for t in tokens]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer.encode_batch(texts)]


# ---------------------------------------------------------------------------------------------------------------------
# Peers


class Peers:
    """BM25 (bm25s with stemmer and stop words) and MiniLM (sentence-transformers) over chunks and their sentences."""

    def __init__(self, texts: Sequence[str], cache: Cache) -> None:
        import bm25s  # pyright: ignore[reportMissingImports]
        import Stemmer  # pyright: ignore[reportMissingImports]
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        self._tokenize = bm25s.tokenize
        self._stemmer = Stemmer.Stemmer("english")
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._words(texts), show_progress=False)
        model = SentenceTransformer(str(locate(MODEL)), device="cpu")
        self._encode = lambda some: cache.get("peer", some, lambda new: zip(model.encode(new), strict=True), 1)[0]
        self._matrix = np.array(self._encode(texts))

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        options = {"stopwords": "en", "stemmer": self._stemmer, "return_ids": False, "show_progress": False}
        return self._tokenize(list(texts), **options)

    def scores(self, question: str) -> dict[str, np.ndarray]:
        """By peer the score of each text, (texts,)."""
        (words,) = self._words([question])
        known = [word for word in words if word in self._bm25.vocab_dict]
        by_words = self._bm25.get_scores(known) if known else np.zeros(len(self._matrix))
        return {"BM25": by_words, "MiniLM": self._matrix @ self._encode([question])[0]}


# ---------------------------------------------------------------------------------------------------------------------
# One set under one variant of the search


@dataclass(frozen=True)
class Variant:
    """What an ablation takes away: nothing here is the system as it is."""

    title: bool = True  # whether the title stands in what is embedded and indexed
    search: Mapping[str, Any] = field(default_factory=dict)  # fields of SearchConfig
    patch: Callable[[], AbstractContextManager[Any]] = nullcontext


def words_alone(question: str) -> str:
    words = [word.lower() for word in re.findall(r"\w+", question) if word.strip("_")]
    return " OR ".join(
        f'"{w}"' for w in dict.fromkeys([w for w in words if w not in search_module.STOP_WORDS] or words)
    )


VARIANTS = {
    "as it is": Variant(),
    "without titles": Variant(title=False),
    "without word pairs": Variant(patch=lambda: mock.patch.object(search_module, "match_expression", words_alone)),
    "without late interaction": Variant(patch=lambda: mock.patch.object(search_module, "rerank", late_scores_alone)),
    "without dropping duplicates": Variant(search={"near_duplicate": 1.0}),
    "20 candidates": Variant(search={"candidates": 20}),
    "200 candidates": Variant(search={"candidates": 200}),
}


def late_scores_alone(index: Index, hits: Hits, *rest: Any) -> Hits:
    """The scores of late interaction, which features need, in the fused order."""
    scores = dict(zip((ranked := rerank(index, hits, *rest)).keys, ranked.scores, strict=True))
    return Hits(hits.keys, tuple(scores[key] for key in hits.keys))


@dataclass
class Outcome:
    """For each question: relevance of the chunks that each retriever ranks, and what each answerer shows."""

    questions: list[Question]
    chunks: int
    inside: list[bool]  # whether a chunk holds a whole gold span
    relevance: dict[str, list[list[bool]]]
    right: dict[str, list[list[bool]]]  # of each sentence shown, best first; of the system as if it never abstained
    confidence: list[float]
    abstained: list[bool]
    trials: list[Trial]

    @property
    def answerable(self) -> list[int]:
        return [place for place, question in enumerate(self.questions) if question.answerable]


def run(
    reading: ReadingSet, questions: list[Question], encoder: CachedEncoder, variant: Variant, *, peers: bool
) -> Outcome:
    """Index the documents and ask all questions; `peers`: also the single steps of the search, and the peers."""
    config = replace(AnswerConfig(), search=replace(AnswerConfig().search, **variant.search))
    ranked: dict[str, list[list[str]]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        variant.patch(),
        Index.create(Path(folder) / "index", encoder.fingerprint, encoder.width, ChunkConfig()) as index,
    ):
        documents = [one if variant.title else replace(one, title="") for one in reading.documents]
        index.sync(documents, encoder.encode, encoder.count_tokens)
        keys = index.layout().keys.tolist()
        chunks = dict(zip(keys, index.chunks(keys), strict=True))
        finder = Finder(index, encoder, {}, config)
        encoder.cache.save()
        for question in questions:
            for name, row in rankings(question, finder, chunks, steps=peers).items():
                ranked.setdefault(name, []).append(row)
        trials = [as_trial(question, finder) for question in questions]
        shown, confidence, abstained = answers(trials)
        shown["any sentence of the passages"] = [[one.text for one in trial.evidence.candidates] for trial in trials]
        if peers and (missing := [name for name in PEERS if importlib.util.find_spec(name) is None]):
            print(f"NO ROWS OF PEERS: {', '.join(missing)} not installed")
        elif peers:
            ask_peers(finder, chunks, questions, encoder.cache, ranked, shown)
        texts = [[index.document(span.document).quote(span) for span in question.gold] for question in questions]
    encoder.cache.save()
    gold = [{c.id for c in chunks.values() if any(holds(c.span, g) for g in q.gold)} for q in questions]
    right = {
        name: [[has(sentence, golds) for sentence in row] for row, golds in zip(rows, texts, strict=True)]
        for name, rows in shown.items()
    }
    relevance = {
        name: [[one in golds for one in row] for row, golds in zip(rows, gold, strict=True)]
        for name, rows in ranked.items()
    }
    return Outcome(questions, len(chunks), [bool(one) for one in gold], relevance, right, confidence, abstained, trials)


def holds(outer: Span, inner: Span) -> bool:
    return outer.document == inner.document and outer.start <= inner.start and inner.end <= outer.end


def has(sentence: str, golds: Sequence[str]) -> bool:
    """Whether one of the gold answers stands in a sentence as whole words, without case and the dot at its end."""
    words = " ".join(sentence.lower().split())
    texts = (" ".join(gold.lower().split()).strip(" .,;:") for gold in golds)
    return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", words) for text in texts if text)


def rankings(question: Question, finder: Finder, chunks: Mapping[int, IndexedChunk], *, steps: bool) -> dict[str, Any]:
    """The first chunks (their ids) of the search, and of its single steps."""
    index, encoder, config = finder.index, finder.encoder, finder.config.search
    if not question.answerable:
        return {name: [] for name in (RANKINGS if steps else RANKINGS[:1])}
    filters = Filters(exclude=frozenset(question.excluded))
    found = finder.passages(question.text, replace(config, k=DEPTH, budget_tokens=0), filters)
    result = {"search": [one.chunk for one in found]}
    if steps:
        query = encoder.encode([question.text], "query")[0]
        legs = (
            dense(index, query, config.candidates, filters),
            lexical(index, question.text, config.candidates, filters),
        )
        fused = reciprocal_rank_fusion(legs, config.rrf_constant)
        late = rerank(index, fused, question.text, query, encoder.encode_tokens, config.rerank)
        for name, hits in zip(RANKINGS[1:], (*legs, fused, late), strict=True):
            result[name] = [chunks[key].id for key in hits.keys[:DEPTH]]
    return result


def as_trial(question: Question, finder: Finder) -> Trial:
    evidence = finder.evidence(question.text, excluded=question.excluded)
    return Trial(question, evidence, tuple(is_right(one.evidence, question.gold) for one in evidence.candidates))


def calibration_of(trials: Sequence[Trial]) -> Calibration:
    """What the stage `ground.calibrate` decides, without drafts."""
    config = CalibrationConfig()
    trials = [trial for trial in trials if trial.evidence.candidates]
    rows, outcomes = [trial.ranking for trial in trials], [trial.right for trial in trials]
    relevance = fit(np.vstack(rows), [one for outcome in outcomes for one in outcome], RANKED)
    unseen = cross_fit(rows, outcomes, RANKED)
    choices = [Rules(count, config.answer.repeated) for count in range(1, config.maximum_sentences + 1)]
    rules = max(choices, key=lambda one: float(np.mean(f1_scores(trials, unseen, one))))
    best = [_best(trial, one, rules) for trial, one in zip(trials, unseen, strict=True)]
    answerable = [trial.question.answerable for trial in trials]
    models = cross_fit(best, [[one] for one in answerable], NAMES)
    confidences = [float(model.probability(row)[0]) for model, row in zip(models, best, strict=True)]
    threshold = choose_threshold(confidences, answerable, config.abstention_precision).threshold
    return Calibration(config.answer, relevance, rules, False, fit(np.vstack(best), answerable, NAMES), threshold)


def answers(trials: Sequence[Trial]) -> tuple[dict[str, list[list[str]]], list[float], list[bool]]:
    """What each question is shown, by the calibration of the other half; confidence; whether the system abstains."""
    halves = {split: calibration_of([t for t in trials if t.question.split != split]) for split in SPLITS}
    decided = [decide(trial.evidence, halves[trial.question.split], lambda _: True) for trial in trials]
    shown = [[v.text for v in one.verdicts if v.verdict in ("cited", "abstained")] for one in decided]
    return {"system": shown}, [one.confidence for one in decided], [one.abstained for one in decided]


def ask_peers(
    finder: Finder, chunks: Mapping[int, IndexedChunk], questions: Sequence[Question], cache: Cache,
    ranked: dict[str, list[list[str]]], shown: dict[str, list[list[str]]],
) -> None:  # fmt: skip
    """The rankings of the peers, and the sentences of their passages that they score highest."""
    keys = list(chunks)
    by_chunk = Peers(finder.index.embed_texts(keys), cache)
    cut = Sentences(finder.index.document, finder.config.minimum_characters)
    sentences = [
        (place, one)
        for place, c in enumerate(chunks.values())
        for one in cut.of([Retrieved(c.id, c.span, c.uri, c.text, {})])
    ]
    by_sentence = Peers([one.in_context for _, one in sentences], cache)
    home = np.array([place for place, _ in sentences])
    for question in questions:
        outside = np.array([chunks[key].span.document in set(question.excluded) for key in keys])
        scores = {name: np.where(outside, -np.inf, own) for name, own in by_chunk.scores(question.text).items()}
        orders = {name: np.argsort(-own, kind="stable").tolist() for name, own in scores.items()}
        legs = [Hits(tuple(order[:50]), ({},) * len(order[:50])) for order in orders.values()]
        orders["BM25 + MiniLM by RRF"] = list(reciprocal_rank_fusion(legs).keys)
        for name, order in orders.items():
            ranked.setdefault(f"peer: {name}", []).append([chunks[keys[place]].id for place in order[:DEPTH]])
        for name, own in by_sentence.scores(question.text).items():
            for passages in (1, PASSAGES):
                inside = np.flatnonzero(np.isin(home, orders[name][:passages]))
                first = inside[np.argsort(-own[inside], kind="stable")][:SENTENCES]
                row = [sentences[place][1].text for place in first]
                shown.setdefault(f"peer: {name}, of its first {passages} passages", []).append(row)


# ---------------------------------------------------------------------------------------------------------------------
# Tables


Rows = list[tuple[str, ...]]


def show(title: str, head: Sequence[str], rows: Rows) -> dict[str, Any]:
    """Print a small table; the same as a mapping."""
    widths = [max(len(row[column]) for row in [tuple(head), *rows]) for column in range(len(head))]
    print(f"\n{title}")
    for row in [tuple(head), *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def text_of(score: Score) -> str:
    if isinstance(score, Unscored):
        return score.reason
    return f"{score.value:.3f} [{score.interval[0]:.3f}, {score.interval[1]:.3f}]"


def first_only(relevance: Sequence[bool]) -> list[bool]:
    first = next((rank for rank, hit in enumerate(relevance) if hit), None)
    return [rank == first for rank in range(len(relevance))]


def gains(outcome: Outcome, name: str) -> list[float]:
    """nDCG@10 of each answerable question; any one chunk that holds an answer is enough."""
    rows = outcome.relevance[name]
    return [ndcg_at_k(first_only(rows[place]), 1, DEPTH) for place in outcome.answerable]


def firsts(outcome: Outcome, name: str, count: int | None = 1) -> list[float]:
    """Of each answerable question whether the first `count` sentences shown hold an answer."""
    return [float(any(outcome.right[name][place][:count])) for place in outcome.answerable]


def retrieval_table(outcome: Outcome) -> dict[str, Any]:
    rows: Rows = []
    for name, ranked in outcome.relevance.items():
        cut = [first_only(ranked[place]) for place in outcome.answerable]
        recalls = [text_of(mean_score([recall_at_k(one, 1, k) for one in cut], ["recall", k])) for k in (1, 5, DEPTH)]
        less = difference_score(gains(outcome, "search"), gains(outcome, name), ["difference"])
        rows.append((name, *recalls, text_of(mean_score(gains(outcome, name), ["ndcg"])), text_of(less)))
    held = np.mean([outcome.inside[place] for place in outcome.answerable])
    title = f"Retrieval: {len(outcome.answerable)} questions, {outcome.chunks} chunks; {held:.3f} of the answers in one"
    return show(title, ("ranking", "recall@1", "recall@5", "recall@10", "nDCG@10", "search minus it"), rows)


def answers_table(outcome: Outcome) -> dict[str, Any]:
    rows: Rows = []
    for name, sentences in outcome.right.items():
        chosen = sentences if name == "system" else [row[:SENTENCES] for row in sentences]
        counts = [float(len(row)) for row in chosen]
        precision = proportion_score([float(sum(row)) for row in chosen], counts, ["precision"])
        own = [firsts(outcome, name, count) for count in (1, None if name == "system" else SENTENCES)]
        if name.startswith("any"):
            rows.append((name, "", text_of(mean_score(firsts(outcome, name, None), ["ceiling"])), "", "", ""))
            continue
        less = difference_score(firsts(outcome, "system"), own[0], ["difference"])
        scores = [text_of(mean_score(one, ["answers"])) for one in own]
        rows.append((name, *scores, text_of(precision), f"{np.mean(counts):.2f}", text_of(less)))
    head = ("nothing abstained from", "in the first sentence", "in all shown", "citation precision", "sentences", "")
    return show("Answers: the gold answer stands in what is shown", (*head[:5], "first: system minus it"), rows)


def abstention_table(outcome: Outcome) -> dict[str, Any]:
    """Answerable against each kind of questions that are not."""
    confidence, silent = np.array(outcome.confidence), np.array(outcome.abstained)
    kinds = np.array([question.kind for question in outcome.questions])
    shown = np.array([any(row) for row in outcome.right["system"]])
    answered = kinds == ANSWERABLE
    rows: Rows = [
        ("answered", text_of(mean_score((~silent[answered]).astype(float).tolist(), [""])), ""),
        ("right of answerable", text_of(mean_score((shown & ~silent)[answered].astype(float).tolist(), [""])), ""),
        ("right of answered", text_of(mean_score(shown[~silent].astype(float).tolist(), [""])), ""),
    ]
    for kind in (ON_TOPIC, FOREIGN):
        if (kinds == kind).any():
            pair = answered | (kinds == kind)
            table = np.column_stack([confidence[pair], answered[pair]]).astype(float)
            low, high = bootstrap_interval(table, auroc)
            recall = text_of(mean_score(silent[kinds == kind].astype(float).tolist(), [""]))
            rows.append((f"{kind}: abstained, AUROC", recall, f"{auroc(table[None])[0]:.3f} [{low:.3f}, {high:.3f}]"))
    curve = risk_coverage(outcome.confidence, shown.tolist())
    best = risk_coverage(list(range(len(shown), 0, -1)), sorted(shown.tolist(), reverse=True))
    error = expected_calibration_error(outcome.confidence, shown.tolist())
    rows.append(("risk-coverage area (of a perfect order)", f"{curve.area:.3f} ({best.area:.3f})", ""))
    rows.append(("calibration error: P(shown is right)", f"{error:.3f}", ""))
    counts = ", ".join(f"{(kinds == kind).sum()} {kind}" for kind in (ANSWERABLE, ON_TOPIC, FOREIGN))
    return show(f"Certainty: {counts}", ("", "value", "AUROC"), rows)


def auroc(samples: np.ndarray) -> np.ndarray:
    """(replicates, n, 2) of score and label -> (replicates,): P(a positive is above a negative), ties by half."""
    scores, labels = samples[..., 0], samples[..., 1]
    positive, count = labels.sum(axis=1), labels.shape[1]
    ranks = (rankdata(scores, axis=1) * labels).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ranks - positive * (positive + 1) / 2) / (positive * (count - positive))


def guarantee_table(outcome: Outcome, splits: int, alphas: Sequence[float], delta: float) -> dict[str, Any]:
    """How often the risk among the answered exceeds `alpha` on one half, where the threshold comes from the other."""
    right = np.array([any(row) for row in outcome.right["system"]])
    confidence = np.array(outcome.confidence)
    rows: Rows = []
    for name, choose in PROCEDURES.items():
        for alpha in alphas:
            risks, covered = [], []
            for split in range(splits):
                order = np.random.default_rng(split).permutation(len(right))
                half, other = order[: len(order) // 2], order[len(order) // 2 :]
                answered = confidence[other] >= choose(confidence[half], right[half], alpha, delta)
                risks.append(1 - right[other][answered].mean() if answered.any() else 0.0)
                covered.append(answered.mean())
            above = np.mean(np.array(risks) > alpha)
            cells = (f"{above:.3f}", f"{np.mean(risks):.3f}", f"{np.mean(covered):.3f}")
            rows.append((f"{name}, risk at most {alpha}", *cells))
    title = f"Guarantee: in {splits} random halves the risk may exceed its bound in a share of {delta}"
    return show(title, ("procedure", "share above", "mean risk", "coverage"), rows)


def empirical_threshold(confidence: np.ndarray, right: np.ndarray, alpha: float, delta: float) -> float:
    """The lowest threshold whose own risk is at most `alpha`: no guarantee, for comparison."""
    del delta
    curve = risk_coverage(confidence.tolist(), right.tolist())
    return min((t for t, risk in zip(curve.threshold, curve.risk, strict=True) if risk <= alpha), default=np.inf)


PROCEDURES = {"empirical risk": empirical_threshold}


def ablation_table(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    whole = outcomes["as it is"]
    rows: Rows = []
    for name, outcome in outcomes.items():
        pairs = [
            (gains(outcome, "search"), gains(whole, "search")),
            (firsts(outcome, "system"), firsts(whole, "system")),
            (firsts(outcome, "system", None), firsts(whole, "system", None)),
        ]
        cells = [
            f"{np.mean(own):.3f}" if outcome is whole else text_of(difference_score(own, other, ["difference"]))
            for own, other in pairs
        ]
        rows.append((name, *cells))
    return show("Ablation: variant minus the system as it is", ("", "nDCG@10", "first sentence", "all shown"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="files or folders in SQuAD's format")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps what was encoded")
    parser.add_argument("--json", type=Path, help="write all tables here as well")
    parser.add_argument("--paragraphs", type=int, default=1000, help="of a set, at most about so many")
    parser.add_argument("--questions", type=int, default=400, help="answerable ones of a set; half as many of others")
    parser.add_argument(
        "--ablation", nargs="*", choices=list(VARIANTS), help="variants to compare; all when none named"
    )
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.2, 0.4], help="risks to guarantee")
    parser.add_argument("--delta", type=float, default=0.1, help="share of splits that may exceed it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    sets = [read_set(path, options.paragraphs, options.seed) for path in options.sets]
    result: dict[str, Any] = {}
    for number, reading in enumerate(sets):
        print(f"\n=== {reading.name}: {len(reading.documents)} documents" + (", asked one by one" * reading.scoped))
        questions = sample(sets, number, options.questions, options.seed)
        encoder = CachedEncoder(options.cache, reading.name)
        outcome = run(reading, questions, encoder, Variant(), peers=True)
        tables = [retrieval_table(outcome), answers_table(outcome), abstention_table(outcome)]
        tables.append(guarantee_table(outcome, options.splits, options.alpha, options.delta))
        if options.ablation is not None:
            outcomes = {"as it is": outcome}
            for name in [one for one in options.ablation or VARIANTS if one not in outcomes]:
                outcomes[name] = run(reading, questions, encoder, VARIANTS[name], peers=False)
            tables.append(ablation_table(outcomes))
        names = ("retrieval", "answers", "certainty", "guarantee", "ablation")
        result[reading.name] = dict(zip(names, tables, strict=False))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "sets": result}, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
