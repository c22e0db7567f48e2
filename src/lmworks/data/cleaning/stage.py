"""The stage `data.clean`: documents, their annotations and duplicates, and a policy, into cleaned documents."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmworks.artefact import StageContext, StageResult, hash_file
from lmworks.config import SHAPES_NOTHING, from_mapping
from lmworks.data.annotation_table import ANNOTATIONS, AnnotationTable, annotation_paths, read_annotations
from lmworks.data.cleaning.examples import Example, lowest
from lmworks.data.cleaning.funnel import Flow, alarms, check_balance, sections_of
from lmworks.data.cleaning.ledger import LEDGER, join_ledgers
from lmworks.data.cleaning.local import judge
from lmworks.data.cleaning.policy import Policy, Step, default_policy, read_policy
from lmworks.data.cleaning.resolving import resolve, standing_of
from lmworks.data.cleaning.writing import COUNTS, EDITS, EMPTY, REPAIR, TEXTS, Decided, write_part
from lmworks.data.corpus import CorpusShard, corpus_shards
from lmworks.data.duplicates.tables import PAIRS, PLACES
from lmworks.data.executing import ExecutionConfig, Part, carry_out
from lmworks.data.store import DOCUMENTS, LEFT_OUT, shard_name


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """What becomes of documents. Another threshold makes only this stage anew: all that it goes by was measured before.

    policy     A file of steps; left out: the policy that comes with lmworks. A relative path starts at the folder of
               the recipe, or, for a command, at the current one.
    steps      Steps in place of those of the policy.
    alarm      A step that takes more than this share of a source's documents or bytes is told of; left out: the
               policy's.
    execution  Who does the work.
    """

    policy: str = ""
    steps: tuple[Step, ...] = ()
    alarm: float | None = None
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def read(self, base: Path) -> Policy:
        """The policy that this comes to; ConfigError for a file that is none, FileNotFoundError where there is none."""
        found = read_policy(base / Path(self.policy).expanduser()) if self.policy else default_policy()
        return Policy(self.steps or found.steps, found.alarm if self.alarm is None else self.alarm)


def clean(config: CleanConfig, context: StageContext) -> StageResult:
    """Cleaned documents, the edits that lead back from them, the ledger and the report, into the output.

    ValueError where inputs do not belong together or nothing is left.
    """
    policy = config.read(context.base)
    shards = corpus_shards(dict(context.inputs))
    annotations = annotation_paths(context.input(ANNOTATIONS))
    _check_belonging(shards, annotations)
    tables = [read_annotations(path) for path in annotations]
    parts = _decide(policy, shards, annotations, tables, _duplicates(context))
    work = context.work / "parts"
    todo = [Part(part, work / part.shard.name, len(table)) for part, table in zip(parts, tables, strict=True)]
    carry_out(write_part, todo, config.execution, context.progress, "documents")
    folders = [part.done for part in todo]
    names = (REPAIR, *(step.name for step in policy.steps), EMPTY)
    flows, examples = _counted(folders)
    check_balance(flows, names)
    documents = _join(folders, context.output)
    if not documents:
        raise ValueError("no document is left: look at what the steps of the policy take, in the report of a looser one")
    left_out = sum(_copy_left_out(context))
    return StageResult(
        metrics={"documents": documents, **_metrics(flows, names), "left_out": left_out},
        sections=sections_of(policy, names, flows, examples, tables, alarms(policy, names, flows)),
    )


def outside_digest(config: CleanConfig, base: Path) -> str:
    """What the stage reads from outside the workspace: the bytes of the policy's file."""
    return hash_file(base / Path(config.policy).expanduser()) if config.policy else ""


def check(config: CleanConfig, base: Path) -> None:
    """Before any stage runs: ConfigError or FileNotFoundError for a policy that cannot be used."""
    config.read(base)


def _duplicates(context: StageContext) -> Path | None:
    found = [folder for folder in context.inputs.values() if (folder / PAIRS).exists() or (folder / PLACES).exists()]
    if len(found) > 1:
        raise ValueError("two inputs hold duplicates: those of one stage data.duplicates are wanted")
    return found[0] if found else None


def _check_belonging(shards: Sequence[CorpusShard], annotations: Sequence[Path]) -> None:
    if [shard.name for shard in shards] != [path.stem for path in annotations]:
        raise ValueError(
            "the annotations are not those of these documents: let data.annotate and data.clean read from the same "
            "stages, in the same order"
        )


def _decide(
    policy: Policy,
    shards: Sequence[CorpusShard],
    annotations: Sequence[Path],
    tables: Sequence[AnnotationTable],
    duplicates: Path | None,
) -> list[Decided]:
    judged = [judge(policy, table) for table in tables]
    resolve(policy, standing_of(tables), judged, duplicates)
    names = tuple(step.name for step in policy.steps)
    return [
        Decided(shard, path, names, tuple(of_shard))
        for shard, path, of_shard in zip(shards, annotations, judged, strict=True)
    ]


def _counted(folders: Sequence[Path]) -> tuple[list[Flow], list[Example]]:
    flows: dict[tuple[str, ...], list[int]] = {}
    examples: dict[tuple[str, ...], list[Example]] = {}
    for folder in folders:
        found = json.loads((folder / COUNTS).read_text("utf-8"))
        for *key, documents, before, after in found["counts"]:
            flow = flows.setdefault(tuple(key), [0, 0, 0])
            flow[:] = [flow[0] + documents, flow[1] + before, flow[2] + after]
        for row in found["examples"]:
            example = from_mapping(Example, row)
            key = (example.step, example.rule, example.how)
            examples[key] = lowest([*examples.get(key, []), example])
    return (
        [Flow(*key, *flow) for key, flow in sorted(flows.items())],
        [example for _, found in sorted(examples.items()) for example in found],
    )


def _metrics(flows: Sequence[Flow], names: Sequence[str]) -> dict[str, int]:
    """Of the whole: what came in, what went on, and between them what each step took; in bytes of UTF-8."""
    first, last = names[0], names[-1]
    came = sum(flow.before for flow in flows if flow.step == first)
    went = sum(flow.after for flow in flows if flow.step == last)
    read = sum(flow.documents for flow in flows if flow.step == first)
    return {"documents_before": read, "bytes_before": came, "bytes": went}


def _join(folders: Sequence[Path], output: Path) -> int:
    """The parts' texts as shards, their edits and ledgers as one file each; how many documents."""
    (output / DOCUMENTS).mkdir()
    documents = 0
    place = 0
    with (output / EDITS).open("wb") as edits:
        for folder in folders:
            texts = folder / TEXTS
            size = texts.stat().st_size
            if size:
                shutil.copyfile(texts, output / DOCUMENTS / shard_name(place, hash_file(texts)))
                place += 1
            with (folder / EDITS).open("rb") as stream:
                for line in stream:
                    edits.write(line)
                    documents += 1
    join_ledgers(output / LEDGER, [folder / LEDGER for folder in folders])
    return documents


def _copy_left_out(context: StageContext) -> list[int]:
    """What the readers left out, of all inputs with documents, into the output; how many."""
    counts = []
    with (context.output / LEFT_OUT).open("wb") as stream:
        for folder in context.inputs.values():
            if (folder / DOCUMENTS).is_dir() and (folder / LEFT_OUT).is_file():
                lines = (folder / LEFT_OUT).read_bytes()
                stream.write(lines)
                counts += [json.loads(line)["count"] for line in lines.splitlines()]
    return counts
