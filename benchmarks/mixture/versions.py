"""Documents that are there more than once: exact copies, versions of proposals; and items of evaluation sets."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders.texts import proposals

from mixture.planting import ORIGINALS, Mixture, made_words, windows, words
from mixture.real_texts import CARRIERS, evaluation_questions, passages, web_pages

ITEMS = "evaluation.jsonl"
_PROPOSALS, _COPIES, _VERSIONS = 150, 25, 40


def plant_versions(mixture: Mixture, data: Path) -> None:
    mixture.source("proposals", "CC0-1.0")
    generator = mixture.generator("versions")
    found = dict(generator.sample(sorted(proposals(data).items()), _PROPOSALS))
    for name, text in sorted(found.items()):
        mixture.write(f"proposals/now/{name}", text, text)
        mixture.keep("(proposals)", f"proposals/now/{name}", text, [ORIGINALS])  # planted, its copy may stay
    chosen = generator.sample(sorted(found), _COPIES + _VERSIONS)
    for name in chosen[:_COPIES]:
        _plant_pair(
            mixture, "exact copy", name, found[name].replace("\n", "\r\n") if generator.random() < 0.3 else found[name]
        )
    for name in chosen[_COPIES:]:
        _plant_pair(mixture, "near version", name, _version(found[name], generator))


def _plant_pair(mixture: Mixture, kind: str, name: str, other: str) -> None:
    mixture.write(f"proposals/copies/{name}", other)
    for uri in (f"proposals/now/{name}", f"proposals/copies/{name}"):
        mixture.plant(kind, uri, "fewer", f"{kind} {name}")


def _version(text: str, generator: random.Random) -> str:
    """Some words written otherwise and a paragraph more, as long as runs of five words are alike by 0.82 at least
    (Jaccard's similarity), which is above the threshold of the policy."""
    paragraph = " ".join(generator.choices(made_words(), k=40)).capitalize() + "."
    before = windows(words(text), 5)
    for share in (0.015, 0.01, 0.005, 0.001, 0.0):
        parts = text.split(" ")
        for at in generator.sample(range(len(parts)), int(share * len(parts))):
            if parts[at].isalpha():
                parts[at] = generator.choice(made_words())
        other = " ".join(parts) + f"\n\n{paragraph}\n"
        after = windows(words(other), 5)
        if len(before & after) >= 0.82 * len(before | after):
            return other
    return text + "\nThe end.\n"


def plant_evaluation(mixture: Mixture, data: Path) -> None:
    """Questions within pages: as they are, with their answers, and in other capitals and marks."""
    kind = "evaluation item"
    mixture.source("quizzes", "ODC-By-1.0", kind="text")
    items = [each for each in evaluation_questions(data) if len(words(str(each["question"]))) >= 8]
    with (mixture.folder / ITEMS).open("w", encoding="utf-8") as stream:
        for item in items:
            stream.write(json.dumps(item, ensure_ascii=False) + "\n")
    carriers = passages(data)  # the first ones; mail takes those behind them, and personal data the last
    for number, item in enumerate(mixture.generator("items").sample(items, CARRIERS)):
        uri = f"quizzes/{number:02d}.txt"
        before, after = carriers[2 * number : 2 * number + 2]
        mixture.write(uri, f"{before}\n\n{_asked(item, number)}\n\n{after}", f"{before}\n\n{after}")
        mixture.plant(kind, uri, "erased", str(item["question"]), f"{item['id']}, way {number % 4}")
        mixture.keep(kind, uri, f"{before}\n\n{after}", [ORIGINALS])
    for number, page in enumerate(web_pages(data)[180:240]):
        uri = f"quizzes/plain/{number:02d}.txt"
        mixture.write(uri, page, page)
        mixture.keep("(pages without items)", uri, page)


def _asked(item: Mapping[str, str | Sequence[str]], number: int) -> str:
    question = str(item["question"])
    choices = item.get("choices", ())
    options = "\n".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=False))
    if number % 4 == 0:
        return question
    if number % 4 == 1:
        return f"Question: {question}\n{options}\nAnswer: {item['answer']}"
    if number % 4 == 2:
        return question.upper().replace(",", "").replace(".", " .")
    return f"Q. {question}\n\n{options}".replace(" ", "  ").replace("\n", "\r\n")
