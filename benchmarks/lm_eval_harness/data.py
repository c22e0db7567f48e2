"""Write the files that the tasks in `tasks/` read, from public data sets on disk.

    python benchmarks/lm_eval_harness/data.py --arc ARC-Easy/test.json --svamp SVAMP.json --books BOOKS --out DATA

ARC-Easy in the form of LLM-Adapters (`dataset/ARC-Easy/test.json`), SVAMP as its authors publish it, and a folder of
books as texts or Markdown. Each may be compressed (`.gz`). The same sources give the same files.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

EXAMPLES = 20  # solved problems at the end of SVAMP, kept for the prompt
PASSAGES = 20  # of each book, after the one that holds its title
LEAST = 300  # characters of a passage, which ends with a paragraph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("arc", "svamp", "books", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    problems = [problem(row) for row in json.loads(text_of(options.svamp))]
    books = sorted(path for path in options.books.iterdir() if "README" not in path.name)
    rows = {
        "arc_easy": map(choice, json.loads(text_of(options.arc))),
        "svamp": problems[:-EXAMPLES],
        "svamp_examples": problems[-EXAMPLES:],
        "passages": in_turn([islice(passages(text_of(book)), 1, PASSAGES + 1) for book in books]),
    }
    for name, made in rows.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in made]
        (options.out / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        print(f"{len(lines):>5} {name}")


def text_of(path: Path) -> str:
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8")


def choice(row: dict[str, str]) -> dict[str, object]:
    """ "…question: Q\\n\\nAnswer1: A Answer2: B …\\n\\nAnswer format: …", answered by "answer2"."""
    asked, answers, _ = row["instruction"].split("question: ", 1)[1].rsplit("\n\n", 2)
    choices = [text.strip() for text in re.split(r"Answer\d: ", answers)[1:]]
    return {"question": asked.strip(), "choices": choices, "gold": int(row["answer"].removeprefix("answer")) - 1}


def problem(row: dict[str, object]) -> dict[str, str]:
    """A whole number is written without its decimal point, an equation without its outer brackets."""
    equation = str(row["Equation"]).removeprefix("( ").removesuffix(" )")
    return {
        "question": f"{str(row['Body']).rstrip(' .')}. {row['Question']}",
        "equation": re.sub(r"\.0\b", "", equation),
        "answer": re.sub(r"\.0$", "", str(row["Answer"])),
    }


def passages(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs one after another, until there are `LEAST` characters of them."""
    held = ""
    for paragraph in re.split(r"\n\s*\n", text):
        held = f"{held}\n\n{paragraph.strip()}".strip()
        if len(held) >= LEAST:
            yield {"text": held}
            held = ""


def in_turn(sources: list[Iterator[dict[str, str]]]) -> Iterable[dict[str, str]]:
    """One of each, so that the first ones of all come from every book."""
    return [row for rows in zip(*sources, strict=True) for row in rows]


if __name__ == "__main__":
    main()
