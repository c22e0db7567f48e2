"""The data card of a cleaned corpus: what it is made of, what was done to it, what was found in it, and its limits.

It holds no times, so that equal corpora have equal cards.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmworks.data.annotate.pii.scan import MEASURE as PERSONAL_DATA
from lmworks.data.cleaning.flows import Alarm, Amount, Flow, Tally, tally
from lmworks.data.cleaning.policy import Policy
from lmworks.data.cleaning.policy_words import gates, scope_in_words, step_in_words
from lmworks.data.cleaning.profile import ANY, CONTAMINATION, UNKNOWN, Profile
from lmworks.data.reasons import kind_of_reason
from lmworks.records import LeftOut
from lmworks.report import Section, Table

LISTED = 20  # rows of what may be long; the rest is counted
NAMED = 6  # values in one cell


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card tells.

    names     The steps, from repair on, in their order.
    left_out  What became no document.
    hashes    What → the hash that identifies it.
    version   Of lmworks.
    measured  The measures that documents have.
    looked_for  Evaluation items that were looked for: status → how many; None where nothing says which were.
    """

    policy: Policy
    names: Sequence[str]
    flows: Sequence[Flow]
    profile: Profile
    alarms: Sequence[Alarm]
    left_out: Sequence[LeftOut]
    hashes: Mapping[str, str]
    version: str
    measured: frozenset[str] = frozenset()
    looked_for: Mapping[str, int] | None = None

    @property
    def knows_items(self) -> bool:
        """Whether evaluation items were looked for."""
        return CONTAMINATION in self.measured if self.looked_for is None else sum(self.looked_for.values()) > 0

    @property
    def undecided_items(self) -> int:
        """Evaluation items that cannot be told from other text: too short or too common."""
        return sum(count for status, count in (self.looked_for or {}).items() if status.endswith("to decide"))

    def values(self, facet: str, source: str | None = None) -> list[tuple[str, Amount]]:
        """What stays by the values of a facet, of one source or of all, the most frequent first."""
        counts: dict[str, Amount] = {}
        for share in self.profile.shares:
            if share.facet == facet and source in (None, share.source) and share.after.documents:
                one = counts.get(share.value, Amount())
                counts[share.value] = Amount(one.documents + share.after.documents, one.bytes + share.after.bytes)
        return sorted(counts.items(), key=lambda item: (-item[1].documents, item[0]))


def card_sections(facts: Facts) -> tuple[Section, ...]:
    """In the order and under the names that dataset cards have."""
    return (
        _details(facts),
        _sources(facts),
        _processing(facts),
        _personal(facts),
        _contamination(facts),
        _duplicates(facts),
        _structure(facts),
        _limits(facts),
        Section("Versions and Hashes", "", (_hashes(facts),)),
    )


def title_of(facts: Facts) -> str:
    """The names of its largest sources."""
    amounts = facts.profile.amounts(before=False)
    largest = sorted(amounts, key=lambda source: (-amounts[source].bytes, source))
    more = f" and {len(largest) - NAMED} more" if len(largest) > NAMED else ""
    return ", ".join(largest[:NAMED]) + more


def _details(facts: Facts) -> Section:
    steps = tally(facts.flows, lambda flow: flow.step)
    came = steps.get(facts.names[0], Tally()).came
    left = steps.get(facts.names[-1], Tally()).left
    text = (
        f"{left.documents:,} documents of {left.bytes:,} bytes of UTF-8 from {title_of(facts)}, of {came.documents:,} "
        f"documents of {came.bytes:,} bytes that were read. They were cleaned by lmworks by a policy of "
        f"{len(facts.policy.steps)} steps; a ledger says of every document what each step did with it, and why."
    )
    facets = (("languages", "language"), ("licences", "licence"), ("kinds", "kind"))
    rows = tuple((told, _listed(facts.values(facet), most=LISTED)) for told, facet in facets)
    years = ("years", _years(facts.values("year")))
    return Section("Dataset Details", text, (Table(("", "documents"), (*rows, years)),))


def _sources(facts: Facts) -> Section:
    before, after = facts.profile.amounts(before=True), facts.profile.amounts(before=False)
    rows = tuple(
        (
            source,
            *(_listed(facts.values(facet, source)) for facet in ("kind", "licence", "language")),
            _years(facts.values("year", source)),
            before[source].documents,
            after[source].documents,
            before[source].bytes,
            after[source].bytes,
        )
        for source in sorted(before)
    )
    header = ("source", "kind", "licence", "language", "years")
    sizes = ("documents before", "after", "bytes before", "after")
    tables = [Table((*header, *sizes), rows, "Kinds, licences, languages and years of what stays")]
    if facts.left_out:
        tables.append(_left_out(facts.left_out))
    return Section("Source Data", "", tuple(tables))


def _left_out(items: Iterable[LeftOut]) -> Table:
    reasons: Counter[str] = Counter()
    for item in items:
        reasons[kind_of_reason(item.reason)] += item.count
    rows = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return Table(("files that became no document", "number"), _cut_short(rows), "")


def _processing(facts: Facts) -> Section:
    steps = tally(facts.flows, lambda flow: flow.step)
    words = {step.name: (scope_in_words(step), step_in_words(step)) for step in facts.policy.steps}
    words[facts.names[0]] = ("all", "repairs texts by their kinds: page furniture, broken words, quotations, noise")
    words[facts.names[-1]] = ("all", "drops documents of which nothing is left")
    rows = []
    for name in facts.names:
        step = steps.get(name, Tally())
        rows.append((name, *words[name], step.dropped.documents, step.cut, step.taken_bytes))
    header = ("step", "looks at", "what it does", "documents dropped", "documents cut", "bytes taken")
    told = (
        "In this order. A step looks at the documents that its row names, also at those that an earlier one dropped; "
        "one on duplicates only at those that are left"
    )
    tables = [Table(header, tuple(rows), told)]
    dropped = tally((flow for flow in facts.flows if flow.verdict == "dropped"), lambda flow: (flow.step, flow.rule))
    if dropped:
        ranked = sorted(dropped.items(), key=lambda item: (-item[1].dropped.documents, item[0]))
        listed = [(*key, found.dropped.documents, found.dropped.bytes) for key, found in ranked]
        tables.append(Table(("step", "rule", "documents", "bytes"), _cut_short(listed), "Dropped, by the first reason"))
    if facts.profile.cuts:
        cuts = sorted(facts.profile.cuts, key=lambda cut: (-cut.taken, cut.step, cut.rule))
        listed = [(cut.step, cut.rule, cut.documents, cut.places, cut.taken, cut.written) for cut in cuts]
        header = ("step", "rule", "documents", "places", "characters cut", "characters written instead")
        tables.append(Table(header, _cut_short(listed), "Cut"))
    return Section("Data Collection and Processing", "", tuple(tables))


def _personal(facts: Facts) -> Section:
    title = "Personal and Sensitive Information"
    found = facts.profile.personal
    if "personal data" not in gates(facts.policy):
        text = "No step of the policy decides by personal data: what was found of it is in the documents."
    elif PERSONAL_DATA not in facts.measured:
        text = "Personal data were not looked for: `data.annotate` was told to leave them out (`personal`)."
    else:
        text = (
            "Personal data were looked for by patterns and checksums. Names of people and postal addresses were not. "
            "Left on purpose is what is nobody's: e-mail addresses of domains for examples and tests (example.com), "
            "telephone numbers 555-0100 to 555-0199, private, reserved and documentation addresses of machines, and "
            "placeholders of passwords and keys. Card numbers that are published for tests are taken for cards."
        )
    beside = [each for each in facts.profile.beside if each.rule != ANY]
    if not found and not beside:
        return Section(title, f"{text} None was found." if PERSONAL_DATA in facts.measured else text)
    tables = []
    if found:
        rows = tuple((each.rule, each.found, each.documents, each.removed, each.left) for each in found)
        header = ("type", "places found", "in documents", "taken out", "left in what stays")
        told = "In texts. What is left was not taken out as a whole; the other places were in dropped documents"
        tables.append(Table(header, rows, told))
    if beside:
        rows = tuple((each.field, each.rule, each.documents, each.removed, each.left) for each in beside)
        header = ("where", "type", "in documents", "taken out", "left")
        tables.append(Table(header, rows, "Beside the texts of what stays: a uri is what a document is known by"))
    if number := _personal_uris(facts):
        text += f" Documents whose uri, which no step changes, holds personal data: {number:,}."
    return Section(title, text, tuple(tables))


def _personal_uris(facts: Facts) -> int:
    return sum(each.documents for each in facts.profile.beside if (each.field, each.rule) == ("uri", ANY))


def _contamination(facts: Facts) -> Section:
    title = "Contamination with Evaluation Items"
    items = facts.profile.items
    if not facts.knows_items:
        return Section(title, "Not looked for: `data.annotate` takes files of evaluation items (`evaluation`).")
    told = f"Evaluation items that were looked for: {sum(facts.looked_for.values()):,}. " if facts.looked_for else ""
    if facts.undecided_items:
        told += f"Of them too short or too common to decide: {facts.undecided_items:,}. "
    if not items:
        return Section(title, f"{told}None of the items that were looked for was found.")
    documents, stay = sum(item.documents for item in items), sum(item.stay for item in items)
    text = (
        f"{told}Evaluation items that were found: {len(items):,}, in {documents:,} documents, of which {stay:,} stay. "
        "Of a document that holds several, the one of which it holds most is counted."
    )
    ranked = sorted(items, key=lambda item: (-item.stay, -item.share, item.item))
    rows = [(item.item, item.documents, item.stay, f"{item.share:.0%}") for item in ranked]
    return Section(title, text, (Table(("item", "documents", "of them stay", "highest share"), _cut_short(rows)),))


def _duplicates(facts: Facts) -> Section:
    steps = tally(facts.flows, lambda flow: flow.step)
    rows = []
    for step in facts.policy.steps:
        if step.duplicates:
            found = steps.get(step.name, Tally())
            rows.append((step.name, step_in_words(step), found.dropped.documents, found.cut, found.taken_bytes))
    if not rows:
        return Section("Duplicates", "No step of the policy decides by duplicates: they are in the documents.")
    text = "Of documents that are alike one stays: of a known licence before others, then by quality, length and name."
    header = ("step", "what it does", "documents dropped", "documents cut", "bytes taken")
    return Section("Duplicates", text, (Table(header, tuple(rows)),))


def _structure(facts: Facts) -> Section:
    ranked = sorted(facts.profile.metadata, key=lambda each: (-each[1], each[0]))
    others = [(name, Amount(number)) for name, number in ranked if name != "extracted"]
    kept = f"; of what was read, in so many documents: {_listed(others, most=LISTED)}" if others else ""
    rows = (
        ("hash", "SHA-256 of `text`"),
        ("text", "the cleaned text"),
        ("uri", "the source and the place in it; unique"),
        ("source, kind", "the name of the source, and what sort of text it has"),
        ("title, date, language", "as the source says, or as they were found; null where that is unknown"),
        ("licence", "what source and text say together, an SPDX expression; null where neither says anything"),
        ("media_type, extractor, extractor_version, source_hash", "the file it is from, and what made a text of it"),
        ("metadata", f"`extracted`: the SHA-256 of the text before it was cleaned{kept}"),
    )
    text = (
        "`documents/*.jsonl` has a document on each line. `edits.jsonl` leads from each back to the text that was "
        "extracted, `ledger.parquet` says what every step did with every document, those that were dropped too."
    )
    return Section("Dataset Structure", text, (Table(("field", "what it is"), rows),))


def _limits(facts: Facts) -> Section:
    return Section("Bias, Risks, and Limitations", "\n".join(f"- {each}" for each in known_limits(facts)))


def known_limits(facts: Facts) -> list[str]:
    """What a user of the corpus has to know, in sentences."""
    decided = gates(facts.policy)
    told = [f"{alarm}: the policy may be wrong for this source." for alarm in facts.alarms]
    for facet in ("licence", "language"):
        unknown = dict(facts.values(facet)).get(UNKNOWN, Amount()).documents
        if unknown:
            told.append(f"Documents of unknown {facet}: {unknown:,}.")
        if facet not in decided:
            told.append(f"No step decides by the {facet} of documents.")
    if "quality" not in decided:
        told.append("No step decides by the quality of texts.")
    if not facts.knows_items:
        told.append("Evaluation items were not looked for: scores of models that learn from this may be too high.")
    if facts.undecided_items:
        told.append(f"Evaluation items that cannot be decided, and may be in the texts: {facts.undecided_items:,}.")
    absent = {name for step in facts.policy.steps for name in step.all_limits} - facts.measured - {CONTAMINATION}
    if absent:
        named = ", ".join(sorted(absent))
        told.append(f"No document has these measures, so that the limits on them decide nothing: {named}.")
    beside = sum(each.left for each in facts.profile.beside if each.rule == ANY and each.field != "uri")
    if left := sum(each.left for each in facts.profile.personal) + beside:
        told.append(f"Places that may be personal data, and are left as they were: {left:,}.")
    if number := _personal_uris(facts):
        told.append(f"Documents whose uri, which no step changes, holds personal data: {number:,}.")
    if any(each.removed for each in facts.profile.personal):
        told.append(
            "`extracted` is a hash of the text with the personal data that were taken out of it: who knows the rest of "
            "a short text can try out what was there."
        )
    told.append("Personal data of types that no pattern describes, such as the names of people, are not found.")
    if "duplicates" in decided:
        told.append("Near duplicates are proposed by MinHash, which misses some pairs close to the threshold.")
    told.append("Languages are told by a model, which is less sure of short and of mixed texts.")
    if files := sum(item.count for item in facts.left_out):
        told.append(f"Files that became no document: {files:,} (see Source Data).")
    told.append("Nothing was done about opinions, stereotypes or errors of fact in the sources.")
    return told


def _hashes(facts: Facts) -> Table:
    return Table(("what", "version or SHA-256"), (("lmworks", facts.version), *facts.hashes.items()))


def _listed(values: Sequence[tuple[str, Amount]], most: int = NAMED) -> str:
    """'en (700), de (3) and 2 more'."""
    told = ", ".join(f"{value or 'unknown'} ({amount.documents:,})" for value, amount in values[:most])
    return told + (f" and {len(values) - most} more" if len(values) > most else "")


def _years(values: Sequence[tuple[str, Amount]]) -> str:
    years = sorted(value for value, _ in values if value != UNKNOWN)
    unknown = dict(values).get(UNKNOWN, Amount()).documents
    parts = [years[0] if years[0] == years[-1] else f"{years[0]} to {years[-1]}"] if years else []
    return ", ".join([*parts, *([f"unknown ({unknown:,})"] if unknown else [])])


def _cut_short(rows: Sequence[tuple]) -> tuple[tuple, ...]:
    """The first rows; what is left out is counted in a last one."""
    if len(rows) <= LISTED:
        return tuple(rows)
    blank = [""] * (len(rows[0]) - 1)
    return (*rows[:LISTED], (f"and {len(rows) - LISTED:,} more", *blank))
