"""The examples in the report: a part for each rule that opens, each text with what went of it marked."""

from collections.abc import Mapping, Sequence

from lmworks.data.cleaning.chains import Gone, twin_in_words
from lmworks.data.cleaning.examples import NEAR, Example
from lmworks.data.cleaning.writing import REPAIR
from lmworks.excerpts import Passage
from lmworks.report import Fold, Section

PERSONAL = (
    "The report shows texts as they were before cleaning, so it holds the personal data and credentials that were cut: "
    "do not pass it on with the documents."
)
NOBODY: Mapping[str, Sequence[Gone]] = {}
_ORDER = ("dropped", "cut", "nearly dropped", "nearly cut")


def examples_section(
    names: Sequence[str], examples: Sequence[Example], then: Mapping[str, Sequence[Gone]] = NOBODY
) -> Section:
    """By step, in the order of the policy, and rule. `then`: how the twins of examples went themselves."""
    by_rule: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        by_rule.setdefault((example.step, example.rule), []).append(example)
    order = {name: number for number, name in enumerate(names)}
    ranked = sorted(by_rule, key=lambda key: (order.get(key[0], len(order)), key[1]))
    text = (
        "Some documents of each rule, drawn by hashes of their names: what it dropped, what it cut (struck through, "
        "with what was written in its place; grey is what other rules cut), and what it nearly took, the nearest "
        f"first: documents that stay, with a value within {NEAR:.0%} of the threshold, or, where that is a share, "
        f"within {NEAR:.0%} of the way from there to 0 or 1, whichever is nearer. {PERSONAL}"
    )
    folds = tuple(_fold(*key, by_rule[key], then) for key in ranked)
    text = text if folds else "No rule dropped, cut or nearly dropped a document."
    return Section("Examples", text, folds=folds, page_only=True)


def _fold(step: str, rule: str, examples: Sequence[Example], then: Mapping[str, Sequence[Gone]]) -> Fold:
    shown = sorted(examples, key=lambda example: (_ORDER.index(example.how), *example.rank))
    counts = [(sum(example.how == how for example in shown), how) for how in _ORDER]
    told = ", ".join(f"{count} {how}" for count, how in counts if count)
    passages = tuple(Passage(example.document, example.pieces, note_of(example, then)) for example in shown)
    return Fold(f"{step}: {rule} ({told})", passages=passages)


def note_of(example: Example, then: Mapping[str, Sequence[Gone]] = NOBODY) -> str:
    """Why an example is shown, in words. `then`: how its twin went itself."""
    if example.how == "cut":
        return "repaired" if example.step == REPAIR else "cut"
    value = "" if example.value is None else f"{example.value:,.4g}"
    threshold = "" if example.threshold is None else f"{example.threshold:,.6g}"
    if example.how == "nearly cut":
        return f"left as it is: its score is {value}, and {threshold} is asked for"
    if example.how == "nearly dropped":
        side = "at least" if (example.value or 0.0) >= (example.threshold or 0.0) else "at most"
        return f"stays: it has {value}, and {side} {threshold} is asked for"
    parts = ["dropped"]
    if example.twin is not None:
        chain = then.get(example.twin, ())
        twin = twin_in_words(example.twin, example.step, chain)
        to = f" to {example.twin}" if chain else ""  # the last one that is named is another
        parts.append(f"like {twin}, with a similarity of {value}{to}")
    elif value and threshold:
        side = "at least" if (example.value or 0.0) < (example.threshold or 0.0) else "at most"
        parts.append(f"it has {value}, and {side} {threshold} is asked for")
    if example.label is not None:
        parts.append(example.label)
    return ": ".join(parts[:2]) + (f" ({parts[2]})" if len(parts) > 2 else "")
