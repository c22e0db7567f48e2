"""Rows for a reward model: pairs of people's preferences (hh-rlhf), or of solutions, one with a wrong step (gsm8k).

    .venv/bin/python benchmarks/reward_rows.py shared/data gsm8k pairs.jsonl --count 2000
    lmworks align smollm2-135m-instruct --data pairs.jsonl --method reward --minutes 15 --out judged

A solution goes wrong at one calculation, whose result is another number of as many digits, and repeats it from there
on: the two are equally long, so that a rule of length alone is right in half of the pairs.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

_CALCULATION = re.compile(r"<<[^>]*=(-?[\d.]+)>>")


def wrong_solution(solution: str, draw: random.Random) -> str | None:
    """The solution with one result changed, wherever it stands behind its calculation; None without a calculation."""
    found = [one for one in _CALCULATION.finditer(solution) if re.search(r"[1-9]", one[1])]
    if not found:
        return None
    one = draw.choice(found)
    digits = [place for place, character in enumerate(one[1]) if character.isdigit()]
    place = draw.choice(digits)
    other = draw.choice([digit for digit in "123456789" if digit != one[1][place]])
    wrong = one[1][:place] + other + one[1][place + 1 :]
    behind = re.sub(rf"(?<![\d.]){re.escape(one[1])}(?![\d]|\.\d)", wrong, solution[one.end() :])
    return solution[: one.start()] + behind


def gsm8k(data: Path, draw: random.Random) -> Iterator[dict[str, str]]:
    for line in gzip.decompress((data / "gsm8k" / "train.jsonl.gz").read_bytes()).splitlines():
        row = json.loads(line)
        if (wrong := wrong_solution(row["answer"], draw)) is not None:
            chosen, rejected = (_CALCULATION.sub("", text) for text in (row["answer"], wrong))
            if chosen != rejected:
                yield {"prompt": row["question"], "chosen": chosen, "rejected": rejected}


def hh_rlhf(data: Path, draw: random.Random) -> Iterator[dict[str, object]]:
    """Dialogues, whose last answers differ."""
    for line in gzip.decompress((data / "hh-rlhf-harmless-test" / "test.jsonl.gz").read_bytes()).splitlines():
        sides = [re.split(r"\n\n(Human|Assistant): ", json.loads(line)[kind])[1:] for kind in ("chosen", "rejected")]
        prompts = [side[:-2] for side in sides]
        if prompts[0] == prompts[1] and all(side[-2] == "Assistant" and side[-1].strip() for side in sides):
            roles = {"Human": "user", "Assistant": "assistant"}
            turns = zip(prompts[0][::2], prompts[0][1::2], strict=True)
            messages = [{"role": roles[who], "content": text.strip()} for who, text in turns]
            yield {"prompt": messages, "chosen": sides[0][-1].strip(), "rejected": sides[1][-1].strip()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("kind", choices=("gsm8k", "hh-rlhf"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    options = parser.parse_args()
    draw = random.Random(0)
    rows = list((gsm8k if options.kind == "gsm8k" else hh_rlhf)(options.data, draw))
    draw.shuffle(rows)
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows[: options.count]), "utf-8")
    print(f"{min(len(rows), options.count):,} of {len(rows):,} pairs: {options.out}")


if __name__ == "__main__":
    main()
