"""The story of a document in a terminal, for `lmworks data why`."""

from typing import TYPE_CHECKING

from lmworks.excerpts import passage_text
from lmworks.report import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from lmworks.data.cleaning.chains import Gone
    from lmworks.data.cleaning.ledger import Entry
    from lmworks.data.cleaning.story import Story
    from lmworks.excerpts import Piece
    from lmworks.records import LeftOut

_WENT = 10  # documents that went for the sake of one, shown at most
_VERDICT = {"kept": "green", "cut": "yellow", "dropped": "bold red", "gone": "dim"}


def print_story(console: "Console", story: "Story") -> None:
    """All of a story, the verdict first."""
    first = story.entries[0]
    console.print(f"\n{shown(first.document)}", style="bold", highlight=False, soft_wrap=True)
    console.print(_verdict(story), highlight=False, soft_wrap=True)
    language = f", language {shown(first.language)}" if first.language else ""
    line = f"hash {first.hash[:16]}…, source {shown(first.source)}, kind {shown(first.kind)}{language}"
    console.print(line, style="dim", highlight=False, soft_wrap=True)
    _print_steps(console, story)
    _print_passed(console, story)
    _print_cuts(console, story)
    _print_twins(console, story)
    _print_went(console, story)
    if story.evaluation_item is not None:
        share = "" if story.contamination is None else f", {story.contamination:.0%} of it"
        console.print(f"\nHolds the evaluation item {shown(story.evaluation_item)}{share}", highlight=False)
    if story.missing:
        line = f"Texts and near values are not shown: {shown(story.missing)}"
        console.print(f"\n{line}", style="yellow", highlight=False)
    for line in story.unreadable:
        console.print(shown(line), style="yellow", highlight=False, soft_wrap=True)


def print_left_out(console: "Console", item: "LeftOut") -> None:
    console.print(f"\n{shown(item.uri)}", style="bold", highlight=False, soft_wrap=True)
    files = f" ({item.count:,} files)" if item.count > 1 else ""
    line = f"[bold red]became no document[/bold red]{files}: {shown(item.reason)}"
    console.print(line, highlight=False, soft_wrap=True)


def _verdict(story: "Story") -> str:
    before, after = story.entries[0].characters_before, story.entries[-1].characters_after
    if story.stays:
        cut = f", {after:,} of {before:,} characters of it" if after != before else ""
        return f"[green]stays[/green]{cut}"
    step = next(entry for entry in story.entries if entry.verdict == "dropped")
    first = reasons(step, _then(story))[0]
    also = [entry.step for entry in story.entries if entry.verdict == "gone" and entry.reasons]
    more = f"; {', '.join(also)} would have, too" if also else ""
    return f"[bold red]dropped by {shown(step.step)}[/bold red]: {shown(first)}{shown(more)}"


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
        if why := story.untouched.get(entry.step):
            verdict = f"[dim]{shown(why)}[/dim]"
        table.add_row(shown(entry.step), verdict, change)
    console.print()
    console.print(table, highlight=False)
    _print_why(console, story)


def _print_why(console: "Console", story: "Story") -> None:
    """A line each, below the table: in a column of it, names of measures and documents would break."""
    then = _then(story)
    lines = [f"{entry.step}: {why}" for entry in story.entries for why in (*reasons(entry, then), *_cuts(entry))]
    if lines:
        console.print("\nWhy", style="bold")
    for line in lines:
        console.print(f"  {shown(line)}", highlight=False, soft_wrap=True)


def _then(story: "Story") -> "Mapping[str, Sequence[Gone]]":
    return {twin.twin: twin.then for twin in story.twins}


def reasons(entry: "Entry", then: "Mapping[str, Sequence[Gone]]") -> list[str]:
    """The reasons that a step has against a document, a line each. `then` says how the twins went themselves."""
    from lmworks.data.cleaning.chains import twin_in_words

    lines = []
    for reason in entry.reasons:
        value = "" if reason.value is None else f" {reason.value:.4g}"
        if reason.twin is not None:
            to = f" to {reason.twin}" if then[reason.twin] else ""  # the last one that is named is another
            similarity = f" (similarity{value}{to})" if value else ""
            twin = twin_in_words(reason.twin, entry.step, then[reason.twin])
            lines.append(f"{reason.rule}: like {twin}{similarity}")
        elif reason.value is not None and reason.threshold is not None:
            side = "at least" if reason.value < reason.threshold else "at most"
            lines.append(f"{reason.rule} is{value}, and {side} {reason.threshold:.6g} is asked for")
        else:
            lines.append(f"{reason.rule}{value}{'' if reason.label is None else f' is {reason.label}'}")
    return lines


def _cuts(entry: "Entry") -> list[str]:
    lines = []
    for rule in dict.fromkeys(cut.rule for cut in entry.cuts):
        cuts = [cut for cut in entry.cuts if cut.rule == rule]
        characters = sum(cut.end - cut.start for cut in cuts)
        places = "1 place" if len(cuts) == 1 else f"{len(cuts):,} places"
        lines.append(f"{rule}: {places}, {characters:,} characters")
    return lines


def _print_passed(console: "Console", story: "Story") -> None:
    if not story.passed:
        return
    console.print("\nPassed with the least margin", style="bold")
    for passed in story.passed:
        line = f"{passed.step}: {passed.rule} is {passed.value:.4g}, {passed.side} {passed.threshold:.6g} is asked for"
        console.print(f"  {shown(line)} [dim]({passed.margin:.0%} away)[/dim]", highlight=False)


def _print_cuts(console: "Console", story: "Story") -> None:
    if not story.cuts:
        return
    console.print("\nWhat was cut", style="bold")
    for cut in story.cuts:
        places = "1 place" if cut.places == 1 else f"{cut.places:,} places"
        console.print(f"  {shown(cut.step)}: {shown(cut.rule)} [dim]({places})[/dim]", highlight=False)
        for excerpt in cut.excerpts:
            _print_excerpt(console, excerpt)


def _print_twins(console: "Console", story: "Story") -> None:
    from lmworks.data.cleaning.chains import twin_in_words

    for twin in story.twins:
        to = f" to {shown(twin.twin)}" if twin.then else ""
        similarity = "" if twin.similarity is None else f", similarity {twin.similarity:.3f}{to}"
        console.print(f"\nIts twin, which {'went itself' if twin.then else 'stays'}", style="bold")
        name = twin_in_words(twin.twin, twin.step, twin.then) if twin.then else twin.twin
        line = f"  {shown(name)} [dim]({shown(twin.rule)}{similarity})[/dim]"
        console.print(line, highlight=False, soft_wrap=True)
        if twin.because:
            console.print(f"    why that one: {twin.because}", style="dim", highlight=False)
        for other, mine in twin.differences:
            console.print("    the twin has", style="dim")
            _print_excerpt(console, other)
            console.print("    this one has", style="dim")
            _print_excerpt(console, mine)


def _print_went(console: "Console", story: "Story") -> None:
    """The first of those that went for its sake, and how many there are. Some went for one that went in turn."""
    if not story.went:
        return
    document = story.entries[0].document
    heading = "1 document" if len(story.went) == 1 else f"{len(story.went):,} documents"
    console.print(f"\nFor its sake {heading} went", style="bold", highlight=False)
    for each in story.went[:_WENT]:
        similarity = "" if each.similarity is None else f", similarity {each.similarity:.3f}"
        between = f", for {shown(each.twin or '')}" if each.twin != document else ""
        line = f"  {shown(each.document)} [dim]({shown(each.step)}: {shown(each.rule)}{similarity}{between})[/dim]"
        console.print(line, highlight=False, soft_wrap=True)
    if len(story.went) > _WENT:
        console.print(f"  and {len(story.went) - _WENT:,} more", highlight=False)


def _print_excerpt(console: "Console", pieces: "tuple[Piece, ...]") -> None:
    """Without its blank lines, and indented."""
    from rich.padding import Padding
    from rich.text import Text

    lines = [line for line in passage_text(pieces, colour=bool(console.color_system)).split("\n") if line.plain.strip()]
    console.print(Padding(Text("\n").join(lines), (0, 0, 0, 4), expand=False), highlight=False)
