"""The explanation of a document in a terminal, for `lmworks data why`."""

from collections import Counter
from typing import TYPE_CHECKING

from lmworks.excerpts import Piece, passage_text
from lmworks.records import RejectedRecord
from lmworks.report import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lmworks.corpus.filtering.ledger import Entry
    from lmworks.corpus.report.why import Explanation

_WENT = 10  # documents that went for the sake of one, shown at most
_VERDICT = {"kept": "green", "cut": "yellow", "dropped": "bold red", "gone": "dim", "out_of_scope": "dim"}


def print_explanation(console: "Console", explanation: "Explanation") -> None:
    """All of an explanation, the verdict first."""
    first, last = explanation.entries[0], explanation.entries[-1]
    before, after = first.characters_before, last.characters_after
    _print(console, f"\n[bold]{shown(first.document)}[/bold]")
    if explanation.stays:
        left = f", {after:,} of {before:,} characters of it" if after != before else ""
        _print(console, f"[green]stays[/green]{left}")
    else:
        step = next(entry for entry in explanation.entries if entry.verdict == "dropped")
        _print(console, f"[bold red]dropped by {shown(step.step)}[/bold red]: {shown(str(step.reasons[0]))}")
    language = f", language {shown(first.language)}" if first.language else ""
    _print(console, f"[dim]hash {first.hash[:16]}…, source {shown(first.source)}, kind {first.kind}{language}[/dim]")
    _print_steps(console, explanation)
    lines: list[str | tuple[Piece, ...]] = []
    for entry in explanation.entries:
        lines += [f"{entry.step}: {reason}" for reason in entry.reasons]
        for rule, places in Counter(cut.rule for cut in entry.cuts).items():
            size = sum(cut.end - cut.start for cut in entry.cuts if cut.rule == rule)
            number = f"{places:,} place{'s' * (places != 1)}"
            lines.append(f"{entry.step}: {rule} cut, {number}, {size:,} characters")
            lines += [pieces for step, of_rule, pieces in explanation.excerpts if (step, of_rule) == (entry.step, rule)]
    _print_list(console, "Why", lines)
    passed = [
        f"{each.step}: {each.rule} {each.value:.4g}, {each.side} {each.threshold:.6g} ({each.margin:.0%} away)"
        for each in explanation.passed
    ]
    _print_list(console, "Passed with the least margin", passed)
    for kept in explanation.kept_duplicates:
        lines = [f"which was dropped itself by {_dropped(entry)}" for entry in kept.then] or ["which stays"]
        if kept.difference is not None:
            lines += ["it has", kept.difference[0], "this one has", kept.difference[1]]
        value = "" if kept.reason.value is None else f", {kept.reason.value:.3f}"
        _print_list(console, f"Kept duplicate ({kept.step}{value}): {kept.reason.kept_duplicate}", lines)
    more = f", of which {_WENT} are" if len(explanation.went) > _WENT else ""
    went = [f"{entry.document}: {_dropped(entry)}" for entry in explanation.went[:_WENT]]
    _print_list(console, f"Dropped in its place: {len(explanation.went):,}{more}", went)
    if explanation.evaluation_item is not None:
        _print(console, f"\nHolds the evaluation item {shown(explanation.evaluation_item)}")
    if explanation.missing:
        _print(console, f"\n[yellow]Texts and near values are not shown: {shown(explanation.missing)}[/yellow]")
    for line in explanation.unreadable:
        _print(console, f"[yellow]{shown(line)}[/yellow]")


def print_rejected(console: "Console", record: "RejectedRecord") -> None:
    files = f" ({record.count:,} files)" if record.count > 1 else ""
    _print(console, f"\n[bold]{shown(record.uri)}[/bold]")
    _print(console, f"[bold red]became no document[/bold red]{files}: {shown(record.reason)}")


def _print_steps(console: "Console", explanation: "Explanation") -> None:
    from rich.table import Table

    table = Table("step", "verdict", "characters", box=None, header_style="dim", pad_edge=False)
    for entry in explanation.entries:
        change = "" if entry.verdict == "gone" else f"{entry.characters_before:,}"
        if change and entry.characters_after != entry.characters_before:
            change += f" → {entry.characters_after:,}"
        verdict = f"[{_VERDICT[entry.verdict]}]{entry.verdict.replace('_', ' ')}[/]"
        table.add_row(shown(entry.step), verdict, change)
    console.print()
    console.print(table, highlight=False)


def _dropped(entry: "Entry") -> str:
    return f"{entry.step}: {entry.reasons[0]}"


def _print_list(console: "Console", title: str, lines: "Sequence[str | tuple[Piece, ...]]") -> None:
    """A title and lines or excerpts below it; nothing where there are none."""
    from rich.padding import Padding
    from rich.text import Text

    if not lines:
        return
    _print(console, f"\n[bold]{shown(title)}[/bold]")
    for line in lines:
        if isinstance(line, str):
            _print(console, f"  {shown(line)}")
            continue
        text = passage_text(line, colour=bool(console.color_system)).split("\n")
        parts = [part for part in text if part.plain.strip()]
        console.print(Padding(Text("\n").join(parts), (0, 0, 0, 4), expand=False), highlight=False)


def _print(console: "Console", text: str) -> None:
    """A line that no word of is broken: names of scores and documents can be searched and copied."""
    console.print(text, highlight=False, soft_wrap=True)
