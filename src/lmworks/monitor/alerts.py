"""Alerts: rules over columns of the log and over drift, checked at a cadence, delivered, and kept with their evidence.

An alert is open from the first check that warns or alarms to the first that does not. It is delivered when it opens or
becomes worse, and again every `renotify_hours`. A delivery that fails is tried again at the next check, and shown. Too
few values are "no data", which is no alarm unless the rule says so. For `alerts.toml` see `docs/monitor.md`.
"""

import json
import math
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TextIO
from urllib.parse import urlsplit

import numpy as np

from lmworks.artefact import hash_json
from lmworks.config import read_toml, to_mapping, unknown
from lmworks.monitor.drift import HOUR, DriftConfig, catch_up, read_rows
from lmworks.monitor.filter import parse
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.otlp import NoRedirects
from lmworks.monitor.signals import Tokenize

DELIVERED = "alerts.jsonl"
_MOST = 20_000  # values that a quantile is taken of, the newest
_COLUMNS = ("seconds", "confidence", "log_probability", "input_tokens", "output_tokens", "abstained")
_SQL = {
    **dict(zip(_COLUMNS, _COLUMNS, strict=True)),
    "failed": "CASE WHEN error != '' THEN 1 ELSE 0 END",
    "thumbs_down": "CASE thumbs WHEN 'down' THEN 1 WHEN 'up' THEN 0 END",
}
_SEVERITY = {"warn": 1, "alarm": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold. `signal` is seconds, confidence, log_probability, input_tokens, output_tokens, abstained, failed,
    thumbs_down or "outcome:NAME"; the mean of one of the last three is a share.

    `below` alarms under the threshold instead of over it. `minutes` is the window, `every_minutes` the cadence.
    """

    signal: str
    statistic: Literal["mean", "count", "p50", "p90", "p95", "p99"] = "mean"
    warn: float | None = None
    alarm: float | None = None
    below: bool = False
    filter: str = ""
    minutes: float = 60.0
    every_minutes: float = 5.0
    minimum: int = 20
    no_data: Literal["ok", "warn", "alarm"] = "ok"
    renotify_hours: float = 24.0

    def __post_init__(self) -> None:
        if self.signal not in _SQL and not self.signal.startswith("outcome:"):
            raise ValueError(unknown("signal", self.signal, (*_SQL, "outcome:NAME")))
        lengths = self.minutes, self.every_minutes, self.minimum, self.renotify_hours
        if (self.warn is None and self.alarm is None) or min(lengths) <= 0:
            raise ValueError("a rule needs warn or alarm; its times and its minimum must be positive")
        if self.signal.startswith("outcome:") and self.filter:
            raise ValueError("an outcome has no columns to filter: leave filter out")
        parse(self.filter)


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """`alerts.toml`. `deliver` names stderr, file (`alerts.jsonl` next to it) and http:// or https:// addresses."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    drift: DriftConfig = field(default_factory=DriftConfig)
    deliver: tuple[str, ...] = ("stderr", "file")

    def __post_init__(self) -> None:
        for to in self.deliver:
            if to not in ("stderr", "file") and not to.startswith(("http://", "https://")):
                raise ValueError(f"deliver to stderr, file, or an http:// or https:// address, not {to!r}")
        if "drift" in self.rules:
            raise ValueError("drift is the name of the table [drift]: call the rule something else")


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of the table `alerts`. `state` is open, resolved or muted (a row that says only until when)."""

    id: str
    rule: str
    time: float
    level: str
    state: str
    signal: str
    notified: float | None
    muted_until: float
    note: str
    evidence: Mapping[str, Any]


def read_config(folder: Path) -> AlertConfig:
    """The configuration of a workspace; the defaults, which watch drift alone, where it has no `alerts.toml`."""
    return read_toml(AlertConfig, folder / "alerts.toml")


def read_alerts(reader: Reader, where: str = "state != 'muted'", values: Sequence[Any] = ()) -> list[Alert]:
    """At most 200, the newest first."""
    columns = ", ".join(column.name for column in fields(Alert))
    rows = reader.rows("alerts", columns, f"{where} ORDER BY time DESC, key DESC LIMIT 200", values)
    return [Alert(*row[:-1], evidence=json.loads(row[-1])) for row in rows]


def muted_rules(reader: Reader, now: float) -> list[tuple[str, float]]:
    """The rules that are muted now, and until when."""
    where = "muted_until > ? GROUP BY rule ORDER BY rule"
    return [(rule, until) for rule, until in reader.rows("alerts", "rule, max(muted_until)", where, [now])]


def mute(log: Log, rule: str, until: float, now: float, note: str = "") -> None:
    """Deliver nothing of a rule until then; it is checked and shown all the same."""
    log.append("alerts", [{"rule": rule, "time": now, "state": "muted", "muted_until": until, "note": note}]).result()


class Watch:
    """Checks the rules that are due. Made once; `check` is called again and again, with the time."""

    def __init__(
        self, log: Log, config: AlertConfig, folder: Path, tokenize: Tokenize | None = None, error: TextIO | None = None
    ) -> None:
        self._log, self._config, self._folder, self._tokenize = log, config, folder, tokenize
        self._error = error or sys.stderr
        self._due: dict[str, float] = {}
        self._now, self._seen = -math.inf, math.inf  # the last check, the last window of drift that was checked

    def check(self, now: float) -> list[Alert]:
        """The alerts that are open. Nothing is checked while the clock stands before an earlier check."""
        if now >= self._now:
            self._now = now
            for name, rule in self._config.rules.items():
                if now >= self._due.get(name, -math.inf):
                    self._due[name] = now + 60 * rule.every_minutes
                    level, evidence = measured(self._log.reader, rule, now)
                    self._advance(name, rule.signal, level, evidence, now, rule.renotify_hours)
            drift = self._config.drift
            measurements = catch_up(self._log, now, drift, self._tokenize)
            rows = read_rows(self._log.reader, since=now - 3 * HOUR * drift.hours)  # older ones are past
            newest = max((row.time for row in rows), default=now)
            first = min(self._seen, *(row.time for row in measurements), newest)
            for row in rows:
                if row.time >= first:
                    self._advance("drift", row.signal, row.level, to_mapping(row), row.time, 24.0)
            self._seen = newest
            for alert in self._open("notified < ? AND note != ''", [now]):
                names = {to: self._log.reader.redactor.text(_shown(to))[0] for to in self._config.deliver}
                self._deliver(alert, [to for to, name in names.items() if name in alert.note], now)
        return self._open()

    def _open(self, where: str = "1 = 1", values: Sequence[Any] = ()) -> list[Alert]:
        return read_alerts(self._log.reader, f"state = 'open' AND {where}", values)

    def _change(self, alert: Alert, **changes: Any) -> None:
        self._log.update("alerts", changes, "id = ?", [alert.id]).result()

    def _advance(
        self, rule: str, signal: str, level: str, evidence: Mapping[str, Any], at: float, hours: float
    ) -> None:
        """Open, change or resolve the alert of a signal; `at` is the time that the evidence is of."""
        last = next(iter(self._open("rule = ? AND signal = ?", [rule, signal])), None)
        if last is not None and level == "ok" and at > last.time:
            self._change(last, state="resolved", note="")
        if level not in _SEVERITY or (last is not None and at < last.time):
            return
        if last is None or _SEVERITY[level] > _SEVERITY[last.level]:
            row = {"id": hash_json([rule, signal, at, level])[:32], "rule": rule, "signal": signal, "time": at}
            opened = {**row, "level": level, "state": "open", "evidence": evidence}
            if not self._log.append("alerts", [opened]).result():
                return  # opened and resolved before
            if last is not None:
                self._change(last, state="resolved", note="became worse")
            last = self._open("id = ?", [row["id"]])[0]
        else:
            self._change(last, evidence=evidence, level=level)
        if self._now - (last.notified or 0.0) >= hours * HOUR:
            self._deliver(last, self._config.deliver, self._now)

    def _deliver(self, alert: Alert, targets: Sequence[str], now: float) -> None:
        if alert.rule in dict(muted_rules(self._log.reader, now)):
            return
        failures = [problem for to in targets if (problem := self._send(to, alert))]
        for problem in failures:
            print(f"lmworks: the alert {alert.rule} was not delivered: {problem}", file=self._error)
        self._change(alert, notified=now, note="not delivered: " + "; ".join(failures) if failures else "")

    def _send(self, to: str, alert: Alert) -> str:
        """Why it could not be delivered, else ""."""
        text = json.dumps({**to_mapping(alert), "text": sentence(alert)})
        try:
            if to == "stderr":
                print(f"lmworks: {sentence(alert)}", file=self._error, flush=True)
            elif to == "file":
                with (self._folder / DELIVERED).open("a", encoding="utf-8") as file:
                    file.write(f"{text}\n")
            else:
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(to, text.encode(), headers, method="POST")
                urllib.request.build_opener(NoRedirects).open(request, timeout=10).close()
        except OSError as error:
            return f"{_shown(to)}: {error}"
        return ""


def _shown(to: str) -> str:
    """A target without its path, which may hold a secret."""
    return f"{urlsplit(to).scheme}://{urlsplit(to).netloc.rpartition('@')[2]}" if "://" in to else to


def sentence(alert: Alert) -> str:
    """An alert in one line."""
    facts = alert.evidence
    if alert.rule == "drift":
        value, expected = (f"{facts[key]:.3g}" if facts.get(key) is not None else "?" for key in ("value", "expected"))
        what = facts.get("change") or f"{value} where {expected} is usual"
        return f"{alert.level}: drift of {alert.signal}: {what} (p {facts['p']:.2g}, adjusted {facts['adjusted']:.2g})"
    value = "no data" if facts.get("value") is None else f"{facts['value']:.4g}"
    return f"{alert.level}: {alert.rule}: {facts['statistic']} of {alert.signal} is {value} ({facts['n']} values)"


def measured(reader: Reader, rule: Rule, now: float) -> tuple[str, Mapping[str, Any]]:
    """The level of a rule at a time, and its evidence: the value, n, and ids of the worst interactions."""
    since = now - 60 * rule.minutes
    if rule.signal.startswith("outcome:"):
        table, column, identifier = "outcomes", "value", "interaction"
        condition, arguments = "name = ?", [rule.signal.removeprefix("outcome:")]
    else:
        table, column, identifier = "interactions", _SQL[rule.signal], "id"
        condition, arguments = reader.compiled(rule.filter)
    where, values = f"time >= ? AND time <= ? AND {condition} AND {column} IS NOT NULL", [since, now, *arguments]
    ((n, value),) = reader.rows(table, f"count(*), avg({column})", where, values)
    evidence: dict[str, Any] = {"value": None, "n": n, "since": since, "until": now, **to_mapping(rule)}
    if rule.statistic != "count" and n < rule.minimum:
        return ("no data" if rule.no_data == "ok" else rule.no_data), evidence | {"missing": rule.minimum - n}
    if rule.statistic == "count":
        value = n
    elif rule.statistic != "mean":
        newest = reader.rows(table, column, f"{where} ORDER BY time DESC LIMIT ?", [*values, _MOST])
        value = np.quantile([row[0] for row in newest], int(rule.statistic[1:]) / 100)
    evidence["value"], sign = float(value), -1 if rule.below else 1
    limits = (("alarm", rule.alarm), ("warn", rule.warn))
    passed = [name for name, limit in limits if limit is not None and sign * (float(value) - limit) > 0]
    if not passed:
        return "ok", evidence
    order = "ASC" if rule.below else "DESC"
    worst = reader.rows(table, identifier, f"{where} ORDER BY {column} {order} LIMIT 50", values)
    return passed[0], evidence | {"examples": [row[0] for row in worst if row[0]]}
