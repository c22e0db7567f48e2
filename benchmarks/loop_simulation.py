"""The loop on the default pipeline with simulated users: is a better version promoted, a worse one refused, and a
silent degradation alarmed within the delay that the rule states?

    python benchmarks/loop_simulation.py shared/data /tmp/loop

Paragraphs of SQuAD 2.0 are the documents, its questions those of users. A user gives a thumb up with probability 0.9
where the answer holds the gold words, or abstains from a question without an answer, and with 0.1 elsewhere. Each
version answers each question once; users ask these again and again, at simulated times, each in one conversation.
"""

import argparse
import gzip
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from rich.console import Console

import lmworks
from lmworks.build import build
from lmworks.config import to_mapping
from lmworks.feedback_loop import LoopConfig, run
from lmworks.monitor.alerts import Watch, read_config
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.experiment import assign, read_states
from lmworks.monitor.log import Log
from lmworks.monitor.review import Judgement, judge, take
from lmworks.recipe import Recipe, load
from lmworks.records import Answer, Feedback, Interaction
from lmworks.versions import promotions
from lmworks.workspace import read_current

HOUR, DAY = 3600.0, 86400.0
START = 1_790_000_000.0
RECIPE = """name = "simulated"
[models]
embedder = "all-minilm-l6-v2"
reader = "minilm-reader"
verifier = "minilm-verifier"
[stages.documents]
use = "corpus.read"
sources = ["docs"]
[stages.index]
use = "retrieve.index"
from = ["documents"]
[stages.questions]
use = "ground.questions"
from = ["documents"]
gold = ["gold.jsonl"]
automatic = 0
[stages.calibration]
use = "ground.calibrate"
from = ["index", "questions"]
[stages.evaluation]
use = "ground.evaluate"
from = ["index", "questions", "calibration"]
"""
REVIEW = "second = 0.0\n[rules.random]\nrate = 0.05\n[rules.'thumbs down']\nfilter = 'thumbs:down'\nrate = 0.1\n"
ALERTS = """deliver = ["file"]
[rules.unhappy]
signal = "thumbs_down"
alarm = 0.65
minutes = 120
every_minutes = 30
"""
DELAY = 2 * HOUR  # stated: the window of the rule
POOR = ["calibration.answer.minimum_characters=160"]  # what is live first: most sentences are no candidates


@dataclass(frozen=True)
class Asked:
    text: str
    uri: str
    answers: tuple[str, ...]  # none: unanswerable
    quote: str


def questions(data: Path, paragraphs: int) -> tuple[dict[str, str], list[Asked]]:
    """Documents by file name, and the questions about them, half of each kind where there are enough."""
    articles = json.loads(gzip.decompress((data / "squad2-dev-half" / "dev-v2.0.json.gz").read_bytes()))["data"]
    texts, asked = {}, []
    for number, article in enumerate(articles):
        for place, one in enumerate(article["paragraphs"][:3]):
            if len(texts) == paragraphs:
                return texts, asked
            name, text = f"{number}-{place}.md", one["context"]
            texts[name] = f"# {article['title'].replace('_', ' ')}\n\n{text}\n"
            for qa in one["qas"][:6]:
                given = tuple(dict.fromkeys(each["text"] for each in qa["answers"]))
                start = qa["answers"][0]["answer_start"] if given else 0
                begin = max(text.rfind(". ", 0, start) + 2, 0) if ". " in text[:start] else 0
                end = text.find(". ", start)
                asked.append(
                    Asked(
                        qa["question"],
                        f"docs/{name}",
                        given,
                        text[begin : end + 1 if end > 0 else len(text)] if given else "",
                    )
                )
    return texts, asked


def gold_line(number: int, one: Asked, split: str) -> str:
    gold = [{"uri": one.uri, "quote": one.quote}] if one.answers else []
    return json.dumps(
        {"id": f"q{number}", "question": one.text, "answerable": bool(gold), "gold": gold, "split": split}
    )


def is_right(one: Asked, answer: Interaction | Answer) -> bool:
    text = answer.response if isinstance(answer, Interaction) else answer.text
    return answer.abstained if not one.answers else not answer.abstained and any(each in text for each in one.answers)


class World:
    """The workspace, its log, the users and the person who reviews."""

    def __init__(self, folder: Path, data: Path, paragraphs: int, recipe: str = RECIPE) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "docs").mkdir(parents=True)
        texts, asked = questions(data, paragraphs)
        for name, text in texts.items():
            (folder / "docs" / name).write_text(text)
        draw = random.Random(1)
        draw.shuffle(asked)
        third = len(asked) // 3
        self.known = {one.text: one for one in asked}
        self.asked, test = asked[: 2 * third], asked[2 * third :]
        (folder / "gold.jsonl").write_text("".join(gold_line(n, one, "test") + "\n" for n, one in enumerate(test)))
        (folder / "recipe.toml").write_text(recipe)
        self.folder, self.workspace, self.draw = folder, folder / "workspace", draw
        self.answers: dict[str, dict[str, Interaction]] = {}
        self.count = 0
        build(self.recipe(POOR), self.workspace, Console(file=StringIO()))
        (self.workspace / "review.toml").write_text(REVIEW)
        (self.workspace / "alerts.toml").write_text(ALERTS)
        self.log = Log(self.workspace / "log.sqlite")

    def recipe(self, settings: Sequence[str]) -> Recipe:
        return load(self.folder / "recipe.toml", settings)

    def answered(self, version: str) -> dict[str, Interaction]:
        """Each question as a version answers it."""
        if version not in self.answers:
            system = lmworks.open(self.workspace, version)
            name = system.current.version
            if name not in self.answers:
                self.answers[name] = {one.text: system.respond(one.text)[1] for one in self.asked}
                right = sum(is_right(self.known[text], one) for text, one in self.answers[name].items())
                print(f"  version {name} answers {right} of {len(self.asked)} questions rightly", flush=True)
            return self.answers[name]
        return self.answers[version]

    def traffic(self, begin: float, hours: float, per_hour: int, broken: bool = False) -> None:
        """Questions, and thumbs on half of the answers; `broken`: users get the answers to others' questions."""
        states = [one for one in read_states(self.log.reader) if one.status == "running"]
        live = read_current(self.workspace).version
        for number in range(round(hours * per_hour)):
            self.count += 1
            moment, unit = begin + number * HOUR / per_hour, f"u{self.count}"
            version, arm, name = live, "", ""
            if states and (found := assign(states[0].experiment, unit, states[0].share, moment)):
                self.log.append("assignments", [to_mapping(found)]).result()
                arm, name = found.arm, found.experiment
                version = str(states[0].experiment.arms[arm]["version"]).replace("production", live)
            one = self.draw.choice(self.asked)
            event = self.answered(version)[one.text]
            if broken:
                event = replace(self.answered(version)[self.draw.choice(self.asked).text], messages=event.messages)
            key = f"{self.count:016x}"
            event = replace(event, id=key, time=moment, conversation=unit, unit=unit, experiment=name, arm=arm)
            self.log.record(event).result()
            if self.draw.random() < 0.5:
                up = self.draw.random() < (0.9 if is_right(one, event) else 0.1)
                self.log.attach(Feedback(key, moment + 5, "thumbs", "up" if up else "down")).result()

    def review(self, now: float, count: int) -> int:
        """The person knows the gold answers; how many they reviewed."""
        config, done = ReviewConfig({"random": ReviewRule(0.05)}, second=0.0), 0
        while done < count and (item := take(self.log, config, "ann", now)):
            event = self.log.reader.get(item.interaction)
            one = self.known[event.messages[-1].content]
            good = is_right(one, event)
            problem = "none" if good else "wrong" if one.answers else "should have abstained"
            said = Judgement(
                {"verdict": "good" if good else "bad", "problem": problem}, quote="" if good else one.quote
            )
            judge(self.log, config, item.id, "ann", said, now)
            done += 1
        return done

    def loop(self, now: float, settings: Sequence[str]) -> Iterator[str]:
        experiment = {"metric": "thumbs", "planned_units": 1500, "minimum_effect": 0.05, "window_days": 0.25}
        config = LoopConfig(reviews=40, margins={"span-f1": 0.1}, experiment=experiment, watch_days=1.0)
        for step in run(
            self.workspace, config, lambda more: self.recipe([*settings, *more]), self.log, who="ann", now=now
        ):
            yield f"  {step.name:<10} {'ends' if step.ends else 'done' if step.done else 'waits'}: {step.words}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--paragraphs", type=int, default=24)
    parser.add_argument("--embedder-only", action="store_true", help="without reader and verifier: a fifth of the time")
    options = parser.parse_args()
    lines = [line for line in RECIPE.splitlines() if not line.startswith(("reader", "verifier"))]
    recipe = "\n".join(lines) if options.embedder_only else RECIPE
    began = time.perf_counter()
    world = World(options.out, options.data, options.paragraphs, recipe)
    first, now = read_current(world.workspace).version, START

    def go(title: str, settings: Sequence[str]) -> list[str]:
        print(f"{title} (simulated day {(now - START) / DAY:.1f}, {time.perf_counter() - began:.0f} s)", flush=True)
        lines = list(world.loop(now, settings))
        print("\n".join(lines), flush=True)
        return lines

    world.traffic(now, 24, 40)
    now += DAY
    go("A better version: all sentences are candidates, and it is calibrated on reviews", [])
    print(f"  {world.review(now, 60)} answers reviewed")
    go("reviewed", [])
    for _ in range(20):
        world.traffic(now, 6, 50)
        now += 6 * HOUR
        if promotions(world.workspace):
            break
        go("users in both arms", [])
    promoted = [one.version for one in promotions(world.workspace)]
    print(f"PROMOTED: {bool(promoted)}; {first} -> {read_current(world.workspace).version}")
    world.traffic(now, 24, 40)
    now += 2 * DAY  # so that a whole day is over
    Watch(world.log, read_config(world.workspace), world.workspace).check(now)
    go("watched", [])
    live = read_current(world.workspace).version
    go("A worse version: only long sentences are candidates", POOR)
    world.review(now, 60)
    lines = go("reviewed", POOR)
    refused = any("gate" in line and "ends" in line for line in lines) and read_current(world.workspace).version == live
    print(f"WORSE REFUSED: {refused}")
    degradation(world, now)


def degradation(world: World, now: float) -> None:
    """Users get answers to others' questions, without an error; the alerts are checked as often as the rule says."""
    watch = Watch(world.log, read_config(world.workspace), world.workspace)
    for moment in range(48):  # half hours; the system breaks after a day
        world.traffic(now + moment * HOUR / 2, 0.5, 60)
        early = [one for one in watch.check(now + (moment + 1) * HOUR / 2) if one.level == "alarm"]
        if early:
            print(f"FALSE ALARM after {moment / 2} h: {early[0].rule}")
    for moment in range(48, 60):
        world.traffic(now + moment * HOUR / 2, 0.5, 60, broken=True)
        if found := [one for one in watch.check(now + (moment + 1) * HOUR / 2) if one.level == "alarm"]:
            delay = (moment + 1 - 48) / 2
            print(f"DEGRADATION ALARMED: {found[0].rule} after {delay} h; stated: {DELAY / HOUR:g} h")
            return
    print("DEGRADATION ALARMED: False")


if __name__ == "__main__":
    main()
