"""Tasks on which a small model of characters can show what alignment gains: prompts, demonstrations, verifiers.

walks      the shortest way to node a in a graph of 21 nodes, 3 ways out of each, of which the prompt names the first;
           demonstrations are random walks that arrive within 10 steps. The reward is shortest / length, 0 for a walk
           that leaves the graph's edges or does not arrive (trlX, examples/randomwalks).
addition   the sum of two numbers of 3 digits, its digits in reverse order (Lee et al. 2023, arXiv 2307.03381)
spelling   a word of 3 to 7 letters spelled backwards, reasoning-gym's `spell_backward`; its instruction, the same for
           all, is left out
format     a short question to SmolLM2-135M with one of five formats that the answer must have, right or wrong
"""

import json
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from lmworks.align.reasoning_tasks import reasoning_rows
from lmworks.evaluate.metric import Item, Response
from lmworks.records import Verifiable

TASKS = ("walks", "addition", "spelling", "format")
NODES, WAYS, STEPS = "abcdefghijklmnopqrstu", 3, 10
EXACT, OPTIMALITY, FORMATTED = "final-answer", "alignment_tasks:optimality", "alignment_tasks:formatted"
FORMATS = {  # an instruction, and how an answer is written so
    "quotes": ("Put the answer in double quotation marks.", '"{}"'),
    "label": ('Begin with the word "Answer:".', "Answer: {}"),
    "tags": ("Write the answer between <answer> and </answer>.", "<answer>{}</answer>"),
    "list": ('Write the answer as a list item that begins with "- ".', "- {}"),
    "json": ('Answer with a JSON object that has the key "answer" alone.', '{{"answer": "{}"}}'),
}
CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Austria Vienna, Poland Warsaw, Norway Oslo, Japan Tokyo, "
    "Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Greece Athens, Portugal Lisbon, Ireland Dublin, "
    "Hungary Budapest, Egypt Cairo, China Beijing, Russia Moscow, Cuba Havana, Kenya Nairobi, Peru Lima, Iran Tehran"
)
OPPOSITES = (
    "hot cold, big small, fast slow, up down, left right, day night, black white, happy sad, rich poor, young old, "
    "open closed, early late, hard soft, light dark, wet dry, full empty, high low, loud quiet, near far, thick thin"
)


@dataclass(frozen=True)
class Task:
    """Rows to sample for, rows to measure on (of none of the others' prompts, but of walks, which has 20), and what is
    demonstrated: (prompt, completion).

    `model` is fine-tuned first, "" is a new one of characters; the methods then train an adapter of it, or all of it.
    """

    train: list[Verifiable]
    test: list[Verifiable]
    demonstrations: list[tuple[str, str]]
    model: str = ""
    samples: int = 16384  # completions that a method learns from
    completion: int = 12  # most tokens of one
    length: int = 32  # with its prompt
    rows: int = 64  # of a step of fine-tuning


def make_task(name: str, seed: int, test: int) -> Task:
    return {"walks": _walks, "addition": _addition, "spelling": _spelling, "format": _format}[name](seed, test)


def _addition(seed: int, test: int) -> Task:
    drawn = random.Random(seed)
    pairs = drawn.sample(range(810_000), 10_000 + test)  # of 900 x 900
    rows = []
    for number in pairs:
        first, second = 100 + number // 900, 100 + number % 900
        rows.append(Verifiable(f"{first}+{second}", str(first + second)[::-1], EXACT))
    return Task(rows[test:], rows[:test], [(str(row.prompt), row.answer) for row in rows[test:]])


def _spelling(seed: int, test: int) -> Task:
    settings = {"min_word_len": 3, "max_word_len": 7}
    train, asked = reasoning_rows("spell_backward", 8000, seed=seed, **settings), []
    for row in reasoning_rows("spell_backward", test, "test", seed=seed, **settings):
        asked.append(_word(row))
    held_out = {row.prompt for row in asked}
    rows = [row for row in map(_word, train) if row.prompt not in held_out]
    return Task(rows, asked, [(str(row.prompt), row.answer) for row in rows])


def _word(row: Verifiable) -> Verifiable:
    return Verifiable(str(row.prompt).rpartition(": ")[2].strip().lower(), row.answer.lower(), row.verifier)


def _format(seed: int, test: int) -> Task:
    """Questions and formats of the test are those that training has in other combinations."""
    asked = [(f"What is the capital of {one}?", answer) for one, answer in map(str.split, CAPITALS.split(", "))]
    asked += [(f"What is the opposite of {one}?", answer) for one, answer in map(str.split, OPPOSITES.split(", "))]
    rows = [
        (Verifiable(f"{question} {instruction}", name, FORMATTED), form.format(answer))
        for question, answer in asked
        for name, (instruction, form) in FORMATS.items()
    ]
    random.Random(seed).shuffle(rows)
    test = min(test, 48)
    demonstrations = [(str(row.prompt), said) for row, said in rows[test:]]
    alone = [row for row, _ in rows]
    return Task(alone[test:], alone[:test], demonstrations, "smollm2-135m-instruct", 1024, 32, 96, 16)


def formatted(item: Item, response: Response) -> float:
    """Whether the answer has the format that is the item's reference."""
    before, _, after = FORMATS[item.references[0]][1].replace("{{", "{").replace("}}", "}").partition("{}")
    said = response.text.strip()
    if item.references[0] == "json":
        try:
            return float(list(json.loads(said)) == ["answer"])
        except (ValueError, TypeError):
            return 0.0
    inside = said.removeprefix(before).removesuffix(after)
    return float(len(inside.strip()) > 0 and f"{before}{inside}{after}" == said and "\n" not in inside)


def _walks(seed: int, test: int) -> Task:
    ways, drawn, demonstrations = graph(seed), random.Random(seed), []
    while len(demonstrations) < 10_000:
        walk = drawn.choice(NODES[1:])
        while walk[-1] != NODES[0] and len(walk) <= STEPS:
            walk += drawn.choice(ways[walk[-1]])
        if walk[-1] == NODES[0]:
            demonstrations.append((walk[0], walk[1:]))
    starts = [node for node in NODES[1:] if node in shortest(seed)]
    rows = [Verifiable(node, str(seed), OPTIMALITY) for node in starts]
    return Task(rows, [rows[number % len(rows)] for number in range(test)], demonstrations)


@cache
def graph(seed: int) -> Mapping[str, str]:
    """The ways out of each node."""
    drawn = random.Random(seed)
    return {node: "".join(drawn.sample(NODES.replace(node, ""), WAYS)) for node in NODES}


@cache
def shortest(seed: int) -> Mapping[str, int]:
    """Steps from each node to the first, where there is a way."""
    steps, found = {NODES[0]: 0}, deque(NODES[0])
    while found:
        goal = found.popleft()
        for node, ways in graph(seed).items():
            if goal in ways and node not in steps:
                steps[node] = steps[goal] + 1
                found.append(node)
    return steps


def optimality(item: Item, response: Response) -> float:
    """Shortest / length of the walk; the item's reference is the seed of the graph."""
    seed, walk = int(item.references[0]), f"{item.prompt}{response.text}"
    arrives = walk[-1] == NODES[0] and NODES[0] not in walk[:-1] and len(walk) <= STEPS + 1
    if not arrives or any(after not in graph(seed).get(node, "") for node, after in pairwise(walk)):
        return 0.0
    return shortest(seed)[walk[0]] / (len(walk) - 1)
