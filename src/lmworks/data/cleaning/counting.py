"""From the counts of a cleaning's parts to what is told of the whole: facts, numbers for the manifest, the card."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmworks.artefact import MANIFEST, StageContext, hash_file, hash_json, library_versions, read_manifest
from lmworks.config import from_mapping
from lmworks.data.annotation_table import ANNOTATIONS, EVALUATION_ITEMS, AnnotationTable
from lmworks.data.cleaning.card import Facts, card_sections
from lmworks.data.cleaning.card_markdown import CARD
from lmworks.data.cleaning.examples import Drawn
from lmworks.data.cleaning.flows import Flow, Tally, alarms, tally
from lmworks.data.cleaning.ledger import LEDGER
from lmworks.data.cleaning.policy import Policy
from lmworks.data.cleaning.profile import Profile, Profiler
from lmworks.data.cleaning.writing import COUNTS
from lmworks.data.store import LEFT_OUT, shard_paths
from lmworks.records import LeftOut
from lmworks.report import Fold, Section


@dataclass(frozen=True, slots=True)
class Counted:
    """What the parts counted, as one."""

    flows: Sequence[Flow]
    examples: Drawn
    profile: Profile


def counted_of(folders: Sequence[Path]) -> Counted:
    """Of the folders that `write_part` filled, whatever their order."""
    flows: dict[tuple[str, str, str, str, str], list[int]] = {}
    examples, profiler = Drawn(), Profiler()
    for folder in folders:
        found = json.loads((folder / COUNTS).read_text("utf-8"))
        for source, language, step, verdict, rule, documents, before, after in found["flows"]:
            flow = flows.setdefault((source, language, step, verdict, rule), [0, 0, 0])
            flow[:] = [flow[0] + documents, flow[1] + before, flow[2] + after]
        examples.add_rows(found["examples"])
        profiler.add_rows(found["profile"])
    summed = [Flow(*key, counts[0], counts[1], counts[2]) for key, counts in sorted(flows.items())]
    return Counted(summed, examples, profiler.profile())


def facts_of(
    policy: Policy, names: Sequence[str], counted: Counted, tables: Sequence[AnnotationTable], context: StageContext
) -> Facts:
    """For the card; the output of `context` holds the documents, the ledger and what was left out already."""
    return Facts(
        policy,
        names,
        counted.flows,
        counted.profile,
        alarms(policy.alarm, names, counted.flows, counted.profile.shares),
        _left_out(context.output),
        _hashes(policy, context),
        library_versions(["lmworks"])["lmworks"],
        frozenset(name for table in tables for name in table.measures),
        _looked_for(context.inputs.values()),
    )


def metrics_of(facts: Facts) -> dict[str, Any]:
    """For the manifest: what came in and what stays, in bytes of UTF-8, and every alarm."""
    steps = tally(facts.flows, lambda flow: flow.step)
    came = steps.get(facts.names[0], Tally()).came
    left = steps.get(facts.names[-1], Tally()).left
    return {
        "documents": left.documents,
        "documents_before": came.documents,
        "bytes_before": came.bytes,
        "bytes": left.bytes,
        "left_out": sum(item.count for item in facts.left_out),
        "alarms": [asdict(alarm) for alarm in facts.alarms],
    }


def card_section(facts: Facts) -> Section:
    """The data card in the report."""
    folds = tuple(Fold(section.title, section.text, section.tables) for section in card_sections(facts))
    text = f"`{CARD}` says the same as the README.md of a dataset; `lmworks data card` prints it."
    return Section("Data card", text, folds=folds, page_only=True)


def _hashes(policy: Policy, context: StageContext) -> dict[str, str]:
    """What identifies the inputs, the policy, the documents and the ledger."""
    manifests = [(name, folder) for name, folder in context.inputs.items() if (folder / MANIFEST).is_file()]
    return {
        **{f"input {name}": read_manifest(folder).content_hash for name, folder in manifests},
        "policy": hash_json(policy),
        "documents": hash_json([hash_file(path) for path in shard_paths(context.output)]),
        "ledger": hash_file(context.output / LEDGER),
    }


def _looked_for(folders: Iterable[Path]) -> dict[str, int] | None:
    """Status → evaluation items, as the stages that annotated counted them; None where no stage did. Two stages that
    looked for the same items count once."""
    counted: dict[str, Mapping[str, int]] = {}
    for folder in folders:
        if (folder / ANNOTATIONS).is_dir() and (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            if isinstance(items := manifest.metrics.get(EVALUATION_ITEMS), Mapping):
                counted[hash_json(manifest.config.get("evaluation"))] = items
    if not counted:
        return None
    summed = Counter[str]()
    for items in counted.values():
        summed.update(items)
    return dict(summed)


def _left_out(output: Path) -> list[LeftOut]:
    with (output / LEFT_OUT).open("rb") as stream:
        return [from_mapping(LeftOut, json.loads(line)) for line in stream]
