"""Rows for a reader, a reranker and a verifier from public sets, split by article, premise or file.

    .venv/bin/python benchmarks/cross_encoder_data.py DATA OUT

writes OUT/TASK/train.jsonl and, for each set, OUT/TASK/test-SET.jsonl. Rows of one article (or passage) are in one
part, and no test row's texts are in a training file.
"""

import argparse
import csv
import gzip
import hashlib
import io
import itertools
import json
import random
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Row = dict[str, Any]
TEST_SHARE = 0.3  # of the articles
READING = {
    "squadshifts-wiki": ("squadshifts/new_wiki_v1.0.json.gz",),
    "squadshifts-reddit": ("squadshifts/reddit_v1.0.json.gz",),
    "squad2": ("squad2-dev-half/dev-v2.0.json.gz",),
    "policyqa": ("policyqa/dev.json.gz", "policyqa/test.json.gz"),
}
UNANSWERED = 0.25  # of the answered questions are asked of the likest paragraph without the answer, too
ADVERSARIAL = 2  # times that a training row of SQuAD 2, whose unanswerable questions people wrote, is there
NEGATIVES = 3
VERIFIED = {"SUPPORTS": "entailment", "REFUTES": "contradiction"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    for task, sets in (("reader", reading), ("reranker", ranking), ("verifier", entailment)):
        parts: dict[str, list[Row]] = defaultdict(list)
        for part, row in sets(options.data, random.Random(0)):
            parts[part].append(row)
        random.Random(0).shuffle(parts["train"])
        folder = options.out / task
        folder.mkdir(parents=True)
        for part, rows in parts.items():
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{part}.jsonl").write_text("".join(lines), "utf-8")
            print(f"{task} {part}: {len(rows):,} rows")


def opened(path: Path) -> io.TextIOWrapper:
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]


def is_test(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] / 256 < TEST_SHARE


def articles(data: Path) -> Iterator[tuple[str, bool, list[Row]]]:
    """(set, whether it is for the test, paragraphs) of each article; without articles, of ten paragraphs together."""
    for name, files in READING.items():
        for file in files:
            with opened(data / file) as stream:
                found = [article["paragraphs"] for article in json.load(stream)["data"]]
            if len(found) < 10:
                paragraphs = [each for article in found for each in article]
                found = [paragraphs[start : start + 10] for start in range(0, len(paragraphs), 10)]
            for paragraphs in found:
                test = file.endswith("test.json.gz") if len(files) > 1 else is_test(paragraphs[0]["context"])
                yield name, test, paragraphs


def squad(question: str, context: str, answers: list[tuple[str, int]]) -> Row:
    texts = {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]}
    return {"question": question, "context": context, "answers": texts}


def reading(data: Path, chance: random.Random) -> Iterator[tuple[str, Row]]:
    for name, test, paragraphs in articles(data):
        part = f"test-{name}" if test else "train"
        for paragraph in paragraphs:
            others = [other["context"] for other in paragraphs if other is not paragraph]
            for asked in paragraph["qas"]:
                answers = list(dict.fromkeys((one["text"], one["answer_start"]) for one in asked["answers"]))
                answers = [
                    (text, start)
                    for text, start in answers
                    if text.strip() and paragraph["context"][start : start + len(text)] == text
                ]
                if not asked["question"].strip() or (asked["answers"] and not answers):
                    continue
                for _ in range(ADVERSARIAL if part == "train" and name == "squad2" else 1):
                    yield part, squad(asked["question"], paragraph["context"], answers)
                if answers and name not in ("squad2", "policyqa") and chance.random() < UNANSWERED:
                    without = [other for other in others if not any(text in other for text, _ in answers)]
                    for other in likest(asked["question"], without)[:1]:
                        yield part, squad(asked["question"], other, [])
    with opened(data / "nq-oracle/nq-open-oracle.jsonl.gz") as stream:
        for row in map(json.loads, stream):
            passage = row["ctxs"][0]["text"]
            found = [(text, passage.find(text)) for text in row["answers"] if text.strip() and text in passage]
            if found:
                part = "test-nq" if is_test(row["question"]) else "train"
                yield part, squad(row["question"], passage, found)


def ranking(data: Path, chance: random.Random) -> Iterator[tuple[str, Row]]:
    for file, part in (("test", "train"), ("dev", "test-selqa")):
        with opened(data / f"selqa/selqa-ass-{file}.json.gz") as stream:
            for row in json.load(stream):
                right = {row["candidates"][place] for place in row["answers"]}
                wrong = [text for text in row["candidates"] if text.strip() and text not in right]
                for place in row["answers"] if part == "train" else row["answers"][:1]:
                    few = wrong if part != "train" else chance.sample(wrong, min(2 * NEGATIVES, len(wrong)))
                    pair = {"anchor": row["question"], "positive": row["candidates"][place], "negatives": few}
                    if part != "train":  # further right sentences, for the mean average precision
                        pair["positives"] = [row["candidates"][other] for other in row["answers"]]
                    yield part, pair
    for name, test, paragraphs in articles(data):
        contexts = [paragraph["context"] for paragraph in paragraphs]
        for place, paragraph in enumerate(paragraphs):
            others = contexts[:place] + contexts[place + 1 :]
            for asked in paragraph["qas"]:
                if not asked["answers"] or not others or not asked["question"].strip():
                    continue
                if name != "policyqa" and chance.random() < 0.5:  # the sentence, among those of its paragraph
                    right, wrong = sentences_with(paragraph["context"], asked["answers"])
                    negatives = [*wrong, *others[:1]]
                else:
                    right, negatives = paragraph["context"], likest(asked["question"], others)
                negatives = [text for text in negatives if text.strip() and text != right][:NEGATIVES]
                if right and negatives and (test or chance.random() < 0.6):
                    row = {"anchor": asked["question"], "positive": right, "negatives": negatives}
                    yield (f"test-{name}" if test else "train"), row
    for file in sorted((data / "medquad").glob("*.tar.gz")):
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".xml"):
                    tree = ElementTree.parse(archive.extractfile(member))  # type: ignore[arg-type]
                    found = [(pair.findtext("Question"), pair.findtext("Answer")) for pair in tree.iter("QAPair")]
                    found = [(asked.strip(), said.strip()[:1500]) for asked, said in found if asked and said]
                    for asked, said in found[:3]:
                        wrong = [other for _, other in found if other != said][:NEGATIVES]
                        if asked and said and wrong:
                            yield "train", {"anchor": asked, "positive": said, "negatives": wrong}


def sentences_with(context: str, answers: list[Row]) -> tuple[str, list[str]]:
    start = answers[0]["answer_start"]
    cuts = [0, *(found.end() for found in re.finditer(r"[.!?]\s+", context)), len(context)]
    spans = list(itertools.pairwise(cuts))
    right = next((context[a:b].strip() for a, b in spans if a <= start < b), "")
    return right, [context[a:b].strip() for a, b in spans if not a <= start < b and b - a > 20]


def likest(question: str, texts: list[str]) -> list[str]:
    """The texts that share the most words with the question."""
    words = set(re.findall(r"\w{4,}", question.lower()))
    return sorted(texts, key=lambda text: -len(words & set(re.findall(r"\w{4,}", text.lower()))))


def entailment(data: Path, chance: random.Random) -> Iterator[tuple[str, Row]]:
    def row(premise: str, hypothesis: str, label: str) -> Row:
        return {"premise": premise.strip(), "hypothesis": hypothesis.strip(), "label": label.strip()}

    kinds = ("implied_entailment", "explicit_entailment", "neutral", "contradiction")
    for file, part in (("train", "train"), ("test", "test-inli")):
        with opened(data / f"inli/{file}.csv.gz") as stream:
            for found in csv.DictReader(stream):
                for kind in kinds:
                    yield part, row(found["premise"], found[kind], kind.rpartition("_")[2])
    tables = (
        ("conjnli/adversarial_train_15k.tsv.gz", "train", ("Premise", "Hypothesis", "Label")),
        ("conjnli/conj_dev.tsv.gz", "test-conjnli", ("Premise", "Hypothesis", "Label")),
        ("cad-nli/train.tsv.gz", "train", ("sentence1", "sentence2", "gold_label")),
        ("med-monotonicity/MED.tsv.gz", "test-med", ("sentence1", "sentence2", "gold_label")),
    )
    for file, part, columns in tables:
        with opened(data / file) as stream:
            for found in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
                values = [(found[column] or "").strip() for column in columns]
                if all(values) and values[2] in ("entailment", "neutral", "contradiction"):
                    yield part, row(*values)
    for side, part in (("dev", "train"), ("test", "test-esnli")):
        files = [opened(data / f"esnli-dev-test/{name}.{side}.gz") for name in ("s1", "s2", "labels")]
        for premise, hypothesis, label in zip(*files, strict=True):
            yield part, row(premise.replace(" .", "."), hypothesis.replace(" .", "."), label)
    for side, part in (("dev", "train"), ("test", "test-fm2")):
        with opened(data / f"fm2/{side}.jsonl.gz") as stream:
            for found in map(json.loads, stream):
                gold = [each["text"] for each in found["gold_evidence"]]
                yield part, row(" ".join(gold), found["text"], VERIFIED[found["label"]])
                beside = [each["text"] for each in found["retrieved_evidence"] if each["text"] not in gold]
                if part == "train" and beside:
                    yield part, row(chance.choice(beside), found["text"], "neutral")
    with opened(data / "boolq-dev/dev.jsonl.gz") as stream:  # a question is the claim that the answer is yes
        for found in map(json.loads, stream):
            label = "entailment" if str(found["answer"]) == "True" else "contradiction"
            yield (
                ("test-boolq" if is_test(found["passage"]) else "train"),
                row(found["passage"], found["question"], label),
            )
    for _, test, paragraphs in articles(data):
        for claim in [] if test else claims([paragraph["context"] for paragraph in paragraphs], chance):
            yield "train", row(*claim)
    for side in ("dev", "test"):
        with opened(data / f"fever-symmetric/fever_symmetric_{side}.jsonl.gz") as stream:
            for found in map(json.loads, stream):
                claim = found.get("claim") or found["sentence2"]
                evidence = found.get("evidence") or found["sentence1"]
                evidence = evidence if isinstance(evidence, str) else found["evidence_sentence"]
                yield "test-fever", row(evidence, claim, VERIFIED[found.get("label") or found["gold_label"]])


def claims(contexts: list[str], chance: random.Random) -> Iterator[tuple[str, str, str]]:
    """A sentence beside those around it, as it stands, with one name or number of another paragraph (Kryscinski et al.
    2020, section 3), and beside those of another paragraph."""
    texts = [[text for text in re.split(r"(?<=[.!?])\s+", context) if 40 < len(text) < 300] for context in contexts]
    for number, sentences in enumerate(texts):
        others = [text for place, own in enumerate(texts) if place != number for text in own]
        if len(sentences) < 3 or not others:
            continue
        place = chance.randrange(len(sentences))
        premise = " ".join(sentences[max(place - 1, 0) : place + 2])
        yield premise, sentences[place], "entailment"
        yield premise, chance.choice(others), "neutral"
        pattern = (
            r"\b\d[\d,.]*\d\b"
            if re.search(r"\b\d[\d,.]*\d\b", sentences[place])
            else r"(?<=[a-z,] )(?:[A-Z][a-z]+ ?)+\b"
        )
        found = re.search(pattern, sentences[place])
        swaps = [each for each in re.findall(pattern, " ".join(others)) if each.strip() and each not in premise]
        if found and swaps:
            changed = sentences[place][: found.start()] + chance.choice(swaps).strip() + sentences[place][found.end() :]
            yield premise, changed, "contradiction"


if __name__ == "__main__":
    main()
