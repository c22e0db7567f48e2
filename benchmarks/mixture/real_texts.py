"""The texts that defects are planted on, read from a folder of data."""

import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from contenders.texts import books

NTREX = {
    "arb": "ar", "deu": "de", "eng": "en", "fin": "fi", "fra": "fr", "heb": "he", "hin": "hi", "ita": "it", "jpn": "ja",
    "kor": "ko", "nld": "nl", "pol": "pl", "por": "pt", "rus": "ru", "spa": "es", "swa": "sw", "tur": "tr", "ukr": "uk",
    "vie": "vi",
}  # fmt: skip


def web_pages(data: Path) -> list[str]:
    """300 pages of raw C4, as text."""
    rows = gzip.decompress((data / "llama-factory-demos" / "c4_demo.jsonl.gz").read_bytes()).decode().splitlines()
    return [json.loads(row)["text"] for row in rows]


CARRIERS = 60  # pairs of passages for items of evaluation sets, from the first on; behind them those for mail


def passages(data: Path, size: int = 850) -> list[str]:
    """Prose of some 900 characters each, no two alike, to carry what is planted."""
    found: list[str] = []
    for name in ("The Republic.md", "The Time Machine.md"):
        held = ""
        for paragraph in books(data)[name].replace("\r\n", "\n").split("\n\n"):
            plain = " ".join(paragraph.split())
            if plain[:1].isalpha():
                held = f"{held}\n\n{plain}".strip()
            if len(held) >= size:
                found.append(held)
                held = ""
    return found


def articles(data: Path) -> Iterator[tuple[str, bytes, str]]:
    """(name, HTML, the text of the article as people marked it) of pages of newspapers."""
    folder = data / "article-extraction"
    truth = json.loads(gzip.decompress((folder / "ground-truth.json.gz").read_bytes()))
    for path in sorted(folder.glob("*.html.gz")):
        name = path.name.removesuffix(".html.gz")
        if body := truth.get(name, {}).get("articleBody"):
            yield name, gzip.decompress(path.read_bytes()), body


def chats(data: Path) -> dict[str, bytes]:
    """File name → the log of a channel of IRC."""
    found: dict[str, bytes] = {}
    for path in sorted((data / "ubuntu-irc").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is not None and member.name.endswith(".txt"):
                    found[Path(member.name).name] = stream.read()
    return found


def news(data: Path) -> dict[str, list[str]]:
    """Language (ISO 639-1) → the lines of NTREX-128 in it."""
    found: dict[str, list[str]] = {}
    with tarfile.open(data / "ntrex-20-languages" / "ntrex-20.tar.gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            parts = member.name.split(".")
            if stream is not None and "ref-2" not in member.name and parts[-2] in NTREX:
                found[NTREX[parts[-2]]] = stream.read().decode("utf-8").splitlines()
    return dict(sorted(found.items()))


def rights(data: Path) -> dict[str, str]:
    """File name without suffix (ISO 639-3, mostly) → the Universal Declaration of Human Rights."""
    with zipfile.ZipFile(data / "nltk-public-domain" / "udhr2.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".txt")]
        return {Path(name).stem: archive.read(name).decode("utf-8", "replace") for name in sorted(names)}


def personal_sentences(data: Path) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """(sentence, [(start, end, type)]) of presidio-research's synthetic data."""
    rows = json.loads(gzip.decompress((data / "presidio-pii" / "synth_dataset_v2.json.gz").read_bytes()))
    return [
        (row["full_text"], [(s["start_position"], s["end_position"], s["entity_type"]) for s in row["spans"]])
        for row in rows
    ]


def evaluation_questions(data: Path) -> list[dict[str, str | list[str]]]:
    """Questions with their answers of GSM8K, and with choices of MMLU's test part, in rows as `corpus.tag` reads."""
    rows = gzip.decompress((data / "gsm8k" / "train.jsonl.gz").read_bytes()).decode().splitlines()
    found: list[dict[str, str | list[str]]] = [
        {"id": f"gsm8k-{number}", "question": row["question"], "answer": row["answer"]}
        for number, row in enumerate(map(json.loads, rows[:400]))
    ]
    with tarfile.open(data / "mmlu" / "mmlu-dev-test.tar.gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is None or not member.name.endswith("_test.csv"):
                continue
            for number, row in enumerate(csv.reader(io.StringIO(stream.read().decode("utf-8")))):
                if number < 10 and len(row) == 6:
                    name = Path(member.name).stem
                    found.append({"id": f"{name}-{number}", "question": row[0], "choices": row[1:5], "answer": row[5]})
    return found
