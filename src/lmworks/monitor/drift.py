"""Drift: each day's traffic against the same hours of the same weekdays before it, signal by signal.

    catch_up(log, now)                            # every window since the last one, kept in the table `drift`
    rows = measure(reader, end, DriftConfig())    # one window that ended at `end`

A window is compared with those that lie whole weeks before it, hour of week by hour of week, so that neither the night
nor a Sunday is drift. Of a user (or conversation) one request of each week is sampled: the requests of one are alike,
and do not count as many. An alarm needs evidence (see `statistics/alarm_rate.py`) and an effect above a floor.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lmworks.artefact import hash_json
from lmworks.config import from_mapping, to_mapping, within
from lmworks.monitor.filter import parse
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.signals import COLUMNS, Kind, Side, Signal, Tokenize, signals
from lmworks.statistics import alarm_rate, two_sample

HOUR, DAY, WEEK = 3600.0, 86400.0, 7 * 86400.0
FLOORS: Mapping[str, float] = {"number": 0.15, "rate": 0.02, "category": 0.08, "vector": 0.05}
_EXAMPLES, _CLUSTERS, _POINTS = 50, 12, 750


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """The `[drift]` table of `alerts.toml`.

    hours         of a window; one run for each. Windows follow each other without a gap, in UTC.
    weeks         that a window is compared with.
    false_alarms  runs a month that may alarm while nothing changes.
    warnings      runs a month that may warn of it.
    minimum       requests on either side, below which nothing is said.
    sample        requests of a window that are measured, and twice as many of the weeks before.
    filter        requests that count, in the language of the log's filter box.
    floors        kind of signal -> the effect that matters: number in interquartile ranges, rate as a difference of
                  shares, category as the share that moved, vector as MMD.
    """

    hours: float = 24.0
    weeks: int = 4
    false_alarms: float = 1.0
    warnings: float = 4.0
    minimum: int = 100
    sample: int = 1500
    filter: str = ""
    floors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within(1, 168, hours=self.hours)
        within(1, 26, weeks=self.weeks)
        if not 0 < self.false_alarms <= self.warnings < math.inf:
            raise ValueError(f"0 < false_alarms <= warnings, got {self.false_alarms} and {self.warnings}")
        if not 20 <= self.minimum <= self.sample <= 10_000:
            raise ValueError(f"20 <= minimum <= sample <= 10000, got {self.minimum} and {self.sample}")
        if wrong := set(self.floors) - set(FLOORS):
            raise ValueError(f"floors are of {', '.join(FLOORS)}; unknown: {', '.join(sorted(wrong))}")
        parse(self.filter)

    @property
    def runs(self) -> float:
        """Runs in a month of 30 days."""
        return 720 / self.hours


@dataclass(frozen=True, slots=True)
class Cluster:
    """Recent requests of one kind, of which there were fewer; `examples` are ids, the most typical first."""

    share: float
    before: float
    p: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A signal in a window. `level`: ok, warn, alarm, or missing where `note` says what is missing.

    `value` and `expected` are means or shares, now and as the weeks before have them; `low` and `high` is where 95 % of
    windows of that size lie. `sum` is what has added up over runs, `limit` where that alarms. `examples` are ids.
    """

    signal: str
    side: Side
    kind: Kind
    time: float
    level: str = "missing"
    note: str = ""
    p: float | None = None
    adjusted: float | None = None
    effect: float | None = None
    value: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    sum: float = 0.0
    limit: float = 0.0
    recent: int = 0
    reference: int = 0
    change: str = ""
    examples: tuple[str, ...] = ()
    clusters: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sample:
    """Interactions of the window, which are `recent`, and of the weeks before, some of which are to learn from."""

    ids: Sequence[str]
    recent: np.ndarray
    strata: np.ndarray  # hours of the week
    learned: np.ndarray


def read_rows(reader: Reader, signal: str = "", since: float = 0.0) -> list[SignalRow]:
    """Rows of the table `drift`, oldest first, of one signal or of all."""
    where, values = ("time >= ? AND signal = ?", [since, signal]) if signal else ("time >= ?", [since])
    records = reader.rows("drift", "record", f"{where} ORDER BY time, key", values)
    return [from_mapping(SignalRow, json.loads(record)) for (record,) in records]


def by_evidence(rows: Sequence[SignalRow]) -> list[SignalRow]:
    """Alarms first, then what has the smallest adjusted p, then the largest effect relative to the one that matters."""
    order = ("alarm", "warn", "ok", "missing")
    effect = {row.signal: abs(row.effect or 0) / FLOORS[row.kind] for row in rows}
    return sorted(rows, key=lambda row: (order.index(row.level), row.adjusted or 1.0, -effect[row.signal]))


def catch_up(
    log: Log, now: float, config: DriftConfig = DriftConfig(), tokenize: Tokenize | None = None, most: int = 31
) -> list[SignalRow]:  # fmt: skip
    """Measure and keep every window since the last one that is over, at most `most`; their rows.

    No window is measured twice, also when the clock went back.
    """
    step = config.hours * HOUR
    end = math.floor(now / step) * step
    ((newest,),) = log.reader.rows("drift", "max(time)")
    first = max(end - (most - 1) * step, -math.inf if newest is None else newest + step)
    measured: list[SignalRow] = []
    while first <= end:
        before = {row.signal: row for row in read_rows(log.reader, since=first - 7 * step)}  # the last of each
        rows = measure(log.reader, first, config, before, tokenize)
        keys = [(hash_json([row.signal, row.time])[:32], row) for row in rows]
        records = [{"id": key, "time": row.time, "signal": row.signal, "record": to_mapping(row)} for key, row in keys]
        log.append("drift", records).result()
        measured, first = measured + rows, first + step
    return measured


def measure(
    reader: Reader, end: float, config: DriftConfig = DriftConfig(), before: Mapping[str, SignalRow] = {},
    tokenize: Tokenize | None = None,
) -> list[SignalRow]:  # fmt: skip
    """All signals of the window that ended at `end`; `before` are those of the run before, whose sums go on.

    Without requests enough there is one row, "requests", which says how many are missing.
    """
    spans = [(end - config.hours * HOUR - week * WEEK, end - week * WEEK) for week in range(config.weeks + 1)]
    rows = _sampled(reader, spans, config)
    sample = _sample(rows["id"], rows["time"], spans[0][0], rows["key"] * 40503 % 65536 < 32768)
    if missing := _missing(sample, config, reader, spans[0][0]):
        return [SignalRow("requests", "input", "number", end, note=missing, recent=int(sample.recent.sum()))]
    pairs = [(signal, sample) for signal in signals(rows, sample.learned, tokenize)] + _proxies(reader, spans, config)
    tested = [_tested(*pair, end, config) for pair in pairs]
    questions = next((signal for signal, _ in pairs if signal.kind == "vector"), None)
    signal_rows: list[SignalRow] = []
    for row, pair in zip(_judged(tested, before, config), pairs, strict=True):
        if row.level in ("warn", "alarm"):
            row = _explained(row, *pair, questions)
            questions = None if row.clusters else questions  # named in one row of them
        signal_rows.append(row)
    return signal_rows


def _sample(ids: Sequence[str], times: np.ndarray, start: float, learned: np.ndarray) -> _Sample:
    recent = times >= start
    return _Sample(ids, recent, (times // HOUR % 168).astype(int), learned & ~recent)


def _sampled(reader: Reader, spans: Sequence[tuple[float, float]], config: DriftConfig) -> dict[str, Any]:
    """Columns of a random sample by key, at most one request of each user (or conversation) and week."""
    picked: list[tuple[Any, ...]] = []
    for week, (start, end) in enumerate(spans):
        most = config.sample if week == 0 else math.ceil(2 * config.sample / config.weeks)
        once: dict[str, tuple[Any, ...]] = {}
        for row in reader.sample(", ".join(COLUMNS), start, end, 2 * most, config.filter):  # of some users are several
            once.setdefault(row[3] or row[4] or row[1], row)
        picked += list(once.values())[:most]
    table: dict[str, Any] = {name: [row[column] for row in picked] for column, name in enumerate(COLUMNS)}
    return table | {"time": np.array(table["time"], dtype=float), "key": np.array(table["key"], dtype=np.int64)}


def _missing(sample: _Sample, config: DriftConfig, reader: Reader, start: float) -> str:
    """A sentence about what there is too little of, else ""."""
    ((oldest,),) = reader.rows("interactions", "min(time)")
    if oldest is None:
        return "no traffic yet"
    if (waiting := (oldest + WEEK - start) / DAY) > 0:
        return f"not enough data: the log begins less than a week before this window, {waiting:.1f} days are missing"
    if (lack := config.minimum - int(sample.recent.sum())) > 0:
        return f"not enough data: {lack} more requests of different users are needed in the window ({config.minimum})"
    inside = two_sample.comparable(sample.recent, sample.strata) & ~sample.recent
    if (lack := 2 * config.minimum - int(inside.sum())) > 0:
        return f"not enough data: {lack} more requests are needed in the same hours of the weeks before"
    return ""


def _proxies(reader: Reader, spans: Sequence[tuple[float, float]], config: DriftConfig) -> list[tuple[Signal, _Sample]]:
    """Thumbs and outcomes, each by the time at which it came; of a unit the newest of each week."""
    inside = "time >= ? AND time < ?"
    names = reader.rows("outcomes", "DISTINCT name", f"{inside} ORDER BY name LIMIT 20", spans[0])
    thumbs = ("thumbs_down", "feedback", "time, CASE value WHEN 'down' THEN 1 ELSE 0 END, interaction, interaction")
    sources = [(*thumbs, "kind = 'thumbs' AND value != ''", [])]
    sources += [(f"outcome:{n}", "outcomes", "time, value, interaction, unit", "name = ?", [n]) for (n,) in names]
    proxies: list[tuple[Signal, _Sample]] = []
    for name, table, columns, condition, values in sources:
        where = f"{inside} AND {condition} ORDER BY time DESC LIMIT ?"
        once: dict[tuple[int, str], tuple[Any, ...]] = {}
        for week, span in enumerate(spans):
            for row in reader.rows(table, columns, where, [*span, *values, config.sample]):
                once.setdefault((week, row[3] or row[2]), row)
        times, numbers = (np.array([row[column] for row in once.values()], dtype=float) for column in (0, 1))
        rate, every = bool(np.isin(numbers, (0, 1)).all()), np.ones(len(numbers), dtype=bool)
        signal = Signal(name, "proxy", "rate" if rate else "number", numbers > 0 if rate else numbers, every)
        proxies.append((signal, _sample([row[2] for row in once.values()], times, spans[0][0], ~every)))
    return proxies


def _tested(signal: Signal, sample: _Sample, end: float, config: DriftConfig) -> SignalRow:
    """The row of a signal, without a verdict."""
    keep, recent = signal.known.copy(), sample.recent
    if signal.kind == "vector":  # all pairs of rows cost their square
        keep &= np.where(recent, np.cumsum(keep & recent), np.cumsum(keep & ~recent)) <= _POINTS
    keep[keep] = two_sample.comparable(recent[keep], sample.strata[keep])
    values, now, strata = signal.values[keep], recent[keep], sample.strata[keep]
    sizes = int(now.sum()), int((~now).sum())
    row = SignalRow(signal.name, signal.side, signal.kind, end, recent=sizes[0], reference=sizes[1])
    if (lack := config.minimum - min(sizes)) > 0:
        side = "in the window" if sizes[0] < config.minimum else "in the same hours of the weeks before"
        return replace(row, note=f"not enough data: {lack} more values are needed {side} ({config.minimum})")
    # So many that the smallest p can alarm, also among thirty
    most = min(20_000, max(two_sample.PERMUTATIONS, math.ceil(60 * config.runs / config.false_alarms)))
    if signal.kind == "rate":
        test = two_sample.rate_test(values, now, strata)
    elif signal.kind == "category":
        test = two_sample.category_test(values, now, strata)
    else:
        permuted = two_sample.number_test if signal.kind == "number" else two_sample.mmd_test
        test = permuted(values, now, strata, seed=int(end) % 2**31, permutations=most)
    row = replace(row, level="ok", p=test.p, effect=test.effect, value=test.effect, expected=0.0)
    if signal.kind in ("vector", "category"):
        return row if signal.kind == "vector" else replace(row, change=_moved(values, now, strata)[1])
    expected = float(np.average(values[~now], weights=two_sample.stratum_weights(now, strata)[~now]))
    half = 1.96 * float(values[~now].std()) * math.sqrt(1 / sizes[0] + 1 / sizes[1])
    return replace(row, value=float(values[now].mean()), expected=expected, low=expected - half, high=expected + half)


def _moved(values: np.ndarray, recent: np.ndarray, strata: np.ndarray) -> tuple[Any, str]:
    """The category whose share grew most, and the three that changed most in words."""
    names, codes = np.unique(values, return_inverse=True)
    change = np.bincount(codes, two_sample.stratum_weights(recent, strata) * np.where(recent, 1, -1))
    largest = np.argsort(-np.abs(change))[:3]
    return names[change.argmax()], ", ".join(f"{names[i] or 'none'} {100 * change[i]:+.1f} points" for i in largest)


def _judged(rows: list[SignalRow], before: Mapping[str, SignalRow], config: DriftConfig) -> list[SignalRow]:
    """The same rows with their adjusted p, their sums and their level."""
    from scipy.stats import false_discovery_control

    tested = [row for row in rows if row.p is not None]
    limit = alarm_rate.sum_threshold(config.false_alarms, config.runs, max(1, len(tested)))
    alarm, warn = (alarm_rate.run_level(rate, config.runs) for rate in (config.false_alarms, config.warnings))
    adjusted = iter(false_discovery_control([row.p for row in tested])) if tested else iter(())
    judged = []
    for row in rows:
        total = before[row.signal].sum if row.signal in before else 0.0
        if row.p is None:
            judged.append(replace(row, sum=total, limit=limit))
            continue
        total, p = float(alarm_rate.cumulative_sum(total, row.p)), float(next(adjusted))
        matters = abs(row.effect or 0.0) >= config.floors.get(row.kind, FLOORS[row.kind])
        level = "ok" if not matters else "alarm" if p <= alarm or total > limit else "warn" if p <= warn else "ok"
        slow = "adds up over several runs" if level == "alarm" and p > alarm else ""
        note = slow or ("too small to matter" if p <= alarm and not matters else "")
        total = 0.0 if level == "alarm" else min(total, limit + alarm_rate.SLACK)
        judged.append(replace(row, adjusted=p, sum=total, limit=limit, level=level, note=note))
    return judged


def _explained(row: SignalRow, signal: Signal, sample: _Sample, questions: Signal | None) -> SignalRow:
    """The row with the interactions that show its change, and for what is asked the clusters that are new."""
    clusters, asked = (), signal.name in ("questions", "topic", "off_topic") and questions is not None
    shown = questions if questions is not None and asked else signal
    inside = np.flatnonzero(shown.known)
    recent, strata, values = sample.recent[inside], sample.strata[inside], shown.values[inside]
    if asked:
        test, order_by = two_sample.classifier_test(values, recent, strata)
        seen = f"a classifier separates them with an AUC of {0.5 + test.effect:.2f} (p {test.p:.2g})"
        row = replace(row, change="; ".join(filter(None, (row.change, seen))))
        clusters = new_requests(values, recent, strata, [sample.ids[index] for index in inside.tolist()])
    elif signal.kind == "category":
        order_by = values == _moved(values, recent, strata)[0]
    else:
        order_by = values if (row.effect or 0) > 0 else -values.astype(float)
    ranked = [index for index in np.argsort(-order_by.astype(float), kind="stable") if recent[index]]
    if not asked and signal.kind in ("rate", "category"):
        ranked = [index for index in ranked if order_by[index] == order_by.max()]
    ids = [sample.ids[int(inside[index])] for index in ranked]
    return replace(row, examples=tuple(filter(None, ids))[:_EXAMPLES], clusters=clusters)


def new_requests(points: np.ndarray, recent: np.ndarray, strata: np.ndarray, ids: Sequence[str]) -> tuple[Cluster, ...]:
    """Clusters of all requests together of which there are more than before, the largest growth first.

    Clustered without regard to which are recent, so that the p of each is valid; adjusted for all clusters.
    """
    from scipy.stats import false_discovery_control
    from sklearn.cluster import KMeans

    fitted = KMeans(min(_CLUSTERS, len(points) // 10), n_init=2, random_state=0).fit(points)  # type: ignore[arg-type] - of scikit-learn's "auto"
    distance, clusters = fitted.transform(points), []
    tests = [two_sample.rate_test(fitted.labels_ == label, recent, strata) for label in range(fitted.n_clusters)]
    for label, p in enumerate(false_discovery_control([test.p for test in tests])):
        inside = recent & (fitted.labels_ == label)
        if tests[label].effect > 0 and p <= 0.05:
            typical = sorted(np.flatnonzero(inside), key=lambda row: distance[row, label])[:5]
            share = float(inside.sum() / recent.sum())
            clusters.append(
                Cluster(share, share - tests[label].effect, float(p), tuple(ids[int(index)] for index in typical))
            )
    return tuple(sorted(clusters, key=lambda cluster: cluster.before - cluster.share))
