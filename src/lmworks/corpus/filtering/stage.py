"""Documents, their attributes and duplicates, and a policy, into filtered documents and their ledger."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmworks.artefact import MANIFEST, StageContext, hash_file, read_json, read_manifest, write_json
from lmworks.config import SHAPES_NOTHING, ConfigError, named_file
from lmworks.corpus.attributes import EMITS, LABEL, open_corpus, read_joined
from lmworks.corpus.dedup.kept_duplicates import RANKED_BY, check_similarity, rank_corpus
from lmworks.corpus.dedup.match_tables import CORPUS, not_looked_for
from lmworks.corpus.dedup.stage import DuplicatesConfig, corpus_rows
from lmworks.corpus.documents import DOCUMENTS, REJECTED, Shard, document_to_json, shard_name
from lmworks.corpus.filtering.apply import apply, size_of
from lmworks.corpus.filtering.decide import Decisions, columns, decide, decide_duplicates
from lmworks.corpus.filtering.filter_policy import Policy, Step, default_policy, read_policy
from lmworks.corpus.filtering.ledger import (
    EDITS,
    LEDGER,
    Entry,
    check_balance,
    edits_row,
    join_ledgers,
    read_flows,
    write_ledger,
)
from lmworks.corpus.filtering.policy_checks import Names, check_policy, check_refused, missing_names
from lmworks.corpus.taggers.config import AnnotateConfig, ModelPerplexityConfig
from lmworks.corpus.taggers.licence import LICENCE
from lmworks.corpus.taggers.tag_document import tools_of
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out
from lmworks.stage import FILE

POLICY = "policy.json"  # what was decided by, presets and all that a file or a config said, as it was then
TEXTS, COUNTS = "documents.jsonl", "counts.json"  # of a part, next to its edits and its ledger


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """The policy for documents. Another threshold makes only this stage again: all that it goes by was measured before.

    policy     A file of steps; left out: the policy that comes with lmworks. A relative path starts at the folder of
               the recipe, or, for a command, at the current one.
    steps      Steps in place of those of the policy.
    alarm      Share of documents or bytes of a source, a kind or a language; a step that takes more raises an alarm.
               Left out: the policy's.
    execution  Who does the work.
    """

    policy: str = field(default="", metadata=FILE)
    steps: tuple[Step, ...] = ()
    alarm: float | None = None
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def read(self, base: Path) -> Policy:
        """The policy that this comes to; ConfigError for a file that is not there or no policy, and for steps that do
        not go together."""
        found = default_policy()
        if self.policy:
            try:
                found = read_policy(self.file(base))
            except ConfigError as error:
                raise error if error.path == ("policy",) else ConfigError(("policy",), str(error)) from error
        try:
            policy = Policy(self.steps or found.steps, found.alarm if self.alarm is None else self.alarm)
        except ValueError as error:
            raise ConfigError((), str(error)) from error
        check_policy(policy)
        return policy

    def file(self, base: Path) -> Path:
        remedy = "`lmworks data policy --out FILE` writes the default one to begin with; name that"
        return named_file(self.policy, base, "policy", remedy=remedy)


def check(config: CleanConfig, base: Path) -> None:
    """Before any stage runs: ConfigError for a policy that cannot be used."""
    config.read(base)


def check_inputs(config: CleanConfig, base: Path, inputs: Sequence[object]) -> None:
    """Before any stage runs: ValueError for scores, labels, spans and duplicates that the policy uses and no stage of
    these configs makes."""
    searched = next((each for each in inputs if isinstance(each, DuplicatesConfig)), None)
    known = {f"score.{each.score}" for each in inputs if isinstance(each, ModelPerplexityConfig)}
    for each in inputs:
        if isinstance(each, AnnotateConfig):
            known.update(*(tagger.emits for tagger in tools_of(each, base).taggers))
    for step in config.read(base).steps:
        list(missing_names(step, Names(), known))
        if searched is None and step.duplicates not in ("", "exact"):
            raise ValueError(f"the step {step.name} needs a stage corpus.dedup among the inputs: add it to `from`")
        if searched is not None and step.duplicates == "near":
            check_similarity(step.similarity, searched.near.threshold)
        elif not getattr(searched, step.duplicates, True):
            raise not_looked_for(step.duplicates)


def filter_corpus(config: CleanConfig, context: StageContext) -> list[str]:
    """Filtered documents, the edits that lead back from them, the ledger and the policy, into the output; and what of
    the policy has no effect, a line each.

    ValueError where inputs do not belong together. Where no document is left that is for the report to tell.
    """
    policy = config.read(context.base)
    shards, attributes = open_corpus(context.inputs)
    searched = [folder for folder in context.inputs.values() if (folder / CORPUS).is_file()]
    if len(searched) > 1:
        raise ValueError("two inputs hold duplicates: those of one stage corpus.dedup are wanted")
    if searched and read_json(searched[0] / CORPUS)["shards"] != corpus_rows(shards, attributes.only()):
        raise ValueError(
            "the duplicates are not those of these documents: they were looked for in others, in these in another "
            "order, or in texts repaired otherwise. Let corpus.tag, corpus.dedup and corpus.filter read from the "
            "same stages, in the same order"
        )
    names, decisions = Names(), list[list[Decisions]]()
    manifests = [read_manifest(folder) for folder in context.inputs.values() if (folder / MANIFEST).is_file()]
    emits = {name for manifest in manifests for name in manifest.metrics.get(EMITS, ())}
    for table in attributes.only(*columns(policy)):
        names.add(table)
        decisions.append(decide(policy, table, with_cuts=False))
    sentences, known = [], default_policy().steps  # which are for any documents
    for step, *of_step in zip(policy.steps, *decisions, strict=True):
        missing = [*missing_names(step, names, emits)]
        if not any(shard.in_scope.any() for shard in of_step):
            missing.append(f"The step {step.name} looks at no document: none has its sources, kinds and languages")
        sentences += missing if step not in known else []
    documents = rank_corpus(attributes.only(*RANKED_BY))
    decide_duplicates(policy, documents, decisions, searched[0] if searched else None)
    check_refused(policy, documents, decisions)
    parts = [
        Part(FilterPart(*given, policy), context.work / "parts" / given[0].name, given[0].bytes)
        for given in zip(shards, attributes.files, decisions, strict=True)
    ]
    carry_out(filter_part, parts, config.execution, context.progress, "bytes")
    _join([part.done for part in parts], context)
    write_json(context.output / POLICY, policy)
    counts: dict[str, list[int]] = {}
    for part in parts:
        for source, amounts in read_json(part.done / COUNTS).items():
            _added(counts, source, amounts)
    check_balance(read_flows(context.output / LEDGER), policy.names, counts)
    return sentences


# ---------------------------------------------------------------------------------------------------------------------
# Shards


@dataclass(frozen=True, slots=True)
class FilterPart:
    """A shard, the files of its attributes, and the decisions of each step of the policy on its documents: all reasons,
    and the cuts of what repeats other documents; those of a document by itself are decided on where it is filtered."""

    shard: Shard
    attributes: tuple[Path, ...]
    decisions: Sequence[Decisions]
    policy: Policy


def filter_part(part: FilterPart, folder: Path) -> None:
    """Filter one shard: what stays, its edits and its ledger into a new folder. And of each source the documents and
    bytes that were read, and those that stay, as they were counted for themselves: the ledger has to meet them."""
    folder.mkdir()
    table = read_joined(part.attributes, columns(part.policy) | {"hash", "edits", LABEL + LICENCE})
    decisions = decide(part.policy, table)
    for own, given in zip(decisions, part.decisions, strict=True):
        own.reasons.update(given.reasons)
        for place, cuts in given.cuts.items():
            own.cuts[place] += cuts
    counts: dict[str, list[int]] = {}

    def entries() -> Iterator[Entry]:
        with (folder / TEXTS).open("wb") as texts, (folder / EDITS).open("wb") as edits:
            for place, document in enumerate(part.shard):
                if document.hash != table.hashes[place]:
                    raise ValueError(f"{part.attributes[0]} are not those of {part.shard.path}: rebuild both")
                rows, left, changes = apply(document, place, table, part.policy, decisions)
                sizes = [1, size_of(document.text)[1], *((0, 0) if left is None else (1, size_of(left.text)[1]))]
                _added(counts, document.source, sizes)
                if left is not None:
                    texts.write(document_to_json(left).encode() + b"\n")
                    edits.write(edits_row(left, changes).encode() + b"\n")
                yield from rows

    write_ledger(folder / LEDGER, entries())
    (folder / COUNTS).write_text(json.dumps(counts), "utf-8")


def _join(folders: Sequence[Path], context: StageContext) -> None:
    """The parts' texts as shards, and their edits, their ledgers and what the readers rejected as one file each."""
    output = context.output
    (output / DOCUMENTS).mkdir()
    for texts in [folder / TEXTS for folder in folders if (folder / TEXTS).stat().st_size]:
        place = len(list((output / DOCUMENTS).iterdir()))
        shutil.copyfile(texts, output / DOCUMENTS / shard_name(place, hash_file(texts)))
    join_ledgers(output / LEDGER, [folder / LEDGER for folder in folders])
    read = [folder for folder in context.inputs.values() if (folder / DOCUMENTS).is_dir()]
    for name, sources in ((EDITS, folders), (REJECTED, read)):
        with (output / name).open("wb") as stream:
            for path in (folder / name for folder in sources):
                if path.is_file():
                    with path.open("rb") as source:
                        shutil.copyfileobj(source, stream)


def _added(counts: dict[str, list[int]], source: str, amounts: Sequence[int]) -> None:
    counts[source] = [one + more for one, more in zip(counts.get(source, [0] * 4), amounts, strict=True)]
