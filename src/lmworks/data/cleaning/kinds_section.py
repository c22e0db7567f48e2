"""The kinds of documents in the report, with what is not done for each: a chat that is taken for a text shows here."""

from collections import Counter
from collections.abc import Sequence

from lmworks.data.cleaning.policy import Step
from lmworks.data.cleaning.profile import Profile
from lmworks.data.repair.repairing import REPAIRED
from lmworks.report import Section, Table

_TEXT = (
    "A document is of the kind that `kind` of its stage data.read says. Where that is `auto`, its format decides: web "
    "pages are `web`, or `manual` where they read like documentation, mail is `mail`, EPUB and PDF are `book`, source "
    "code is `code`, and plain text, Markdown and the rows of tables are `text`. A chat, a book or a crawl in one of "
    "those needs a source of its own, with its kind."
)


def kinds_section(steps: Sequence[Step], profile: Profile) -> Section:
    """By kind: documents before and after, what was repaired, and the steps that look at none of that kind."""
    before, after, of_tables = Counter[str](), Counter[str](), Counter[str]()
    for share in profile.shares:
        if share.facet == "kind":
            before[share.value] += share.before.documents
            after[share.value] += share.after.documents
        elif share.facet == "rows":
            of_tables[share.value] += share.before.documents
    rows = tuple(
        (kind, count, after[kind], REPAIRED.get(kind, ""), _not_for(kind, steps) or "none")
        for kind, count in sorted(before.items(), key=lambda item: (-item[1], item[0]))
    )
    header = ("kind", "documents", "stay", "repaired", "steps that do not look at it")
    unseen = _not_for("text", steps, "web")
    message = (
        f"{of_tables['text']:,} rows of tables are of the kind text, at which {unseen} do not look. Where they are web "
        "pages, say so: kind=web of data.read, as in --set documents.kind=web."
    )
    return Section("By kind", _TEXT, (Table(header, rows),), alarms=(message,) if unseen and of_tables["text"] else ())


def _not_for(kind: str, steps: Sequence[Step], other: str = "") -> str:
    """The steps that look at none of this kind, and at the other one where that is named."""
    return ", ".join(
        step.name for step in steps if step.kinds and kind not in step.kinds and (not other or other in step.kinds)
    )
