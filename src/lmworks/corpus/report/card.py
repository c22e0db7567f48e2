"""The data card of a cleaned corpus as Markdown, with the head in YAML that dataset hubs read (hub documentation of
Hugging Face, "Dataset Cards"): what it is made of, what was done to it, what was found in it, and its limits.

It holds no times, so that equal corpora have equal cards.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmworks.corpus.filtering.flows import Alarm, Tally, tally
from lmworks.corpus.report.queries import CONTAMINATION, Cleaning
from lmworks.corpus.taggers.pii.scan import MEASURE as PERSONAL_DATA
from lmworks.excerpts import visible
from lmworks.records import RejectedRecord
from lmworks.report import Section, Table, format_cell

CARD = "data_card.md"
LISTED = 20  # rows of what may be long; the rest is counted
NAMED = 6  # values in one cell

# Names that the hub knows; any other licence is "other" there.
_LICENCES = frozenset(
    {
        "apache-2.0", "mit", "openrail", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
        "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
        "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0",
        "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
        "afl-3.0", "artistic-2.0", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0",
        "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql", "ofl-1.1", "ncsa",
        "unlicense", "zlib", "pddl",
    }
)  # fmt: skip
_SAME = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
_UNITS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_FIELDS = (
    ("hash", "SHA-256 of `text`"),
    ("text", "the cleaned text"),
    ("uri", "the source and the place in it; unique"),
    ("source, kind", "the name of the source, and what sort of text it has"),
    ("title, date, language", "as the source says, or as they were found; null where that is unknown"),
    ("licence", "what source and text say together, an SPDX expression; null where neither says anything"),
    ("media_type, extractor, extractor_version, source_hash", "the file it is from, and what made a text of it"),
)
_LIMITS = (
    "Personal data of types that no pattern describes, such as the names of people, are not found.",
    "`extracted` is a hash of the text with its personal data: who knows the rest of a short text can try them out.",
    "Near duplicates are proposed by MinHash, which misses some pairs close to the threshold.",
    "Languages are told by a model, which is less sure of short and of mixed texts.",
    "Nothing was done about opinions, stereotypes or errors of fact in the sources.",
)


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says that no query of the cleaning answers: what became no document, what → the hash that identifies
    it, and of evaluation items that were looked for, status → how many (None where nothing says which were)."""

    cleaning: Cleaning
    alarms: Sequence[Alarm] = ()
    left_out: Sequence[RejectedRecord] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    evaluation_items: Mapping[str, int] | None = None


def card_sections(facts: CardFacts) -> tuple[Section, ...]:
    """In the order and under the names that dataset cards have."""
    return (
        _details(facts.cleaning),
        _sources(facts),
        _processing(facts.cleaning),
        _personal(facts.cleaning),
        _contamination(facts),
        _structure(facts.cleaning),
        Section("Bias, Risks, and Limitations", "\n".join(f"- {each}" for each in known_limits(facts))),
        Section("Versions and Hashes", "", (Table(("what", "version or SHA-256"), tuple(facts.versions.items())),)),
    )


def _details(cleaning: Cleaning) -> Section:
    steps = tally(cleaning.flows, lambda flow: flow.step)
    came, left = steps.get(cleaning.steps[0], Tally()).came, steps.get(cleaning.steps[-1], Tally()).left
    text = (
        f"{left} from {_title(cleaning)}, of {came} that were read, cleaned by lmworks by a policy of "
        f"{len(cleaning.policy.steps)} steps; a ledger says of every document what each step did with it, and why."
    )
    names = {"languages": "language", "licences": "licence", "kinds": "kind", "years": "year"}
    rows = tuple((name, _listed(cleaning.values(facet), LISTED)) for name, facet in names.items())
    return Section("Dataset Details", text, (Table(("", "documents"), rows),))


def _title(cleaning: Cleaning) -> str:
    """The names of the largest sources of what stays."""
    sources = tally(cleaning.flows, lambda flow: (flow.source, flow.step))
    left = {source: each.left for (source, step), each in sources.items() if step == cleaning.steps[-1]}
    return _listed_names(sorted(left, key=lambda source: (-left[source].bytes, source))) or "Documents"


def _sources(facts: CardFacts) -> Section:
    cleaning = facts.cleaning
    steps = tally(cleaning.flows, lambda flow: (flow.source, flow.step))
    rows = []
    for source in sorted({source for source, _ in steps}):
        before = steps[source, cleaning.steps[0]].came
        after = steps.get((source, cleaning.steps[-1]), Tally()).left
        values = (_listed(cleaning.values(facet, source)) for facet in ("kind", "licence", "language", "year"))
        rows.append((source, *values, before.documents, after.documents, before.bytes, after.bytes))
    header = ("source", "kind", "licence", "language", "year", "documents", "stay", "bytes", "stay")
    tables = [Table(header, tuple(rows), "Kinds, licences, languages and years of what stays")]
    if facts.left_out:
        reasons: Counter[str] = Counter()
        for item in facts.left_out:  # a reason without what is true of one file alone
            reasons[re.sub(r"(?: \([^()]*\))+$|:.*", "", item.reason)] += item.count
        tables.append(Table(("files that became no document", "number"), _cut_short(_ranked(reasons))))
    return Section("Source Data", "", tuple(tables))


def _processing(cleaning: Cleaning) -> Section:
    steps = tally(cleaning.flows, lambda flow: flow.step)
    about = {step.name: (step.scope, str(step)) for step in cleaning.policy.steps}
    about[cleaning.steps[0]] = ("all", "repairs texts by their kinds")
    about[cleaning.steps[-1]] = ("all", "drops documents of which nothing is left")
    rows = []
    for name in cleaning.steps:
        step = steps.get(name, Tally())
        rows.append((name, *about[name], step.dropped.documents, step.cut, step.taken_bytes))
    header = ("step", "looks at", "rules", "documents dropped", "documents cut", "bytes taken")
    tables = [Table(header, tuple(rows), "In this order; steps on duplicates look only at documents that are left")]
    gone = tally((flow for flow in cleaning.flows if flow.verdict == "dropped"), lambda flow: (flow.step, flow.rule))
    dropped = [(*key, each.dropped.documents, each.dropped.bytes) for key, each in gone.items()]
    dropped.sort(key=lambda row: (-row[2], row[:2]))
    if dropped:
        header = ("step", "rule", "documents", "bytes")
        tables.append(Table(header, _cut_short(dropped), "Dropped, by the first reason"))
    if cleaning.cut_rules:
        header = ("step", "rule", "documents", "places", "characters cut", "characters written instead")
        tables.append(Table(header, _cut_short(cleaning.cut_rules), "Cut"))
    return Section("Data Collection and Processing", "", tuple(tables))


def _personal(cleaning: Cleaning) -> Section:
    title = "Personal and Sensitive Information"
    if PERSONAL_DATA not in cleaning.measured:
        return Section(title, "Personal data were not looked for (`personal` of data.annotate).")
    text = (
        "Personal data were looked for by patterns and checksums. Names of people and postal addresses were not. "
        "Left on purpose is what is nobody's: e-mail addresses of domains for examples and tests (example.com), "
        "telephone numbers 555-0100 to 555-0199, private, reserved and documentation addresses of machines, and "
        "placeholders of passwords and keys. Card numbers that are published for tests are taken for cards."
    )
    tables = []
    if found := cleaning.personal_data:
        header = ("type", "places found", "in documents", "taken out", "left in what stays")
        tables.append(Table(header, tuple(found), "In texts; a place is taken out where nothing of it is left"))
    if beside := tuple(row for row in cleaning.personal_fields if row[1]):
        header = ("where", "type", "in documents", "taken out", "left")
        tables.append(Table(header, beside, "Beside the texts of what stays: no step changes a uri"))
    return Section(title, text if tables else f"{text} None was found.", tuple(tables))


def _contamination(facts: CardFacts) -> Section:
    title, looked_for = "Contamination with Evaluation Items", facts.evaluation_items or {}
    if not _knows_items(facts):
        return Section(title, "Not looked for: `data.annotate` takes files of evaluation items (`evaluation`).")
    text = f"Evaluation items that were looked for: {sum(looked_for.values()):,}. " if looked_for else ""
    if undecided := _undecided(facts):
        text += f"Of them too short or too common to decide: {undecided:,}. "
    items = facts.cleaning.evaluation_items()
    documents, stay = sum(row[1] for row in items), sum(row[2] for row in items)
    text += f"Evaluation items that were found: {len(items):,}, in {documents:,} documents, of which {stay:,} stay."
    rows = [(item, documents, stay, f"{share:.0%}") for item, documents, stay, share in items]
    table = Table(("item", "documents", "of them stay", "highest share"), _cut_short(rows))
    return Section(title, text, (table,) if rows else ())


def _knows_items(facts: CardFacts) -> bool:
    if facts.evaluation_items is None:
        return CONTAMINATION in facts.cleaning.measured
    return sum(facts.evaluation_items.values()) > 0


def _undecided(facts: CardFacts) -> int:
    """Evaluation items that cannot be told from other text."""
    return sum(count for status, count in (facts.evaluation_items or {}).items() if status.endswith("to decide"))


def _structure(cleaning: Cleaning) -> Section:
    names = _listed([each for each in cleaning.values("metadata") if each[0] != "extracted"], LISTED)
    kept = f"; of what was read, in so many documents: {names}" if names else ""
    rows = (*_FIELDS, ("metadata", f"`extracted`: the SHA-256 of the text before it was cleaned{kept}"))
    text = (
        "`documents/*.jsonl` has a document on each line. `edits.jsonl` leads from each back to the text that was "
        "extracted, `ledger.parquet` says what every step did with every document, those that were dropped too."
    )
    return Section("Dataset Structure", text, (Table(("field", "what it is"), rows),))


def known_limits(facts: CardFacts) -> list[str]:
    """What a user of the corpus has to know, in sentences."""
    cleaning, policy = facts.cleaning, facts.cleaning.policy
    limits = {name for step in policy.steps for name in step.all_limits} - {CONTAMINATION}
    labels = {name.partition("_")[0] for step in policy.steps for name in step.labels}
    found = [f"{alarm}: the policy may be wrong for this source." for alarm in facts.alarms]
    for facet in ("licence", "language"):
        if unknown := dict(cleaning.values(facet)).get("", 0):
            found.append(f"Documents of unknown {facet}: {unknown:,}.")
        if facet not in labels:
            found.append(f"No step decides by the {facet} of documents.")
    if not limits:
        found.append("No step decides by the quality of texts.")
    if absent := sorted(limits - cleaning.measured):
        found.append(f"No document has these measures, so that limits on them decide nothing: {', '.join(absent)}.")
    if not _knows_items(facts):
        found.append("Evaluation items were not looked for: scores of models that learn from this may be too high.")
    if undecided := _undecided(facts):
        found.append(f"Evaluation items that cannot be decided, and may be in the texts: {undecided:,}.")
    fields = [row for row in cleaning.personal_fields if not row[1]]
    left = sum(row[-1] for row in cleaning.personal_data) + sum(row[-1] for row in fields if row[0] != "uri")
    if left:
        found.append(f"Places that may be personal data, and are left as they were: {left:,}.")
    if uris := sum(row[2] for row in fields if row[0] == "uri"):
        found.append(f"Documents whose uri, which no step changes, holds personal data: {uris:,}.")
    if files := sum(item.count for item in facts.left_out):
        found.append(f"Files that became no document: {files:,} (see Source Data).")
    return [*found, *_LIMITS]


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _listed(values: Sequence[tuple[str, int]], most: int = NAMED) -> str:
    """'en (700), de (3) and 2 more'."""
    return _listed_names([f"{value or 'unknown'} ({number:,})" for value, number in values], most)


def _listed_names(names: Sequence[str], most: int = NAMED) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _cut_short(rows: Sequence[tuple]) -> tuple[tuple, ...]:
    """The first rows; those that are left out are counted in a last one."""
    more = [(f"and {len(rows) - LISTED:,} more", *[""] * (len(rows[0]) - 1))] if len(rows) > LISTED else []
    return (*rows[:LISTED], *more)


# ---------------------------------------------------------------------------------------------------------------------
# Markdown


def card_markdown(facts: CardFacts) -> str:
    """The card as the README.md of a dataset: its head, and all sections."""
    title = _title(facts.cleaning)
    return f"{_head(facts, title)}\n# {_escaped(title)}\n" + "".join(map(_section, card_sections(facts)))


def renamed(card: str, title: str) -> str:
    """A card under another name."""
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    head = re.sub(r"(?m)^pretty_name: .*$", lambda _: f"pretty_name: {_quoted(title)}", head, count=1)
    body = re.sub(r"(?m)^# .*$", lambda _: f"# {_escaped(title)}", body, count=1)
    return f"---\n{head}\n---\n{body}"


def hub_licences(found: Sequence[str]) -> list[str]:
    """Licences of documents, SPDX expressions or "", by the names that the hub has for them; each once, in order."""
    names = [re.sub("-(only|or-later)$", "", licence.lower()) or "unknown" for licence in found]
    names = [_SAME.get(name, name) for name in names]
    return sorted({name if name in _LICENCES or name == "unknown" else "other" for name in names})


def size_category(documents: int) -> str:
    """The hub's word for so many rows."""
    digits = max(len(str(documents)) - 3, 0)
    if digits == 0:
        return "n<1K"
    return f"{_UNITS[digits - 1]}<n<{_UNITS[digits]}" if digits < len(_UNITS) else "n>1T"


def _head(facts: CardFacts, title: str) -> str:
    cleaning = facts.cleaning
    licences = hub_licences([value for value, _ in cleaning.values("licence")])
    languages = sorted(v for v, _ in cleaning.values("language") if re.fullmatch("[a-z]{2,3}", v) and v != "und")
    kinds = dict(cleaning.values("kind"))
    lists = {
        "license": licences,
        "language": languages,
        "size_categories": [size_category(sum(kinds.values()))],
        "task_categories": ["text-generation"],
        "tags": ["lmworks", *(["code"] if "code" in kinds else [])],
    }
    lines = [f"pretty_name: {_quoted(title)}"]
    for key, values in lists.items():  # every value quoted: a bare `no`, which is Norwegian, would be read as false
        lines += [f"{key}:", *(f"- {_quoted(value)}" for value in values)] if values else []
    if "other" in licences:
        lines.append('license_name: "licence-of-each-document"')
    lines += ["configs:", '- config_name: "default"', '  data_files: "documents/*.jsonl"']
    return "\n".join(["---", *lines, "---"])


def _quoted(text: str) -> str:
    """A string of JSON is one of YAML 1.2, and of 1.1 where it is ASCII."""
    return json.dumps(visible(text).replace("\n", " "))


def _section(section: Section) -> str:
    """Lines of text that begin with a dash are items."""
    lines = [("- ", line[2:]) if line.startswith("- ") else ("", line) for line in section.text.split("\n")]
    text = "\n".join(dash + _escaped(line) for dash, line in lines)
    return (
        "\n\n".join([f"\n## {_escaped(section.title)}", *([text] if text else []), *map(_table, section.tables)]) + "\n"
    )


def _table(table: Table) -> str:
    numeric = [
        bool(column) and not any(isinstance(cell, str) for cell in column) for column in zip(*table.rows, strict=True)
    ]
    numeric = numeric or [False] * len(table.columns)
    lines = [f"{_escaped(table.caption)}:\n"] if table.caption else []
    lines.append("| " + " | ".join(map(_cell, table.columns)) + " |")
    lines.append("|" + "|".join("---:" if number else "---" for number in numeric) + "|")
    lines += ["| " + " | ".join(_cell(format_cell(value)) for value in row) + " |" for row in table.rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|") or " "


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, but for code between backticks."""
    parts = re.split(r"(`[^`]*`)", visible(text))
    return "".join(part if number % 2 else _plain(part) for number, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]#~$])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
