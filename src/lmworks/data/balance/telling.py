"""What the report of a balancing shows: what came and what goes, repeats, what was short, and what was varied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.balance.augmentation import RULES
from lmworks.data.balance.config import BalanceConfig
from lmworks.data.balance.deciding import REASONS, Decision
from lmworks.data.balance.survey import Survey
from lmworks.data.balance.targets import Cell
from lmworks.data.balance.writing import Varied
from lmworks.report import Figure, Fold, Section, Table, dot_plot

_SHOWN, _DRAWN = 100, 24  # names in a table, and in a drawing


@dataclass(frozen=True, slots=True)
class Flow:
    """Of one source or language: documents and amount that came, documents that go at least once, copies of these
    beyond the first, and the amount that goes. Amounts are in the unit of the config."""

    name: str
    documents: int
    came: int
    used: int
    repeats: int
    goes: int


def flows(names: Sequence[str], place: NDArray[np.integer], decision: Decision) -> list[Flow]:
    """The largest first; what is there to evaluate by is counted, too."""
    copies = decision.copies.astype(np.int64)

    def sums(values: NDArray[np.int64]) -> list[int]:
        found = np.zeros(len(names), np.int64)
        np.add.at(found, place, values)
        return found.tolist()

    ones = np.ones(len(copies), np.int64)
    columns = (
        *(sums(ones), sums(decision.sizes), sums((copies > 0).astype(np.int64))),
        *(sums(np.maximum(copies - 1, 0)), sums(copies * decision.sizes)),
    )
    found = [Flow(name, *row) for name, *row in zip(names, *columns, strict=True)]
    return sorted(found, key=lambda flow: (-flow.came, flow.name))


def sections_of(
    config: BalanceConfig, survey: Survey, decision: Decision, varied: Mapping[str, Varied]
) -> tuple[Section, ...]:
    sources = flows(survey.sources, survey.source, decision)
    languages = flows(survey.languages, survey.language, decision)
    found = [_overview(config, survey, decision, sources), _by_source(config, decision, sources)]
    found.append(_by_language(config, languages))
    if config.factors:
        rows = tuple(
            (str(factor), factor.times, fits)
            for factor, fits in zip(config.factors, decision.counted.fits, strict=True)
        )
        table = Table(("documents with", "count", "documents"), rows)
        found.append(Section("Factors", "Documents that count more or less than once.", (table,)))
    if config.augment:
        found.append(_augmented(config, survey, decision, varied))
    return tuple(found)


def _overview(config: BalanceConfig, survey: Survey, decision: Decision, sources: Sequence[Flow]) -> Section:
    unit, targets = config.unit, decision.targets
    came, goes = sum(flow.came for flow in sources), sum(flow.goes for flow in sources)
    used, repeats = sum(flow.used for flow in sources), sum(flow.repeats for flow in sources)
    text = (
        f"{len(survey):,} documents came in ({came:,} {unit}). {used:,} of them go on, with {repeats:,} repeats of "
        f"these: {goes:,} {unit} of {targets.total:,} that were wanted."
    )
    if targets.scarcest is not None:
        text += (
            f" {_name(targets.scarcest)} sets the size: it gives all that its max_epochs of "
            f"{float(config.epochs_of(targets.scarcest.source)):g} let it give, and with more of the others it would "
            "lack of its share."
        )
    if capped := targets.capped:
        told = ", ".join(map(_name, capped[:_DRAWN])) + (", …" if len(capped) > _DRAWN else "")
        text += f" Short of their shares, within their max_epochs: {told}; the others got what these lack."
    counts = np.bincount(decision.reasons, minlength=len(REASONS)).tolist()
    rows = tuple((reason, count) for reason, count in zip(REASONS[1:], counts[1:], strict=True) if count)
    tables = (Table(("not in the corpus because", "documents"), rows, "balance.parquet has each of them"),)
    return Section("What goes into the corpus", text, tables if rows else ())


def _name(cell: Cell) -> str:
    return f"{cell.source} in {cell.language}" if cell.language else cell.source


def _by_source(config: BalanceConfig, decision: Decision, found: Sequence[Flow]) -> Section:
    """Wanted are the shares before anything was short."""
    targets = decision.targets
    wanted: dict[str, float] = {}
    quotas: dict[str, int] = {}
    caps: dict[str, int] = {}
    for cell in targets.quotas:
        wanted[cell.source] = wanted.get(cell.source, 0.0) + float(targets.shares[cell])
        quotas[cell.source] = quotas.get(cell.source, 0) + targets.quotas[cell]
        caps[cell.source] = caps.get(cell.source, 0) + targets.caps[cell]
    came, goes = sum(flow.came for flow in found), sum(flow.goes for flow in found)
    rows = []
    for flow in found[:_SHOWN]:
        epochs, quota = flow.goes / max(flow.came, 1), quotas.get(flow.name, 0)
        shares = (_percent(flow.came, came), f"{wanted.get(flow.name, 0.0):.2%}", _percent(flow.goes, goes))
        limit = "all it may" if quota and quota == caps[flow.name] else ""
        given = (flow.goes, flow.goes - quota, epochs, flow.repeats, limit)
        rows.append((flow.name, flow.documents, flow.came, *shares, *given))
    header = (
        *("source", "documents", f"{config.unit} came", "share", "wanted", "goes", f"{config.unit} go"),
        *("off by", "epochs", "repeats", "gives"),
    )
    narrow = [header.index(name) for name in ("source", "share", "wanted", "goes", f"{config.unit} go", "epochs")]
    short = Table(tuple(header[at] for at in narrow), tuple(tuple(row[at] for at in narrow) for row in rows))
    folds = (Fold("With documents, repeats and limits", tables=(Table(header, tuple(rows)),)),)
    text = (
        "A source is the folder or file that was read. Share of each before and after; wanted is what it "
        "would be if nothing were scarce. A quota is met to within one document of each part that has one: in the "
        f"report, off by says how far, in {config.unit}." + _cut(found)
    )
    drawn = [flow.name for flow in found[:_DRAWN]]
    points = {
        "came": {flow.name: flow.came / max(came, 1) for flow in found},
        "wanted": {name: wanted.get(name, 0.0) for name in drawn},
        "goes": {flow.name: flow.goes / max(goes, 1) for flow in found},
    }
    return Section("By source", text, (short,), (_drawing(points, drawn, "source"),), folds=folds)


def _by_language(config: BalanceConfig, found: Sequence[Flow]) -> Section:
    came, goes = sum(flow.came for flow in found), sum(flow.goes for flow in found)
    rows = []
    for flow in found[:_SHOWN]:
        bounds = config.languages.get(flow.name)
        told = f"{bounds.at_least:.4g} to {bounds.at_most:.4g}" if bounds else ""
        shares = (_percent(flow.came, came), _percent(flow.goes, goes))
        rows.append((flow.name, flow.documents, flow.came, shares[0], told, shares[1], flow.goes, flow.repeats))
    for name in config.languages.keys() - {flow.name for flow in found}:
        rows.append((name, 0, 0, "0.00%", f"0 to {config.languages[name].at_most:.4g}", "0.00%", 0, 0))
    header = ("language", "documents", f"{config.unit} came", "share", "bounds", "goes", f"{config.unit} go", "repeats")
    drawn = [flow.name for flow in found[:_DRAWN]]
    points = {
        "came": {flow.name: flow.came / max(came, 1) for flow in found},
        "goes": {flow.name: flow.goes / max(goes, 1) for flow in found},
    }
    text = "Share of each language before and after, with its bounds." + _cut(found)
    return Section("By language", text, (Table(header, tuple(rows)),), (_drawing(points, drawn, "language"),))


def _augmented(config: BalanceConfig, survey: Survey, decision: Decision, varied: Mapping[str, Varied]) -> Section:
    rows = []
    for name, share in sorted(config.augment.items()):
        each = varied.get(name, Varied())
        rows.append((name, share, each.chosen, each.written, each.chosen - each.written, each.grown))
    header = ("rule", "of repeats", "chosen", "written", "left alone", "bytes more")
    text = (
        "Repeats that a rule wrote otherwise. Where it found nothing that it may change, the repeat is as its origin; "
        "quotas count a repeat by the size of its origin."
    )
    repeated = {survey.kinds[place] for place in np.unique(survey.kind[decision.copies > 1]).tolist()}
    alarms = tuple(
        f"augment.{name} is for {', '.join(RULES[name].kinds)}, and no document of these kinds is repeated: it writes "
        "nothing. Leave it out, or give the documents their kind."
        for name in sorted(config.augment)
        if repeated.isdisjoint(RULES[name].kinds)
    )
    return Section("Augmentation", text, (Table(header, tuple(rows)),), alarms=alarms)


def _percent(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.2%}"


def _cut(found: Sequence[Flow]) -> str:
    return f" The largest {_SHOWN} of {len(found):,} are shown." if len(found) > _SHOWN else ""


def _drawing(points: Mapping[str, Mapping[str, float]], drawn: Sequence[str], what: str) -> Figure:
    shown = {
        series: {name: (values[name], values[name], values[name]) for name in drawn}
        for series, values in points.items()
    }
    caption = f"Shares of the corpus by {what}" + (f", the largest {_DRAWN}" if len(drawn) == _DRAWN else "")
    return Figure(dot_plot(shown, x="share"), caption)
