"""The stage `corpus.filter`: what the room of filters makes, and then the card and the report of it."""

from dataclasses import asdict
from typing import Any

from lmworks.artefact import StageContext, StageResult, read_rows
from lmworks.corpus.documents import REJECTED
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR
from lmworks.corpus.filtering.ledger import tally
from lmworks.corpus.filtering.stage import CleanConfig, filter_corpus
from lmworks.corpus.report.card import CARD, card
from lmworks.corpus.report.examples import examples_section
from lmworks.corpus.report.funnel import funnel_sections
from lmworks.corpus.report.queries import Filtered, alarms
from lmworks.records import RejectedRecord
from lmworks.report import Section


def clean(config: CleanConfig, context: StageContext) -> StageResult:
    """Filtered documents, their ledger, a data card and a report, into the output.

    ValueError where inputs do not belong together. Where no document is left the report tells why, and stages that read
    from this one refuse it.
    """
    without_effect = filter_corpus(config, context)
    found = Filtered(context.output, context.inputs)
    raised = alarms(found)
    funnel = funnel_sections(found, raised)
    (context.output / CARD).write_text(card(found, raised, funnel), "utf-8")
    text = f"{len(without_effect):,} of what the policy names no document has. A misspelt name looks like this."
    idle = Section("Steps without effect", text, alarms=tuple(f"{each}." for each in without_effect))
    sections = (*funnel, *([idle] if without_effect else []), examples_section(found))
    steps = tally(found.flows, "step")
    metrics: dict[str, Any] = {
        "documents": steps[EMPTY].left,
        "documents_before": steps[REPAIR].came,
        "bytes_before": steps[REPAIR].came_bytes,
        "bytes": steps[EMPTY].left_bytes,
        "rejected": sum(record.count for record in read_rows(RejectedRecord, context.output / REJECTED)),
        "alarms": [asdict(alarm) for alarm in raised],
        "without_effect": without_effect,
    }
    return StageResult(metrics, sections)
