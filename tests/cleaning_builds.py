"""A small mixture of sources with something for each stage of cleaning, and how it is built."""

import gzip
import json
import random
import sys
import zipfile
from pathlib import Path

from rich.console import Console

from lmworks.build import build
from lmworks.recipe import load

STAGES = ("pages", "notes", "logs", "books", "annotations", "duplicates", "cleaned")
_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo za".split()
_COMMON = "the of and to in a is that it was for on are with as at be".split()


def paragraph(draw: random.Random, words: int) -> str:
    """Made-up words among common ones, in sentences."""
    found = []
    for _ in range(words):
        rare = draw.random() < 0.5
        found.append("".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4))) if rare else draw.choice(_COMMON))
    sentences = [" ".join(found[place : place + 12]).capitalize() + "." for place in range(0, words, 12)]
    return " ".join(sentences)


def text(draw: random.Random, paragraphs: int) -> str:
    return "\n\n".join(paragraph(draw, draw.randint(30, 120)) for _ in range(paragraphs))


def write_mixture(folder: Path, scale: int = 1) -> None:
    """Web pages, notes in an archive with copies and personal data, logs of chats, books; 0.5 MB for each `scale`."""
    draw = random.Random(5)
    for name in ("pages", "notes", "logs", "books"):
        (folder / name).mkdir(parents=True)
    notice = paragraph(draw, 60)
    for number in range(12 * scale):
        body = "".join(f"<p>{each}</p>" for each in text(draw, 8).split("\n\n"))
        head = f"<html><head><title>Page {number}</title></head><body><nav>Home</nav>"
        html = f"{head}<article>{body}</article><footer>{notice}</footer>"
        (folder / "pages" / f"{number}.html").write_text(html, encoding="utf-8")
    rows = [
        {"text": f"{text(draw, 4)}\n\n{notice}\n\nWrite to ann.{number}@example.org."} for number in range(60 * scale)
    ]
    rows += [{"text": each["text"].replace("the", "a", 1)} for each in rows[::5]] + rows[::7]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "notes" / "notes.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    with zipfile.ZipFile(folder / "notes" / "more.zip", "w") as archive:
        for number in range(10 * scale):
            archive.writestr(zipfile.ZipInfo(f"{number}.md"), f"# Note {number}\n\n{text(draw, 3)}\n")
    for day in range(3 * scale):
        log = "".join(
            f"[{hour:02d}:{minute:02d}] <user{draw.randint(0, 9)}> {paragraph(draw, 9)}\n"
            for hour in range(6)
            for minute in range(0, 60, 3)
        )
        (folder / "logs" / f"2010-01-{day:05d}.txt").write_text(log, encoding="utf-8")
    for number in range(2 * scale):
        (folder / "books" / f"{number}.txt").write_text(
            "\n\n".join(f"CHAPTER {chapter}\n\n{text(draw, 12)}" for chapter in range(1, 5)), encoding="utf-8"
        )


def write_recipe(path: Path, sources: Path, execution: str = "workers = 2") -> None:
    kinds = {"pages": "web", "notes": "auto", "logs": "chat", "books": "book"}
    lines = ['name = "mixture"', 'description = "A mixture"']
    for name, kind in kinds.items():
        lines += [f"[stages.{name}]", 'use = "corpus.read"', f"sources = [{json.dumps(str(sources / name))}]"]
        lines += [f'kind = "{kind}"', f"execution = {{{execution}}}"]
    inputs = list(kinds)
    for name, use in (("annotations", "corpus.tag"), ("duplicates", "corpus.dedup"), ("cleaned", "corpus.filter")):
        lines += [f"[stages.{name}]", f'use = "{use}"', f"from = {json.dumps(inputs)}", f"execution = {{{execution}}}"]
        inputs.append(name)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def command(recipe: Path, workspace: Path) -> list[str]:
    return [sys.executable, "-m", "lmworks", "build", str(recipe), "--workspace", str(workspace)]


def build_here(folder: Path, sources: Path, execution: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder / "recipe.toml", sources, execution)
    build(load(folder / "recipe.toml"), folder / "workspace", Console(quiet=True))
    return content_hashes(folder / "workspace")


def content_hashes(workspace: Path) -> dict[str, str]:
    """Of each stage that is done: what it holds."""
    manifests = {path.parts[-3]: path for path in workspace.glob("stages/*/[!.]*/manifest.json")}
    return {name: json.loads(path.read_text("utf-8"))["content_hash"] for name, path in manifests.items()}
