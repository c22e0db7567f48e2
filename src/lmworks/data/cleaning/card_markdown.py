"""A data card as Markdown: the head in YAML that dataset hubs read (hub documentation of Hugging Face, "Dataset
Cards"), and the sections below it."""

import json
import re
from collections.abc import Iterator, Sequence

from lmworks.data.cleaning.card import Facts, card_sections, title_of
from lmworks.data.cleaning.profile import UNKNOWN
from lmworks.excerpts import visible
from lmworks.report import Section, Table, format_cell

CARD = "data_card.md"

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
_ENDINGS = re.compile("-(only|or-later)$")
_SAME = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))
_LARGEST = ((10**11, "10B<n<100B"), (10**12, "100B<n<1T"))


def card_markdown(facts: Facts, title: str = "") -> str:
    """The card as the README.md of a dataset: its head, and all sections. `title` is the dataset's name."""
    title = title or title_of(facts) or "Documents"
    parts = [f"# {_escaped(title)}", *(_section(section) for section in card_sections(facts))]
    return f"{_head(facts, title)}\n" + "\n".join(parts)


def renamed(card: str, title: str) -> str:
    """A card under another name."""
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    head = re.sub(r"(?m)^pretty_name: .*$", lambda _: f"pretty_name: {_quoted(title)}", head, count=1)
    body = re.sub(r"(?m)^# .*$", lambda _: f"# {_escaped(title)}", body, count=1)
    return f"---\n{head}\n---\n{body}"


def hub_licences(found: Sequence[str]) -> list[str]:
    """Licences of documents, SPDX expressions or "", by the names that the hub has for them; each once, in order."""
    return sorted({_hub_licence(licence) for licence in found})


def size_category(documents: int) -> str:
    """The hub's word for so many rows."""
    return next((name for limit, name in (*_SIZES, *_LARGER, *_LARGEST) if documents < limit), "n>1T")


def _hub_licence(licence: str) -> str:
    if licence == UNKNOWN:
        return "unknown"
    name = _ENDINGS.sub("", licence.lower())
    name = _SAME.get(name, name)
    return name if name in _LICENCES else "other"


def _head(facts: Facts, title: str) -> str:
    licences = hub_licences([value for value, _ in facts.values("licence")])
    languages = [value for value, _ in facts.values("language") if re.fullmatch("[a-z]{2,3}", value) and value != "und"]
    documents = sum(amount.documents for _, amount in facts.values("all"))
    lines = [f"pretty_name: {_quoted(title)}", *_yaml_list("license", licences)]
    if "other" in licences:
        lines.append('license_name: "licence-of-each-document"')
    lines += _yaml_list("language", sorted(set(languages)))
    lines += _yaml_list("size_categories", [size_category(documents)])
    lines += _yaml_list("task_categories", ["text-generation"])
    lines += _yaml_list("tags", ["lmworks", *(["code"] if "code" in dict(facts.values("kind")) else [])])
    lines += ["configs:", '- config_name: "default"', '  data_files: "documents/*.jsonl"']
    return "\n".join(["---", *lines, "---"])


def _yaml_list(key: str, values: Sequence[str]) -> list[str]:
    """Every value quoted: a bare `no`, which is Norwegian, would be read as false."""
    return [f"{key}:", *(f"- {_quoted(value)}" for value in values)] if values else []


def _quoted(text: str) -> str:
    """A string of JSON is one of YAML 1.2, and of 1.1 where it is ASCII."""
    return json.dumps(visible(text).replace("\n", " "))


def _section(section: Section) -> str:
    text = _text(section.text)
    parts = [f"\n## {_escaped(section.title)}\n", *([f"{text}\n"] if text else []), *map(_table, section.tables)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _text(text: str) -> str:
    """Lines that begin with a dash are items; code between backticks stays."""
    lines = [("- ", line[2:]) if line.startswith("- ") else ("", line) for line in text.split("\n")]
    return "\n".join(dash + _escaped(line) for dash, line in lines)


def _table(table: Table) -> str:
    return "\n".join(_table_lines(table)) + "\n"


def _table_lines(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"{_escaped(table.caption)}:\n"
    columns = range(len(table.columns))
    numeric = [bool(table.rows) and all(not isinstance(row[i], str) for row in table.rows) for i in columns]
    yield "| " + " | ".join(map(_cell, table.columns)) + " |"
    yield "|" + "|".join("---:" if number else "---" for number in numeric) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_cell(format_cell(value)) for value in row) + " |"


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|") or " "


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, but for code between backticks."""
    parts = re.split(r"(`[^`]*`)", visible(text))
    return "".join(part if number % 2 else _plain(part) for number, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]#~$])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
