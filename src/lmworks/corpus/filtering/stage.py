"""The stage `data.clean`: documents, their annotations and duplicates, and a policy, into cleaned documents."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmworks.artefact import (
    MANIFEST,
    StageContext,
    StageResult,
    hash_file,
    hash_json,
    library_versions,
    read_json,
    read_manifest,
    write_json,
)
from lmworks.config import SHAPES_NOTHING, ConfigError
from lmworks.corpus.attributes import (
    ATTRIBUTES,
    EVALUATION_ITEMS,
    AttributeTable,
    CorpusAttributes,
    attribute_files,
)
from lmworks.corpus.dedup.corpus_texts import CorpusTexts
from lmworks.corpus.dedup.match_tables import CORPUS, Looked, read_corpus
from lmworks.corpus.dedup.stage import looked_at
from lmworks.corpus.documents import DOCUMENTS, REJECTED, CorpusShard, corpus_shards, shard_name, shard_paths
from lmworks.corpus.execution.execution import ExecutionConfig, Part, carry_out
from lmworks.corpus.filtering.decide import judge
from lmworks.corpus.filtering.decide_duplicates import STANDING, resolve, standing_of
from lmworks.corpus.filtering.evaluation_refusal import all_gone_section, check_refused
from lmworks.corpus.filtering.filter_policy import Policy, Step, default_policy, read_policy
from lmworks.corpus.filtering.filtered_shards import COUNTS, POLICY, TEXTS, Decided, write_part
from lmworks.corpus.filtering.flows import Amount, Tally, alarms, check_balance, tally
from lmworks.corpus.filtering.ledger import EDITS, LEDGER, join_ledgers
from lmworks.corpus.filtering.policy_checks import check_names, check_policy, nothing_found, policy_section
from lmworks.corpus.named_files import named_file
from lmworks.corpus.report.card import CARD, CardFacts, card_markdown, card_sections
from lmworks.corpus.report.examples import examples_section
from lmworks.corpus.report.funnel import funnel_sections
from lmworks.corpus.report.queries import Cleaning, read_left_out
from lmworks.report import Fold, Section


@dataclass(frozen=True, slots=True)
class CleanConfig:
    """What becomes of documents. Another threshold makes only this stage anew: all that it goes by was measured before.

    policy     A file of steps; left out: the policy that comes with lmworks. A relative path starts at the folder of
               the recipe, or, for a command, at the current one.
    steps      Steps in place of those of the policy.
    alarm      What takes more than this share of the documents or bytes of a source, a folder or a kind is told of;
               left out: the policy's.
    execution  Who does the work.
    """

    policy: str = ""
    steps: tuple[Step, ...] = ()
    alarm: float | None = None
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def read(self, base: Path) -> Policy:
        """The policy that this comes to; ConfigError for a file that is not there or no policy, and for steps that do
        not go together."""
        found = self._of_file(base) if self.policy else default_policy()
        try:
            policy = Policy(self.steps or found.steps, found.alarm if self.alarm is None else self.alarm)
        except ValueError as error:
            raise ConfigError((), str(error)) from error
        check_policy(policy)
        return policy

    def _of_file(self, base: Path) -> Policy:
        path = self._file(base)
        try:
            return read_policy(path)
        except ConfigError as error:
            raise ConfigError(("policy",), str(error)) from error

    def _file(self, base: Path) -> Path:
        remedy = "`lmworks data policy --out FILE` writes the default one to begin with; name that"
        return named_file(self.policy, base, "policy", remedy=remedy)

    def digest(self, base: Path) -> str:
        """SHA-256 of the policy's file; "" where none is named."""
        return hash_file(self._file(base)) if self.policy else ""


def clean(config: CleanConfig, context: StageContext) -> StageResult:
    """Cleaned documents, the edits that lead back from them, the ledger and the report, into the output.

    ValueError where inputs do not belong together. Where nothing is left the report tells why, and stages that read
    from this one refuse it.
    """
    policy = config.read(context.base)
    shards = corpus_shards(dict(context.inputs))
    annotations = attribute_files(context.inputs)
    _check_belonging(shards, annotations)
    tables = CorpusAttributes(annotations)
    duplicates = _duplicates(context)
    if duplicates is not None:
        check_corpus(duplicates, shards, tables.only())
    check_names(policy, tables)
    parts = _decide(policy, shards, annotations, tables, duplicates)
    work = context.work / "parts"
    todo = [Part(part, work / part.shard.name, part.shard.bytes) for part in parts]
    carry_out(write_part, todo, config.execution, context.progress, "bytes")
    folders = [part.done for part in todo]
    _join(folders, context.output)
    _copy_left_out(context)
    write_json(context.output / POLICY, policy)
    cleaning = Cleaning(context.output, policy, tables)
    check_balance(cleaning.flows, cleaning.steps, *_counted(folders))
    facts = CardFacts(
        cleaning,
        alarms(policy.alarm, cleaning.steps, cleaning.flows, cleaning.parts()),
        read_left_out(context.output),
        _versions(policy, context),
        _evaluation_items(context.inputs.values()),
    )
    (context.output / CARD).write_text(card_markdown(facts), "utf-8")
    beside = {rule for field, rule, *_ in cleaning.personal_fields if field != "uri"}
    without_effect = nothing_found(replace(policy, steps=_written(policy)), tables, beside)
    folds = tuple(Fold(section.title, section.text, section.tables) for section in card_sections(facts))
    sections = (
        *all_gone_section(cleaning.flows, cleaning.steps),
        *funnel_sections(cleaning, facts.alarms),
        *policy_section(without_effect),
        examples_section(cleaning, shards),
        Section("Data card", f"`{CARD}`, which `lmworks data card` prints.", folds=folds, page_only=True),
    )
    return StageResult({**_metrics(facts), "without_effect": without_effect}, sections)


def _metrics(facts: CardFacts) -> dict[str, Any]:
    """For the manifest: what came in and what stays, in bytes of UTF-8, and every alarm."""
    cleaning = facts.cleaning
    steps = tally(cleaning.flows, lambda flow: flow.step)
    came, left = steps.get(cleaning.steps[0], Tally()).came, steps.get(cleaning.steps[-1], Tally()).left
    return {
        "documents": left.documents,
        "documents_before": came.documents,
        "bytes_before": came.bytes,
        "bytes": left.bytes,
        "left_out": sum(item.count for item in facts.left_out),
        "alarms": [asdict(alarm) for alarm in facts.alarms],
    }


def _counted(folders: Sequence[Path]) -> tuple[dict[str, Amount], dict[str, Amount]]:
    """Source → what was read of it, and what stays, as the parts counted their documents."""
    came: dict[str, Amount] = {}
    stay: dict[str, Amount] = {}
    for folder in folders:
        for source, (read, size, left, left_size) in read_json(folder / COUNTS).items():
            came[source] = came.get(source, Amount()) + Amount(read, size)
            stay[source] = stay.get(source, Amount()) + Amount(left, left_size)
    return came, stay


def _versions(policy: Policy, context: StageContext) -> dict[str, str]:
    """What identifies lmworks, the inputs, the policy, the documents and the ledger."""
    manifests = {name: folder for name, folder in context.inputs.items() if (folder / MANIFEST).is_file()}
    return {
        "lmworks": library_versions(["lmworks"])["lmworks"],
        **{f"input {name}": read_manifest(folder).content_hash for name, folder in manifests.items()},
        "policy": hash_json(policy),
        "documents": hash_json([hash_file(path) for path in shard_paths(context.output)]),
        "ledger": hash_file(context.output / LEDGER),
    }


def _evaluation_items(folders: Iterable[Path]) -> dict[str, int] | None:
    """Status → evaluation items, as the stages that annotated counted them; None where no stage did. Two stages that
    looked for the same items count once."""
    counted: dict[str, Mapping[str, int]] = {}
    for folder in folders:
        if (folder / ATTRIBUTES).is_dir() and (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            if isinstance(items := manifest.metrics.get(EVALUATION_ITEMS), Mapping):
                counted[hash_json(manifest.config.get("evaluation"))] = items
    summed = sum(map(Counter, counted.values()), Counter[str]())
    return dict(summed) if counted else None


def outside_digest(config: CleanConfig, base: Path) -> str:
    """What the stage reads from outside the workspace: the bytes of the policy's file."""
    return config.digest(base)


def check(config: CleanConfig, base: Path) -> None:
    """Before any stage runs: ConfigError for a policy that cannot be used."""
    config.read(base)


def _written(policy: Policy) -> tuple[Step, ...]:
    """The steps that somebody wrote for these documents: those that come with lmworks are for any, also in a copy."""
    known = default_policy().steps
    return tuple(step for step in policy.steps if step not in known)


def _duplicates(context: StageContext) -> Path | None:
    found = [folder for folder in context.inputs.values() if (folder / CORPUS).is_file()]
    if len(found) > 1:
        raise ValueError("two inputs hold duplicates: those of one stage data.duplicates are wanted")
    return found[0] if found else None


def _check_belonging(shards: Sequence[CorpusShard], annotations: Sequence[tuple[Path, ...]]) -> None:
    if [shard.name for shard in shards] != [paths[0].stem for paths in annotations]:
        raise ValueError(
            "the annotations are not those of these documents: let data.annotate and data.clean read from the same "
            "stages, in the same order"
        )


def check_corpus(duplicates: Path, shards: Sequence[CorpusShard], tables: Sequence[AttributeTable]) -> None:
    """ValueError where duplicates were looked for in other documents, in another order or in texts that were repaired
    otherwise: they are told by their places, which would be those of others here."""
    here, there = looked_at(shards, tables), read_corpus(duplicates)
    if here != there:
        same = {*here} == {*there} or _told(here) == _told(there)
        what = "these in another order, or repaired otherwise" if same else f"{_told(there)}; here are {_told(here)}"
        raise ValueError(
            f"the duplicates are not those of these documents: they were looked for in {what}. Let data.annotate, "
            "data.duplicates and data.clean read from the same stages, in the same order"
        )


def _told(corpus: Sequence[Looked]) -> str:
    return f"{sum(each.documents for each in corpus):,} documents in {len(corpus):,} shards"


def _decide(
    policy: Policy,
    shards: Sequence[CorpusShard],
    annotations: Sequence[tuple[Path, ...]],
    tables: CorpusAttributes,
    duplicates: Path | None,
) -> list[Decided]:
    judged = [judge(policy, table) for table in tables]
    texts = CorpusTexts(shards, tables)
    resolve(policy, standing_of(tables.only(*STANDING)), judged, duplicates, texts)
    check_refused(policy, tables, judged)
    return [
        Decided(shard, paths, policy.steps, tuple(of_shard))
        for shard, paths, of_shard in zip(shards, annotations, judged, strict=True)
    ]


def _join(folders: Sequence[Path], output: Path) -> None:
    """The parts' texts as shards, their edits and ledgers as one file each."""
    (output / DOCUMENTS).mkdir()
    place = 0
    with (output / EDITS).open("wb") as edits:
        for folder in folders:
            texts = folder / TEXTS
            size = texts.stat().st_size
            if size:
                shutil.copyfile(texts, output / DOCUMENTS / shard_name(place, hash_file(texts)))
                place += 1
            with (folder / EDITS).open("rb") as stream:
                shutil.copyfileobj(stream, edits)
    join_ledgers(output / LEDGER, [folder / LEDGER for folder in folders])


def _copy_left_out(context: StageContext) -> None:
    """What the readers left out, of all inputs with documents, into the output."""
    with (context.output / REJECTED).open("wb") as stream:
        for folder in context.inputs.values():
            if (folder / DOCUMENTS).is_dir() and (folder / REJECTED).is_file():
                stream.write((folder / REJECTED).read_bytes())
