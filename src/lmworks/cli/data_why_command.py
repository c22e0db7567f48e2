"""The story of a document in a terminal, for `lmworks data why`."""

from typing import TYPE_CHECKING

from lmworks.excerpts import passage_text
from lmworks.report import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lmworks.corpus.filtering.ledger import Entry
    from lmworks.corpus.report.queries import Gone
    from lmworks.corpus.report.why import Story
    from lmworks.excerpts import Piece
    from lmworks.records import RejectedRecord

_WENT = 10  # documents that went for the sake of one, shown at most
_VERDICT = {"kept": "green", "cut": "yellow", "dropped": "bold red", "gone": "dim"}


def print_story(console: "Console", story: "Story") -> None:
    """All of a story, the verdict first."""
    first = story.entries[0]
    _print(console, f"\n[bold]{shown(first.document)}[/bold]")
    _print(console, _verdict(story))
    language = f", language {shown(first.language)}" if first.language else ""
    _print(console, f"[dim]hash {first.hash[:16]}…, source {shown(first.source)}, kind {first.kind}{language}[/dim]")
    _print_steps(console, story)
    lines = [f"{entry.step}: {why}" for entry in story.entries for why in _reasons(entry)]
    for cut in story.cuts:
        places = "1 place" if cut.places == 1 else f"{cut.places:,} places"
        lines.append(f"{cut.step}: {cut.rule} cut, {places}, {cut.characters:,} characters")
    _print_list(console, "Why", lines)
    passed = [
        f"{p.step}: {p.rule} {p.value:.4g}, {p.side} {p.threshold:.6g} ({p.margin:.0%} away)" for p in story.passed
    ]
    _print_list(console, "Passed with the least margin", passed)
    for cut in story.cuts:
        _print_list(console, f"Cut by {cut.step}: {cut.rule}", cut.excerpts)
    for kept in story.kept_duplicates:
        similarity = "" if kept.similarity is None else f", similarity {kept.similarity:.3f}"
        title = f"Kept duplicate ({kept.step}: {kept.rule}{similarity}): {kept.document}"
        lines = [f"which was dropped itself by {_gone(each)}" for each in kept.then] or ["which stays"]
        if kept.order:
            lines.append(f"this one: {_rank(kept.order[0])}; the kept one: {_rank(kept.order[1])}")
        for other, mine in kept.differences:
            lines += ["it has", other, "this one has", mine]
        _print_list(console, title, lines)
    went = [f"{each.document}: {_gone(each)}" for each in story.went[:_WENT]]
    more = f", of which {_WENT} are" if len(story.went) > _WENT else ""
    _print_list(console, f"Dropped for its sake: {len(story.went):,}{more}", went)
    if story.evaluation_item is not None:
        share = "" if story.contamination is None else f", {story.contamination:.0%} of it"
        _print(console, f"\nHolds the evaluation item {shown(story.evaluation_item)}{share}")
    if story.missing:
        _print(console, f"\n[yellow]Texts and near values are not shown: {shown(story.missing)}[/yellow]")
    for line in story.unreadable:
        _print(console, f"[yellow]{shown(line)}[/yellow]")


def print_left_out(console: "Console", item: "RejectedRecord") -> None:
    files = f" ({item.count:,} files)" if item.count > 1 else ""
    _print(console, f"\n[bold]{shown(item.uri)}[/bold]")
    _print(console, f"[bold red]became no document[/bold red]{files}: {shown(item.reason)}")


def _verdict(story: "Story") -> str:
    before, after = story.entries[0].characters_before, story.entries[-1].characters_after
    if story.stays:
        return "[green]stays[/green]" + (f", {after:,} of {before:,} characters of it" if after != before else "")
    step = next(entry for entry in story.entries if entry.verdict == "dropped")
    also = [entry.step for entry in story.entries if entry.verdict == "gone" and entry.reasons]
    more = f"; {', '.join(also)} would have, too" if also else ""
    return f"[bold red]dropped by {shown(step.step)}[/bold red]: {shown(_reasons(step)[0])}{shown(more)}"


def _print_steps(console: "Console", story: "Story") -> None:
    from rich.table import Table

    table = Table("step", "verdict", "characters", box=None, header_style="dim", pad_edge=False)
    for entry in story.entries:
        change = f"{entry.characters_before:,}"
        if entry.verdict == "gone":
            change = ""
        elif entry.characters_after != entry.characters_before:
            change += f" → {entry.characters_after:,}"
        verdict = f"[{_VERDICT[entry.verdict]}]{entry.verdict}[/]"
        if entry.verdict == "kept" and entry.step in story.out_of_scope:
            verdict = "[dim]out of scope[/dim]"
        table.add_row(shown(entry.step), verdict, change)
    console.print()
    console.print(table, highlight=False)


def _reasons(entry: "Entry") -> list[str]:
    """The reasons that a step has against a document, a line each."""
    lines = []
    for reason in entry.reasons:
        value = "" if reason.value is None else f" {reason.value:.4g}"
        threshold = "" if reason.threshold is None else f", threshold {reason.threshold:.6g}"
        label = "" if reason.label is None else f" ({reason.label})"
        twin = "" if reason.twin is None else f", duplicate of {reason.twin}"
        lines.append(f"{reason.rule}{value}{threshold}{label}{twin}")
    return lines


def _rank(order: "tuple[str | None, float | None, int, str]") -> str:
    licence, quality, characters, _ = order
    measured = "" if quality is None else f", quality {quality:.3g}"
    return f"licence {licence or 'unknown'}{measured}, {characters:,} characters"


def _gone(each: "Gone") -> str:
    similarity = "" if each.similarity is None else f" {each.similarity:.3f}"
    twin = "" if each.twin is None else f", duplicate of {each.twin}"
    return f"{each.step}: {each.rule}{similarity}{twin}"


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
    """A line that no word of is broken: names of measures and documents can be searched and copied."""
    console.print(text, highlight=False, soft_wrap=True)
