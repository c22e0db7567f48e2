"""Parity of metrics with their reference implementations on real rows: metric, reference, rows, largest difference.

    .venv/bin/python benchmarks/metric_parity.py [--only bleu rouge] [--rows 500] [--data FOLDER] [--wordnet FOLDER]

Exits with 1 where a difference is above its tolerance or a reference is not installed. The rows are translations of
news by people and of talks by systems (NTREX, MQM), sentences with a human rewrite (WikiSplit), summaries and their
articles (QAGS), sentences that people wrote of the same concepts (CommonGen), short answers (NQ-open), sentences that
answer or not (SelQA). `--wordnet` names the files of Debian's package wordnet-base, unpacked: METEOR is then compared
with nltk on its own reader of WordNet, and all words' synonyms too; else nltk takes the synonyms that lmworks has.

To add a metric: write a function that takes `Rows` and yields `parity(...)` of our values and the reference's, value by
value, put `@check` above it, and import the reference in it.
"""

import argparse
import gzip
import itertools
import json
import math
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from contenders.texts import DATA

import lmworks
from lmworks.evaluate.bertscore import bertscore
from lmworks.evaluate.confidence_metrics import ece_of_sums
from lmworks.evaluate.likelihood import ASPECTS, gptscore, perplexity
from lmworks.evaluate.metric import Item, Metric, Response, item_value, score, value_row
from lmworks.evaluate.registry import metric
from lmworks.evaluate.wordnet import synonyms
from lmworks.generate.engine import Engine
from lmworks.generate.perplexity import rolling_windows
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.download import locate
from lmworks.records import Message, Retrieved, Score, Scored, Span, Unscored

CONCEPTS = tuple(f"common_gen_{one}" for one in ("Given", "Put", "Example", "random", "sentence"))
Pairs = list[tuple[Item, Response]]


@dataclass(frozen=True, slots=True)
class Parity:
    metric: str
    reference: str
    rows: int
    difference: float
    tolerance: float


def parity(name: str, reference: str, ours: Iterable[float], theirs: Iterable[float], tolerance: float) -> Parity:
    """The largest absolute difference of values in the same order; NaN where either side has one that is none."""
    first, second = np.array(list(ours), dtype=np.float64), np.array(list(theirs), dtype=np.float64)
    return Parity(name, reference, len(first), float(np.max(np.abs(first - second), initial=0.0)), tolerance)


@dataclass(frozen=True)
class Rows:
    """Real pairs, `limit` of each kind."""

    data: Path
    limit: int
    wordnet: Path | None = None

    def _lines(self, name: str) -> list[str]:
        return gzip.decompress((self.data / name).read_bytes()).decode().splitlines()

    @cached_property
    def news(self) -> dict[str, list[str]]:
        """Language -> the sentences of one news test set, translated by people; "spa-2" by others."""
        with tarfile.open(self.data / "ntrex-20-languages" / "ntrex-20.tar.gz") as archive:
            files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
            texts = {name: file.read().decode().splitlines() for name, file in files.items() if file is not None}
        return {name.split(".")[1] + ("-2" if "ref-2" in name else ""): text for name, text in texts.items()}

    def translations(self, response: str, reference: str) -> Pairs:
        """Sentences in one language beside those in a near one; of one language alone, beside the next sentence."""
        first, second = self.news[response], self.news[reference]
        second = second[1:] if response == reference else second
        return pairs((a, [b]) for a, b in zip(first[: self.limit], second, strict=False))

    @cached_property
    def talks(self) -> Pairs:
        """German of a translation system, beside that of people and of two other systems."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for row in (line.split("\t") for line in self._lines("mqm-ted/mqm_ted_ende.tsv.gz")[1:]):
            found[f"{row[1]} {row[3]}"][row[0]] = row[6].replace("<v>", "").replace("</v>", "")
        systems = ("VolcTrans-GLAT", "ref", "UEdin", "Nemo")
        texts = [[one[system] for system in systems] for one in found.values() if all(s in one for s in systems)]
        return pairs((one[0], one[1:]) for one in texts[: self.limit])

    @cached_property
    def rewrites(self) -> Pairs:
        rows = (line.split("\t") for line in self._lines("wiki-split-test/test.tsv.gz")[: self.limit])
        return pairs((two.replace(" <::::> ", "\n"), [one]) for one, two in rows)

    @cached_property
    def summaries(self) -> Pairs:
        names = ("qags_cnndm", "qags_xsum")
        rows = [row for name in names for row in json.loads("\n".join(self._lines(f"frank-qags/{name}.json.gz")))]
        return pairs((one["system_output"].replace(" . ", " .\n"), [one["source"]]) for one in rows[: self.limit])

    @cached_property
    def concepts(self) -> Pairs:
        """A sentence of some concepts, beside other people's."""
        found: dict[str, list[str]] = defaultdict(list)
        with tarfile.open(self.data / "t0-instructions" / "t0-pieces.tar.gz") as archive:
            for member in archive:
                if member.name.startswith(CONCEPTS) and (file := archive.extractfile(member)) is not None:
                    for row in map(json.loads, file.read().decode().splitlines()):
                        found[row["prompt"]].append(row["completion"].removesuffix("<|endoftext|>"))
        several = [texts for texts in found.values() if len(texts) > 1][: self.limit]
        return pairs((first, others) for first, *others in several)

    @cached_property
    def answers(self) -> Pairs:
        """Short answers beside others to the same question, and to the next one."""
        rows = [json.loads(line)["answer"] for line in self._lines("nq-open/NQ-open.dev.jsonl.gz")]
        same = [(first, others) for first, *others in rows if others]
        return pairs([*same, *((one[0], other) for one, other in itertools.pairwise(rows))][: self.limit])


def pairs(texts: Iterable[tuple[str, Sequence[str]]]) -> Pairs:
    return [
        (Item(str(i), references=tuple(references)), Response(response))
        for i, (response, references) in enumerate(texts)
        if response.strip() and all(map(str.strip, references))
    ]


def item_values(ours: Metric, rows: Pairs) -> list[float]:
    return [item_value(ours, value) for value in ours.measure(*map(list, zip(*rows, strict=True)))]


CHECKS: list[Callable[[Rows], Iterator[Parity]]] = []


def check(function: Callable[[Rows], Iterator[Parity]]) -> Callable[[Rows], Iterator[Parity]]:
    CHECKS.append(function)
    return function


@check
def edit_distance(rows: Rows) -> Iterator[Parity]:
    from rapidfuzz.distance import Levenshtein

    for name, found in {"rewrites": rows.rewrites, "Japanese": rows.translations("jpn", "jpn")}.items():
        theirs = [
            max(Levenshtein.normalized_similarity(response.text, one) for one in item.references)
            for item, response in found
        ]
        yield parity(f"levenshtein, {name}", "rapidfuzz", item_values(metric("levenshtein"), found), theirs, 1e-12)


@check
def squad(rows: Rows) -> Iterator[Parity]:
    from torchmetrics.functional.text import squad as reference

    for kind, found in {"answers": rows.answers, "rewrites": rows.rewrites}.items():
        theirs = [
            reference(
                {"prediction_text": response.text, "id": item.id},
                {"answers": {"answer_start": [0], "text": list(item.references)}, "id": item.id},
            )
            for item, response in found
        ]
        for name, key in {"exact-match": "exact_match", "token-f1": "f1"}.items():
            percent = [float(one[key]) / 100 for one in theirs]
            yield parity(f"{name}, {kind}", "torchmetrics, float32", item_values(metric(name), found), percent, 1e-6)


@check
def translation(rows: Rows) -> Iterator[Parity]:
    import sacrebleu

    sets = {"Spanish": ("spa-2", "spa"), "Portuguese for Spanish": ("por", "spa")}
    sets |= {"Ukrainian for Russian": ("ukr", "rus"), "Dutch for German": ("nld", "deu")}
    sets |= {"Arabic": ("arb", "arb"), "Hindi": ("hin", "hin"), "Finnish": ("fin", "fin")}
    scorers: dict[str, Callable[..., Any]] = {
        "bleu": partial(sacrebleu.BLEU, force=True),
        "bleu-char": partial(sacrebleu.BLEU, force=True, tokenize="char"),
        "chrf": sacrebleu.CHRF,
        "chrf++": partial(sacrebleu.CHRF, word_order=2),
        "ter": sacrebleu.TER,
    }
    for name, scorer in scorers.items():
        used = {kind: rows.translations(*names) for kind, names in sets.items()}
        used["German, 3 references"] = rows.talks
        if name in ("chrf", "bleu-char"):
            used = {"Japanese": rows.translations("jpn", "jpn"), "Korean": rows.translations("kor", "kor")} | (
                used if name == "chrf" else {}
            )
        each_ours, each_theirs, corpora, whole = [], [], [], []
        for found in used.values():
            ours = metric(name)
            options: dict[str, Any] = {"effective_order": True} if "bleu" in name else {}
            one = scorer(**options)
            items, responses = map(list, zip(*found, strict=True))
            references = [item.references for item in items]
            values = ours.measure(items, responses)
            each_ours += [item_value(ours, value) for value in values]
            each_theirs += [
                one.sentence_score(r.text, refs).score for r, refs in zip(responses, references, strict=True)
            ]
            total = score(ours, items, values)
            corpora.append(total.value if isinstance(total, Scored) else float("nan"))
            streams = [list(stream) for stream in zip(*references, strict=True)]
            whole.append(scorer().corpus_score([response.text for response in responses], streams).score)
        yield parity(f"{name}, sentences of {len(used)} sets", "sacrebleu", each_ours, each_theirs, 1e-9)
        yield parity(f"{name}, corpora", "sacrebleu", corpora, whole, 1e-9)


@check
def rouge(rows: Rows) -> Iterator[Parity]:
    from rouge_score.rouge_scorer import RougeScorer

    names = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL", "rouge-lsum": "rougeLsum"}
    scorer = RougeScorer(list(names.values()), use_stemmer=True)
    sets = {"rewrites": rows.rewrites, "summaries": rows.summaries, "several references": rows.concepts}
    for kind, found in sets.items():
        theirs = [scorer.score_multi(item.references, response.text) for item, response in found]
        for name, key in names.items():
            best = [one[key].fmeasure for one in theirs]
            yield parity(f"{name}, {kind}", "rouge-score", item_values(metric(name), found), best, 1e-12)


class OurWordNet:
    """nltk's interface to the synonyms that lmworks has."""

    def synsets(self, word: str) -> list[SimpleNamespace]:
        lemmas = [SimpleNamespace(name=lambda synonym=synonym: synonym) for synonym in synonyms(word)]
        return [SimpleNamespace(lemmas=lambda: lemmas)]


def nltk_wordnet(folder: Path, scratch: Path) -> Any:
    """nltk's reader of a copy of Debian's files, which lack a list of files and other languages."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    copy = shutil.copytree(folder, scratch / "wordnet")
    (copy / "lexnames").write_text("".join(f"{i:02d}\tfile{i}\t1\n" for i in range(45)))
    nltk.data.path.append(str(scratch))
    setattr(WordNetCorpusReader, "map_wn", lambda *_: None)  # noqa: B010
    return WordNetCorpusReader(str(copy), None)


@check
def meteor(rows: Rows) -> Iterator[Parity]:
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import meteor_score

    from lmworks.evaluate.meteor import meteor_words
    from lmworks.evaluate.porter_stemmer import stem

    with tempfile.TemporaryDirectory() as scratch:
        wordnet: Any = nltk_wordnet(rows.wordnet, Path(scratch)) if rows.wordnet else OurWordNet()
        reference = "nltk, its WordNet" if rows.wordnet else "nltk, our WordNet"
        sets = {"rewrites": rows.rewrites, "summaries": rows.summaries, "several references": rows.concepts}
        for kind, found in sets.items():
            theirs = [
                meteor_score([meteor_words(one) for one in item.references], meteor_words(r.text), wordnet=wordnet)
                for item, r in found
            ]
            yield parity(f"meteor, {kind}", reference, item_values(metric("meteor"), found), theirs, 1e-12)
        words = sorted({word for item, _ in rows.rewrites for word in meteor_words(item.references[0])})
        stemmer = PorterStemmer()
        yield parity("porter stems", "nltk", [0] * len(words), [stem(w) != stemmer.stem(w) for w in words], 0)
        if rows.wordnet:
            words = [
                word for word in words if word != "comics"
            ]  # of "comic_strip": an irregular form of two words, which lmworks leaves out
            lemmas = [{n.name() for s in wordnet.synsets(w) for n in s.lemmas() if "_" not in n.name()} for w in words]
            differ = [synonyms(w) != own | {w} for w, own in zip(words, lemmas, strict=True)]
            yield parity("synonyms", "nltk", [0] * len(words), differ, 0)


@check
def ranking_of_sentences(rows: Rows) -> Iterator[Parity]:
    """Candidate sentences ranked by the number of words that they share with the question, which leaves many ties."""
    import pytrec_eval

    names = {"recall@5": "recall_5", "precision@5": "P_5", "success@5": "success_5", "ndcg@10": "ndcg_cut_10"}
    names |= {"mrr": "recip_rank", "map": "map"}
    found = [one for one in json.loads("\n".join(rows._lines("selqa/selqa-ass-test.json.gz"))) if one["answers"]]
    relevant = {str(q): {str(place): 1 for place in one["answers"]} for q, one in enumerate(found[: rows.limit])}
    scores = {
        q: {str(n): shared(found[int(q)]["question"], text) for n, text in enumerate(found[int(q)]["candidates"])}
        for q in relevant
    }
    theirs = pytrec_eval.RelevanceEvaluator(
        relevant, {"recall", "P", "success", "ndcg_cut", "recip_rank", "map"}
    ).evaluate(scores)
    passages = {n: Span("d", n, n + 1) for n in range(max(len(one["candidates"]) for one in found))}
    pairs = []
    for q, own in scores.items():
        order = sorted(own, key=lambda n: (own[n], n), reverse=True)  # as trec_eval ranks: ties by falling id
        ranked = tuple(Retrieved(n, passages[int(n)], "", "", {}) for n in order)
        pairs.append((Item(q, gold=tuple(passages[int(n)] for n in relevant[q])), Response(retrieved=ranked)))
    for name, key in names.items():
        expected = [theirs[q][key] for q in relevant]
        yield parity(
            f"{name}, answer sentences", "pytrec_eval-terrier", item_values(metric(name), pairs), expected, 1e-9
        )


def shared(question: str, text: str) -> float:
    words = [set(re.findall(r"\w+", one.lower())) for one in (question, text)]
    return float(len(words[0] & words[1]))


@check
def diversity(rows: Rows) -> Iterator[Parity]:
    import sacrebleu
    from nltk.util import ngrams

    items, texts = [item for item, _ in rows.concepts], [(r.text, *item.references) for item, r in rows.concepts]
    found = [(item, Response(text, tuple(samples))) for item, (text, *samples) in zip(items, texts, strict=True)]
    bags = [[gram for text in group for gram in ngrams(text.split(), 2)] for group in texts]
    theirs = [len(set(bag)) / len(bag) for bag in bags]
    yield parity("distinct@2", "nltk's n-grams", item_values(metric("distinct@2"), found), theirs, 1e-12)
    bags = [list(ngrams(response.text.split(), 1)) for _, response in rows.rewrites]
    theirs = [1 - len(set(bag)) / len(bag) for bag in bags]
    yield parity("repetition@1", "nltk's n-grams", item_values(metric("repetition@1"), rows.rewrites), theirs, 1e-12)
    theirs = [
        float(np.mean([sacrebleu.sentence_bleu(t, [*group[:i], *group[i + 1 :]]).score for i, t in enumerate(group)]))
        for group in texts
    ]
    yield parity("self-bleu", "sacrebleu", item_values(metric("self-bleu"), found), theirs, 1e-9)


@check
def confidence(rows: Rows) -> Iterator[Parity]:
    """Answers that are right where they match, with confidences drawn at random."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    draw = random.Random(0)
    found = [(item, Response(response.text, confidence=draw.random())) for item, response in rows.answers]
    right, stated = item_values(metric("exact-match"), found), [response.confidence or 0.0 for _, response in found]
    values = item_values(metric("brier"), found)
    yield parity("brier", "scikit-learn", [float(np.mean(values))], [brier_score_loss(right, stated)], 1e-12)
    for name, strategy in {"ece": "uniform", "ece-equal-mass": "quantile"}.items():
        measured = metric(name).measure(*map(list, zip(*found, strict=True)))
        sums = np.sum([value_row(value) for value in measured if not isinstance(value, Unscored)], axis=0)
        accuracy, mean = calibration_curve(right, stated, n_bins=10, strategy=strategy)
        items = sums.reshape(3, -1)[2]
        theirs = np.abs(accuracy - mean) @ items[items > 0] / len(found)
        yield Parity(name, "scikit-learn's bins", len(found), abs(float(ece_of_sums(sums) - theirs)), 1e-12)


@check
def token_vectors(rows: Rows) -> Iterator[Parity]:
    """BERTScore by MiniLM's layers 3 and 6; texts of more than 256 tokens are cut differently, and left out."""
    from bert_score import score as reference
    from transformers.utils import logging

    logging.disable_progress_bar()
    encoder = TextEncoder(lmworks.load("all-minilm-l6-v2"), weights="float32")
    found = rows.rewrites[:100]
    texts, others = [response.text for _, response in found], [item.references[0] for item, _ in found]
    for layer, idf in {3: True, 6: False}.items():
        folder, options = str(locate("all-minilm-l6-v2")), {"num_layers": layer, "idf": idf}
        theirs = reference(texts, others, folder, device="cpu", nthreads=0, **options)
        for place, part in enumerate(("precision", "recall", "f1")):
            measured = bertscore(encoder, part, layer, others if idf else ())  # type: ignore[arg-type]
            name = f"bertscore, {part}, layer {layer}{', idf' * idf}"
            yield parity(name, "bert-score", item_values(measured, found), theirs[place].tolist(), 1e-5)


@check
def likelihood(rows: Rows) -> Iterator[Parity]:
    """Nats a token of SmolLM2 in windows of 127 tokens, 32 of them context, and GPTScore, against the logits that
    transformers gives of the same weights."""
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = lmworks.load("smollm2-135m-instruct")
    engine, encode = Engine(checkpoint, weights="float32"), checkpoint.required_tokenizer.encode
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_pretrained(checkpoint.save(Path(folder) / "model"), dtype=torch.float32)

    def nats(context: Sequence[int], ids: Sequence[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([[*context, *ids[:-1]]])).logits[0, len(context) - 1 :].double()
        return -float(logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].sum())

    texts = [item.references[0] for item, _ in rows.summaries[:4]]
    measured = perplexity(engine, 127, 32).measure([Item("")] * len(texts), [Response(text) for text in texts])
    ours = [value[0] / value[1] for value in measured if isinstance(value, tuple)]
    sums = [sum(nats(*both) for both in rolling_windows(encode(text), 0, 127, 32)) for text in texts]
    theirs = [total / len(encode(text)) for total, text in zip(sums, texts, strict=True)]
    yield parity("model-perplexity, nats a token", "transformers, float32", ours, theirs, 1e-5)
    found = [(Item("", contexts=item.references), response) for item, response in rows.summaries[:4]]
    prompts = [f"{ASPECTS['consistency']}\n\n{item.contexts[0]}" for item, _ in found]
    contexts = [checkpoint.chat.render([Message("user", one)], add_generation_prompt=True).ids for one in prompts]
    answers = [encode(response.text) for _, response in found]
    theirs = [-nats(*both) / len(both[1]) for both in zip(contexts, answers, strict=True)]
    yield parity("gptscore", "transformers, float32", item_values(gptscore(engine), found), theirs, 1e-5)


@check
def agreement(rows: Rows) -> Iterator[Parity]:
    """Two metrics of the summaries as two raters, on a scale of five; which of two has the higher ROUGE-L."""
    import choix
    import krippendorff
    from scipy.stats import kendalltau, spearmanr
    from sklearn.metrics import cohen_kappa_score
    from statsmodels.stats.multitest import multipletests

    from lmworks.statistics import bradley_terry, cohen_kappa, kendall, krippendorff_alpha, spearman
    from lmworks.statistics.significance import holm
    from lmworks.statistics.strengths import PRIOR

    def value(score: Score) -> list[float]:
        return [score.value if isinstance(score, Scored) else math.nan]

    one, two = (item_values(metric(name), rows.summaries) for name in ("rouge-1", "rouge-l"))
    first, second = ([min(int(5 * each / max(column)), 4) for each in column] for column in (one, two))
    for weights in (None, "linear", "quadratic"):
        ours = value(cohen_kappa(first, second, "parity", weights=weights))
        yield parity(
            f"kappa, {weights}", "scikit-learn", ours, [cohen_kappa_score(first, second, weights=weights)], 1e-9
        )
    for level in ("nominal", "ordinal", "interval"):
        ours = value(krippendorff_alpha([*zip(first, second, strict=True)], "parity", level=level))
        theirs = krippendorff.alpha(reliability_data=[first, second], level_of_measurement=level)
        yield parity(f"alpha, {level}", "krippendorff", ours, [theirs], 1e-9)
    yield parity("spearman", "scipy", value(spearman(one, two, "parity")), [spearmanr(one, two)[0]], 1e-12)
    yield parity("kendall", "scipy", value(kendall(one, two, "parity")), [kendalltau(one, two)[0]], 1e-12)
    names = [str(number % 4) for number in range(len(two))]  # four teams of summaries
    games = [
        (names[a], names[b], two[a] > two[b]) for a, b in itertools.combinations(range(len(names)), 2)
        if names[a] != names[b]
    ]  # fmt: skip
    ours = bradley_terry([game[:2] for game in games], [float(won) for *_, won in games], "parity", replicates=50)
    players = sorted(ours)
    data = [tuple(map(players.index, (a, b) if won else (b, a))) for a, b, won in games]
    theirs = choix.mm_pairwise(len(players), data, alpha=PRIOR)
    yield parity("bradley-terry", "choix", [value(ours[name])[0] for name in players], theirs - theirs.mean(), 1e-4)
    p = [each / 20 for each in one[:20]]
    yield parity("holm", "statsmodels", holm(p), multipletests(p, method="holm")[1], 1e-12)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="*", default=[], help="names of checks: " + ", ".join(c.__name__ for c in CHECKS)
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--wordnet", type=Path)
    options = parser.parse_args()
    rows = Rows(options.data, options.rows, options.wordnet)
    print("| metric | reference | rows | largest difference | tolerance |\n|---|---|---|---|---|")
    failed, start = 0, time.perf_counter()
    for one in CHECKS:
        if options.only and one.__name__ not in options.only:
            continue
        try:
            for row in one(rows):
                fails = not row.difference <= row.tolerance
                failed += fails
                difference = f"{row.difference:.1e}{' FAILS' * fails}"
                print(
                    f"| {row.metric} | {row.reference} | {row.rows:,} | {difference} | {row.tolerance:.0e} |",
                    flush=True,
                )
        except ModuleNotFoundError as error:
            failed += 1
            print(f"| {one.__name__} | not compared: install {error.name} | | | |", flush=True)
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
