"""Instructions and dialogues of people as rows of messages, divided into training and held-out by hash.

.venv/bin/python benchmarks/finetune_data.py FOLDER      writes NAME-training.jsonl and NAME-held-out.jsonl there
"""

import gzip
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contenders.texts import DATA

from lmworks.artefact import hash_fraction

Row = dict[str, Any]  # {"messages": [{"role", "content"}, ...], "source": name}
NAMES, HELD_OUT = ("t0", "self-instruct", "oasst"), 0.1


def instruction_rows(name: str, held_out: bool = False, data: Path = DATA) -> Iterator[Row]:
    """The training rows of "t0", "self-instruct" or "oasst" (English), or those held out, in a fixed order.

    The hash of a row's first message decides, so that a prompt is on one side with all its answers.
    """
    for row in {"t0": _t0, "self-instruct": _self_instruct, "oasst": _oasst}[name](data):
        digest = hashlib.sha256(row["messages"][0]["content"].encode()).hexdigest()
        if (hash_fraction(digest) < HELD_OUT) == held_out:
            yield row


def _row(source: str, *said: str) -> Row:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)], "source": source}


def _t0(data: Path) -> Iterator[Row]:
    with tarfile.open(data / "t0-instructions/t0-pieces.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            for row in map(json.loads, archive.extractfile(member) or ()):
                answer = row["completion"].removesuffix("<|endoftext|>")  # letters: the template writes the end
                yield _row(f"t0/{Path(member.name).stem}", row["prompt"].strip(), answer.strip())


def _self_instruct(data: Path) -> Iterator[Row]:
    for path in sorted((data / "self-instruct-human").glob("*.jsonl.gz")):
        for task in _lines(path):
            for instance in task["instances"]:
                question = f"{task['instruction']}\n\n{instance['input']}".strip()
                yield _row(f"self-instruct/{task['id']}", question, instance["output"])


def _oasst(data: Path) -> Iterator[Row]:
    for tree in _lines(data / "oasst-trees/en_100_tree.jsonl.gz"):
        yield from (_row(f"oasst/{tree['message_tree_id']}", *said) for said in _best_paths(tree["prompt"]))
    for each in _lines(data / "oasst-eval/oa_questions.jsonl.gz"):
        if each["lang"] == "en":
            said = re.split(r"\s*### (?:Human|Assistant):\s*", each["input"])[1:-1]
            yield _row(f"oasst/{each['message_id']}", *said, each["output"])


def _best_paths(question: Row) -> Iterator[tuple[str, ...]]:
    """Along the best-ranked answers, by each follow-up of the user that is answered."""
    if question["replies"]:
        best = min(question["replies"], key=lambda each: each.get("rank") or 0)
        further = [path for each in best["replies"] for path in _best_paths(each)]
        yield from ((question["text"], best["text"], *path) for path in further or [()])


def _lines(path: Path) -> Iterator[Row]:
    return map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(exist_ok=True)
    for name in NAMES:
        for held_out, side in ((False, "training"), (True, "held-out")):
            rows = [json.dumps(row, ensure_ascii=False) for row in instruction_rows(name, held_out)]
            (Path(sys.argv[1]) / f"{name}-{side}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
            print(f"{name:14} {side:9} {len(rows):6,} rows")
