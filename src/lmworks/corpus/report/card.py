"""The data card of a filtered corpus as Markdown, with the head in YAML that dataset hubs read (hub documentation of
Hugging Face, "Dataset Cards"): what it is made of, what was done to it, what was found in it, and its limits.

It holds no times, so that equal corpora have equal cards. Its numbers are those of the ledger.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from lmworks.artefact import MANIFEST, hash_file, hash_json, library_versions, read_manifest, read_rows
from lmworks.corpus.attributes import ATTRIBUTES, EVALUATION_ITEMS
from lmworks.corpus.documents import REJECTED, shard_paths
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR
from lmworks.corpus.filtering.ledger import LEDGER, tally
from lmworks.corpus.report.funnel import shortened
from lmworks.corpus.report.queries import CONTAMINATION, PERSONAL_DATA, Alarm, Filtered
from lmworks.excerpts import visible
from lmworks.records import RejectedRecord
from lmworks.report import Cell, Section, Table, format_cell

CARD = "data_card.md"
_NAMED = 6  # values in one cell
_UNITS = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_STRUCTURE = (
    "`documents/*.jsonl` has a document on each line: `hash` (SHA-256 of the text), `text`, `uri`, `source`, `kind`, "
    "`title`, `date`, `language`, `licence` (what source and text say together, an SPDX expression; null where neither "
    "says anything), `media_type`, `extractor`, `extractor_version`, `source_hash`, and `metadata`, in which "
    "`extracted` is the hash of the text before it was cleaned. `edits.jsonl` leads from each back to that text, "
    "`ledger.parquet` says what every step did with every document, those that were dropped too."
)
_LIMITS = (
    "Personal data are found by patterns and checksums: names of people and postal addresses are not.",
    "`extracted` is a hash of the text with its personal data: who knows the rest of a short text can try them out.",
    "Near duplicates are proposed by MinHash, which misses some pairs close to the threshold.",
    "Languages are identified by a model, which is less sure of short and of mixed texts.",
    "Nothing was done about opinions, stereotypes or errors of fact in the sources.",
)


def card(filtered: Filtered, raised: Sequence[Alarm], funnel: Sequence[Section]) -> str:
    """The card as the README.md of a dataset, with the tables of the funnel."""
    steps = tally(filtered.flows, "step")
    came, left = steps[REPAIR], steps[EMPTY]
    stay = tally((flow for flow in filtered.flows if flow.step == EMPTY), "source")
    title = _listed(sorted(stay, key=lambda source: (-stay[source].left_bytes, source))) or "Documents"
    every = zip(filtered.labels("licence"), filtered.stays, strict=True)
    licences = Counter(licence or "" for licence, stays in every if stays)
    details = (
        f"{left.left:,} documents of {left.left_bytes:,} bytes from {title}, of {came.came:,} documents of "
        f"{came.came_bytes:,} bytes that were read, cleaned by lmworks by a policy of {len(filtered.policy.steps)} "
        f"steps; a ledger says of every document what each step did with it, and why. Licences: {_counted(licences)}."
    )
    rejected = Counter[str]()
    for record in read_rows(RejectedRecord, filtered.folder / REJECTED):  # a reason without what is true of one alone
        rejected[re.sub(r"(?: \([^()]*\))+$|[:;].*", "", record.reason)] += record.count
    lost = Table(("files and records that became no document", "number"), tuple(rejected.most_common()))
    limits = "\n".join(f"- {each}" for each in (*_limits(filtered, raised, licences), *_LIMITS))
    with_manifest = {name: folder for name, folder in filtered.inputs.items() if (folder / MANIFEST).is_file()}
    versions = (
        ("lmworks", library_versions(["lmworks"])["lmworks"]),
        *((f"input {name}", read_manifest(folder).content_hash) for name, folder in with_manifest.items()),
        ("policy", hash_json(filtered.policy)),
        ("documents", hash_json([hash_file(path) for path in shard_paths(filtered.folder)])),
        ("ledger", hash_file(filtered.folder / LEDGER)),
    )
    sections = (
        Section("Dataset Details", details, (shortened(lost),) if rejected else ()),
        *funnel,
        Section("Dataset Structure", _STRUCTURE),
        Section("Bias, Risks, and Limitations", limits),
        Section("Versions and Hashes", "", (Table(("what", "version or SHA-256"), versions),)),
    )
    return f"{_head(filtered, title, licences)}\n# {_escaped(title)}\n" + "".join(map(_section, sections))


def renamed(text: str, title: str) -> str:
    """A card under another name."""
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    head = re.sub(r"(?m)^pretty_name: .*$", lambda _: f"pretty_name: {_quoted(title)}", head, count=1)
    body = re.sub(r"(?m)^# .*$", lambda _: f"# {_escaped(title)}", body, count=1)
    return f"---\n{head}\n---\n{body}"


def _limits(filtered: Filtered, raised: Sequence[Alarm], licences: Mapping[str, int]) -> Iterator[str]:
    """Sentences that a user of the corpus has to know, which differ from corpus to corpus."""
    yield from (f"{alarm}: the policy may be wrong for this source." for alarm in raised)
    scores = {name for step in filtered.policy.steps for name in step.all_limits} - {CONTAMINATION}
    labels = {name.partition("_")[0] for step in filtered.policy.steps for name in step.labels}
    languages = tally((flow for flow in filtered.flows if flow.step == EMPTY), "language")
    for name, unknown in (("licence", licences.get("", 0)), ("language", languages[""].left)):
        known = "decide" if name in labels else "do not decide"
        yield f"Documents of unknown {name}: {unknown:,}; the steps {known} by it."
    if not scores & filtered.scores.keys():
        yield "No step decides by the quality of texts."
    if (places := filtered.scores.get(PERSONAL_DATA)) is None:
        yield "Personal data were not looked for (`personal` of corpus.tag)."
    else:
        cut = Counter[str]()
        for cuts in filtered.cut_rules:  # a rule may cut in several steps
            if cuts["rule"].startswith("pii."):
                cut[cuts["rule"]] += cuts["places"]
        there, stay = int(np.nansum(places)), int(np.nansum(places[filtered.stays]))
        said = f"Personal data in texts: {there:,} places, {stay:,} of them in documents that stay"
        yield f"{said}; cut or redacted: {_counted(cut) or 'none'}."
    looked_for: dict[str, Counter[str]] = {}  # status → items; two stages that looked for the same ones count once
    for folder in filtered.inputs.values():
        if (folder / ATTRIBUTES).is_dir() and (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            asked = hash_json(manifest.config.get("evaluation"))
            looked_for[asked] = Counter(manifest.metrics.get(EVALUATION_ITEMS))
    if items := sum(looked_for.values(), Counter[str]()):
        undecided = sum(count for status, count in items.items() if status.endswith("to decide"))
        held = [stays for item, stays in zip(filtered.labels("evaluation_item"), filtered.stays, strict=True) if item]
        yield (
            f"Evaluation items that were looked for: {items.total():,}, of them too short or too common to decide: "
            f"{undecided:,}. Documents that hold some of one: {len(held):,}, of which {sum(held):,} stay."
        )
    else:
        yield "Evaluation items were not looked for: scores of models that learn from this may be too high."


def _counted(values: Mapping[str, int]) -> str:
    """'en (700), de (3) and 2 more'."""
    ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return _listed([f"{value or 'unknown'} ({number:,})" for value, number in ranked])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


# ---------------------------------------------------------------------------------------------------------------------
# YAML and Markdown


def _head(filtered: Filtered, title: str, licences: Counter[str]) -> str:
    """One licence by the name that the hub has for it, or "other" for those of each document."""
    names = {re.sub("-(only|or-later)$", "", licence.lower()) or "unknown" for licence in licences}
    own = len(names) == 1 and " " not in min(names)
    flows = [flow for flow in filtered.flows if flow.step == EMPTY and flow.verdict == "kept"]
    lists = {
        "license": sorted(names) if own else ["other"],
        "language": sorted({flow.language for flow in flows if re.fullmatch("(?!und)[a-z]{2,3}", flow.language)}),
        "size_categories": [_UNITS[min(max(len(str(licences.total())) - 3, 0), len(_UNITS) - 1)]],
        "task_categories": ["text-generation"],
        "tags": ["lmworks", *(["code"] if any(flow.kind == "code" for flow in flows) else [])],
    }
    lines = ["---", f"pretty_name: {_quoted(title)}"]
    for key, values in lists.items():  # every value quoted: a bare `no`, which is Norwegian, would be read as false
        lines += [f"{key}:", *(f"- {_quoted(value)}" for value in values)] if values else []
    lines += [] if own else ['license_name: "licence-of-each-document"']
    return "\n".join([*lines, "configs:", '- config_name: "default"', '  data_files: "documents/*.jsonl"', "---"])


def _quoted(text: str) -> str:
    """A string of JSON is one of YAML 1.2, and of 1.1 where it is ASCII."""
    return json.dumps(visible(text).replace("\n", " "))


def _section(section: Section) -> str:
    """Lines of text that begin with a dash are items."""
    lines = section.text.split("\n")
    text = "\n".join(re.sub("^(- )?(.*)", lambda m: (m[1] or "") + _escaped(m[2]), line) for line in lines)
    return "\n\n".join([f"\n## {section.title}", *([text] if text else []), *map(_table, section.tables)]) + "\n"


def _table(table: Table) -> str:
    def cell(value: Cell) -> str:
        return _escaped(" ".join(format_cell(value).split())).replace("|", "\\|") or " "

    signs = ["---" if any(isinstance(v, str) for v in column) else "---:" for column in zip(*table.rows, strict=True)]
    rows = [f"| {' | '.join(map(cell, row))} |" for row in (table.columns, *table.rows)]
    caption = [f"{_escaped(table.caption)}:\n"] if table.caption else []
    return "\n".join([*caption, rows[0], f"|{'|'.join(signs)}|", *rows[1:]])


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, but for code between backticks."""
    parts = re.split(r"(`[^`]*`)", visible(text))
    for number in range(0, len(parts), 2):
        parts[number] = escape(re.sub(r"([\\`*_\[\]#~$])", r"\\\1", parts[number]), quote=False)
    return "".join(parts)
