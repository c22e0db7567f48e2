"""The stages `compress.teacher` and `compress.distil`: what a teacher says, and a student that learns it."""

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

from lmworks.adapt.adapted_checkpoint import load
from lmworks.artefact import StageContext, StageResult, hash_json
from lmworks.compress.distillation import Distillation, prepare_student
from lmworks.compress.distillation_config import DistillConfig, TeacherConfig
from lmworks.compress.on_policy import OnPolicyLoader, writer_of
from lmworks.compress.student import evenly_spaced, keep_layers, new_student
from lmworks.compress.teacher_columns import COLUMNS, TeacherColumns, open_columns, write_columns
from lmworks.data.config import LoaderConfig
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import digest_of_model, located
from lmworks.model.model_costs import count_parameters
from lmworks.report import Section, Table
from lmworks.train.config import FinetuneConfig
from lmworks.train.dial import HIGHEST_RATE, RULE
from lmworks.train.finetune_settings import EPOCHS, measured_steps
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.planning.compute import inner_parameters
from lmworks.train.planning.hyperparameters import RULES
from lmworks.train.run import Run
from lmworks.train.train_stages import (
    check_vocabulary,
    derived_finetune,
    find_base,
    find_shards,
    observe,
    sources_of,
    tokens_of,
    train_and_deliver,
)


def teacher(config: TeacherConfig, context: StageContext) -> StageResult:
    """The columns of the inputs' token shards that are trained on. ValueError for shards of another vocabulary."""
    shards, _ = find_shards(context)
    checkpoint = load(context.models["teacher"], DTYPES["float32"])
    check_vocabulary(checkpoint.required_tokenizer, shards)
    model = checkpoint.model.to(device_of_rank()).eval()
    index = write_columns(
        context.output,
        model,
        checkpoint.fingerprint,
        {name: TokenDataset(folder) for name, folder in shards.items()},
        (config.length, config.seed, config.temperature, config.k),
        context.progress,
    )
    size = sum(path.stat().st_size for path in context.output.iterdir())
    metrics = {"k": index.k, "tokens": tokens_of(shards), "bytes": size}
    rows = tuple((name, f"{value:,}") for name, value in metrics.items())
    return StageResult(metrics, (Section("What the teacher says", "", (Table(("what", "value"), rows),)),))


def distil(config: DistillConfig, context: StageContext) -> StageResult:
    """The student as it has learnt. ValueError for inputs that do not go together: shards, or a teacher, of another
    vocabulary than the student's, columns of other sequences."""
    shards, held_out = find_shards(context)
    ranks, device = join(config.train.parallel), device_of_rank()
    taught = load(context.models["teacher"], DTYPES[config.train.precision]) if "teacher" in context.models else None
    student, why_student = student_of(config, context, taught)
    check_vocabulary(student.required_tokenizer, shards)
    if taught is not None:
        _check_teacher(taught, student)
    rate = config.rate or (None if config.parameters is None else rate_of_new(student, config, tokens_of(shards)))
    settings = replace(config.run_settings(), rate=rate)
    columns = next((folder for folder in context.inputs.values() if (folder / COLUMNS).exists()), None)
    if columns is not None and config.on_policy is not None:
        raise ValueError("columns hold nothing of texts that a student writes: give the role teacher a model instead")

    def run_on(found: FinetuneConfig, base: Checkpoint, folder: Path, steps: int) -> Run:
        assert found.length and found.batch
        loader_config = LoaderConfig(
            sources_of(shards, config.weights), found.length, found.batch, steps, seed=config.seed
        )
        said: TeacherColumns | None = None
        if columns is not None:
            datasets = [TokenDataset(shard) for shard in shards.values()]
            said = open_columns(columns, datasets, found.length, config.seed, config.loss.temperature)
        elif taught is None and config.loss.asks:
            raise ValueError("there is no teacher: name one in the role teacher, or read from compress.teacher")
        model = None if taught is None or said is not None else taught.model.to(device).requires_grad_(False)
        prepare_student(base.model, model, config.loss, config.seed)
        loader = Loader(loader_config, *ranks.rows)
        if config.on_policy is not None:
            loader = OnPolicyLoader(loader_config, config.on_policy, *ranks.rows)
        objective = Distillation(config.loss, said or model)
        parts = {"device": device, "progress": context.progress, "seed": config.seed, "ranks": ranks, "compares": True}
        run = Run(base, objective, loader, found.train, folder, **parts)
        if isinstance(loader, OnPolicyLoader):
            assert config.on_policy is not None
            loader.write = writer_of(run, config.on_policy)
        return run

    def seconds(found: FinetuneConfig) -> float:
        found = replace(found, batch=found.train.micro_batch)
        with tempfile.TemporaryDirectory() as folder:
            copied = student.with_model(copy.deepcopy(student.model))
            run = run_on(found, copied, Path(folder), 3)
            with run.loader:  # type: ignore[attr-defined]
                return min(seconds for seconds, _ in measured_steps(run)) / (found.batch or 1)

    settings, reasons = derived_finetune(settings, student, shards, context, seconds=seconds)
    run = run_on(settings, student, context.work / "run", settings.steps or 0)
    with run.loader:  # type: ignore[attr-defined]
        observe(run, held_out, run.loader.config, CausalLanguageModel())
        result = train_and_deliver(run, context)
    found = (("student", f"{count_parameters(student.config):,} parameters", why_student), *reasons)
    section = Section("The student", "", (Table(("what", "value", "why"), found),))
    return replace(result, sections=(section, *result.sections))


def student_of(config: DistillConfig, context: StageContext, teacher: Checkpoint | None) -> tuple[Checkpoint, str]:
    """The student in float32, and how it was made."""
    if config.layers is None and config.parameters is None:
        return load(find_base(config.base, context)), "goes on from a checkpoint"
    if teacher is None:
        raise ValueError("a student is made of a teacher: name one in the role teacher, or give a base")
    whole = load(context.models["teacher"])
    if config.layers is None:
        assert config.parameters is not None
        return new_student(whole, config.parameters, config.seed), "a new model, by the dial"
    kept = evenly_spaced(config.layers, len(whole.config.decoder.blocks) if whole.config.decoder else 0)
    return keep_layers(whole, kept), f"the teacher's layers {', '.join(map(str, kept))}"


def rate_of_new(student: Checkpoint, config: DistillConfig, tokens: int) -> float:
    """The peak learning rate of a model that begins anew, by the dial's rule for its size and tokens."""
    advice = RULES[RULE].suggest(inner_parameters(student.config), tokens * (config.epochs or EPOCHS))
    return min(advice.learning_rate, HIGHEST_RATE)


def _check_teacher(teacher: Checkpoint, student: Checkpoint) -> None:
    own, theirs = student.required_tokenizer, teacher.required_tokenizer
    if own.hash != theirs.hash or student.config.embedding.vocabulary != teacher.config.embedding.vocabulary:
        raise ValueError(
            f"the teacher has another vocabulary ({theirs.vocabulary_size:,} tokens) than the student "
            f"({own.vocabulary_size:,}), so that their next tokens are not the same: let it write texts by "
            "compress.sequences, which any tokenizer reads, or take a student of its vocabulary (layers, parameters)"
        )


def check(config: DistillConfig, base: Path) -> None:
    """Before any stage runs: LookupError or FileNotFoundError for a base that is not there."""
    if config.base:
        located(config.base, base)


def outside_digest(config: DistillConfig, base: Path) -> str:
    """SHA-256 of the base's files."""
    return hash_json(digest_of_model(located(config.base, base)) if config.base else "")
