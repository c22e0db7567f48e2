"""False alarms of the drift tests over simulated months beside Evidently, their power, and what real text shows.

    python benchmarks/drift_alarms.py null --months 1000 --season
    python benchmarks/drift_alarms.py power
    python benchmarks/drift_alarms.py text --data FOLDER
    PYTHON_WITH_EVIDENTLY benchmarks/drift_alarms.py null --months 200 --season --evidently

A month is 30 days. Each day has four signals: a rate, a category of 6, a number and a vector of 8. A day's rows are
compared with those of the same weekday of the four weeks before, hour by hour; with `--season` all signals and the
number of rows follow the hour and the weekday. `naive` are the same tests without strata against the last 28 days.
"""

import argparse
import gzip
import json
import re
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

SIGNALS = ("rate", "category", "number", "vector")
DAYS, WEEKS = 30, 4
STATED = 2.0  # false alarms a month


def day_rows(
    generator: np.random.Generator, day: int, season: bool, rows: int, shift: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """One day: hours (n,), and the values of each signal."""
    weekend = day % 7 >= 5
    weight = 1 + 0.9 * np.sin((np.arange(24) - 8) / 24 * 2 * np.pi) if season else np.ones(24)
    n = max(20, generator.poisson(rows * (0.5 if season and weekend else 1)))
    hour = generator.choice(24, n, p=weight / weight.sum())
    wave = (np.sin(hour / 24 * 2 * np.pi) + weekend) * season
    rate = np.clip(0.2 + 0.1 * wave + shift.get("rate", 0), 0, 1)
    first = generator.random(n) < np.clip(0.3 + 0.2 * wave + shift.get("category", 0), 0, 1)
    vector = generator.normal(size=(n, 8)) + wave[:, None]
    vector[generator.random(n) < shift.get("vector", 0)] += 2.0
    return {
        "hour": hour,
        "rate": generator.random(n) < rate,
        "category": np.where(first, 0, generator.integers(1, 6, n)),
        "number": generator.normal(size=n) + wave + shift.get("number", 0),
        "vector": vector,
    }  # fmt: skip


def months(
    count: int, season: bool, rows: int, seed: int, shift: Mapping[str, float] = {}, since: int = 0
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Days of history and month; the shift is in every day of the month from `since` on."""
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        yield [
            day_rows(generator, day, season, rows, shift if day >= 7 * WEEKS + since else {})
            for day in range(7 * WEEKS + DAYS)
        ]


def run_day(days: list[dict[str, np.ndarray]], day: int, naive: bool) -> list[float]:
    """p of the signals of a day."""
    from lmworks.statistics import two_sample

    before = [days[day - back] for back in (range(1, 29) if naive else range(7, 7 * WEEKS + 1, 7))]
    parts = [days[day], *before]
    recent = np.repeat([True] + [False] * len(before), [len(part["hour"]) for part in parts])
    table = {name: np.concatenate([part[name] for part in parts]) for name in ("hour", *SIGNALS)}
    strata = np.zeros(len(recent), dtype=int) if naive else table["hour"]
    keep = two_sample.comparable(recent, strata)
    recent, strata = recent[keep], strata[keep]
    quick = {"seed": day, "permutations": 999}
    return [
        two_sample.rate_test(table["rate"][keep], recent, strata).p,
        two_sample.category_test(table["category"][keep], recent, strata).p,
        two_sample.number_test(table["number"][keep], recent, strata, **quick).p,
        two_sample.mmd_test(table["vector"][keep], recent, strata, **quick).p,
    ]


def evidently_day(days: list[dict[str, np.ndarray]], day: int, _: bool) -> list[float]:
    """p of Evidently's defaults for each signal, 0 where a default is a distance over its threshold."""
    import pandas
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    found = []
    before = [days[day - back] for back in range(1, 29)]  # the last four weeks: it knows no season
    for name, kind in (
        ("rate", ColumnType.Categorical),
        ("category", ColumnType.Categorical),
        ("number", ColumnType.Numerical),
    ):
        old = pandas.Series(np.concatenate([part[name] for part in before]))
        new = pandas.Series(days[day][name])
        test = get_stattest(old, new, kind, None)
        outcome = test(old, new, kind, None)
        found.append(0.0 if outcome.drifted else 1.0)
    return [*found, 1.0]


def alarms(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each run of (months, days, signals) alarms by itself, and how many sums alarm in it."""
    from scipy.stats import false_discovery_control

    from lmworks.statistics.alarm_rate import cumulative_sum, run_level, sum_threshold

    single = false_discovery_control(p, axis=2).min(axis=2) <= run_level(STATED, DAYS)
    sums, added = np.zeros(p.shape[::2]), np.zeros(p.shape[:2], dtype=int)
    limit = sum_threshold(STATED, DAYS, p.shape[2])
    for day in range(p.shape[1]):
        sums = cumulative_sum(sums, p[:, day])
        added[:, day] = (sums > limit).sum(axis=1)
        sums = np.where(sums > limit, 0.0, sums)
    return single, added


def null(options: argparse.Namespace) -> None:
    test: Callable[..., list[float]] = evidently_day if options.evidently else run_day
    p = np.array([
        [test(days, day, options.naive) for day in range(7 * WEEKS, 7 * WEEKS + DAYS)]
        for days in months(options.months, options.season, options.rows, 1)
    ])  # fmt: skip
    who = "evidently" if options.evidently else "naive" if options.naive else "lmworks"
    print(f"{who}, {options.months} months, {'season' if options.season else 'no season'}, {options.rows} rows a day")
    for place, name in enumerate(SIGNALS):
        rates = ", ".join(f"{(p[:, :, place] <= level).mean():.4f} at {level}" for level in (0.01, 0.05, 0.2))
        print(f"  {name:9} alarms {rates}")
    if options.evidently:
        print(f"  days with an alarm a month: {(p <= 0.05).any(axis=2).sum(axis=1).mean():.2f}")
        return
    single, added = alarms(p)
    error = np.sqrt(STATED / options.months)
    one, slow = single.sum(axis=1).mean(), added.sum(axis=1).mean()
    print(f"  false alarms a month {one + slow:.3f} ± {2 * error:.3f}, stated {STATED}")
    print(f"    of single runs {one:.3f}, of sums {slow:.3f}, stated {STATED / 2} each")


def power(options: argparse.Namespace) -> None:
    """Share of months in which a shift from day 0 on is alarmed, and the median day."""
    print("| shift | size | alarmed within 1 day | 3 days | 7 days | median day |\n|---|---|---|---|---|---|")
    sizes = {
        "rate": (0.03, 0.06, 0.12),
        "category": (0.04, 0.08, 0.16),
        "number": (0.1, 0.2, 0.4),
        "vector": (0.05, 0.1, 0.2),
    }
    for name in SIGNALS:
        for size in sizes[name]:
            p = np.array([
                [run_day(days, day, False) for day in range(7 * WEEKS, 7 * WEEKS + 7)]
                for days in months(options.months, True, options.rows, 2, {name: size})
            ])  # fmt: skip
            single, added = alarms(p)
            fired = single | (added > 0)
            first = np.where(fired.any(axis=1), fired.argmax(axis=1) + 1.0, np.inf)
            within = " | ".join(f"{(first <= limit).mean():.2f}" for limit in (1, 3, 7))
            print(f"| {name} | {size} | {within} | {np.median(first):.0f} |")


# ---------------------------------------------------------------------------------------------------------------------
# Real text


def irc(folder: Path) -> dict[str, list[str]]:
    """Year -> what was said in #ubuntu, without handles and times."""
    found: dict[str, list[str]] = {}
    for path in sorted((folder / "ubuntu-irc").glob("*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".txt"):
                    text = archive.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                    said = re.findall(r"^\[\d\d:\d\d\] <[^>]+> (?:\S+: )?(.{20,300})$", text, re.M)
                    found.setdefault(path.name[:4], []).extend(said)
    return found


def addresses(folder: Path, name: str, years: int) -> dict[str, list[str]]:
    """First of so many years -> sentences of presidents."""
    found: dict[str, list[str]] = {}
    with zipfile.ZipFile(folder / "nltk-public-domain" / f"{name}.zip") as archive:
        for member in sorted(archive.namelist()):
            if year := re.search(r"/(\d{4})-", member):
                text = archive.read(member).decode("latin-1")
                sentences = [" ".join(one.split()) for one in re.split(r"(?<=[.?!])\s+", text) if 30 < len(one) < 400]
                found.setdefault(str(int(year[1]) // years * years), []).extend(sentences)
    return found


def text(options: argparse.Namespace) -> None:
    """MMD, classifier and rare words of each period against the one before; and intents that come on a planned day."""
    from lmworks.generate.text_embedding import TextEncoder
    from lmworks.model.checkpoint import load
    from lmworks.model.download import pull
    from lmworks.monitor.filter import words_of
    from lmworks.statistics import two_sample

    encoder = TextEncoder(load(pull("all-minilm-l6-v2")))
    draw = np.random.default_rng(0)

    def row(name: str, old: list[str], new: list[str], n: int) -> None:
        some = [[side[i] for i in draw.permutation(len(side))[:n]] for side in (new, old)]
        recent = np.repeat([True, False], [len(side) for side in some])
        points = np.asarray(encoder.encode(some[0] + some[1], "query"))
        one = np.zeros(len(recent), dtype=int)
        found = two_sample.mmd_test(points, recent, one)
        classified, _ = two_sample.classifier_test(points, recent, one)
        common = Counter(word for each in old for word in set(words_of(each)))
        # In no other text of the old ones; those that are compared are among them.
        seen = [1 + own for own in ~recent]
        unseen = np.array([
            any(common[word] < least for word in words_of(each))
            for each, least in zip(some[0] + some[1], seen, strict=True)
        ])  # fmt: skip
        rate = two_sample.rate_test(unseen, recent, one)
        print(
            f"| {name} | {recent.sum()} + {(~recent).sum()} | {found.effect:.3f} | {found.p:.4f} "
            f"| {0.5 + classified.effect:.2f} | {classified.p:.4f} | {rate.effect:+.3f} | {rate.p:.2g} |",
            flush=True,
        )

    print("| stream | n | MMD | p | AUC | p | rare words | p |\n|---|---|---|---|---|---|---|---|")
    for label, streams in (
        ("ubuntu-irc", irc(options.data)),
        ("inaugural", addresses(options.data, "inaugural", 50)),
        ("state of the union", addresses(options.data, "state_union", 10)),
    ):
        periods = [key for key in sorted(streams) if len(streams[key]) >= 2 * options.n]
        for old, new in pairwise(periods):
            row(f"{label} {new} after {old}", streams[old], streams[new], options.n)
        for key in periods[:2]:  # no drift: halves of one period
            order = draw.permutation(len(streams[key]))
            halves = [[streams[key][i] for i in part] for part in np.array_split(order, 2)]
            row(f"{label} {key}, two halves", *halves, options.n)
    with gzip.open(options.data / "clinc150" / "data_full.json.gz") as file:
        data = json.load(file)
    intents = sorted({intent for _, intent in data["train"]})
    held = set(intents[::15])
    known = [said for said, intent in data["train"] if intent not in held]
    new = [said for said, intent in data["train"] if intent in held]
    for share in (0.0, 0.02, 0.05, 0.1, 0.2):
        order = draw.permutation(len(known))
        count = round(share * options.n)
        mixed = [known[i] for i in order[: options.n - count]] + [new[i] for i in draw.permutation(len(new))[:count]]
        row(
            f"clinc150, {share:.0%} of {len(held)} intents held back",
            [known[i] for i in order[options.n :]],
            mixed,
            options.n,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("null", "power", "text"))
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--rows", type=int, default=60, help="of a day")
    parser.add_argument("--season", action="store_true")
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--evidently", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--n", type=int, default=300, help="texts on each side")
    options = parser.parse_args()
    began = time.process_time()
    {"null": null, "power": power, "text": text}[options.what](options)
    print(f"{time.process_time() - began:.0f} s of one processor")


if __name__ == "__main__":
    main()
