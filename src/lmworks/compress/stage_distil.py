"""The stages of distillation: `compress.teacher`, which stores what a teacher says, and `compress.distil`."""

import copy
from dataclasses import replace
from pathlib import Path

from lmworks.adapt.adapter import load
from lmworks.artefact import StageContext, StageResult
from lmworks.compress.block_calibration import decoder_of
from lmworks.compress.distillation import Distillation, prepare_student
from lmworks.compress.distillation_config import DistillConfig, TeacherConfig
from lmworks.compress.on_policy import OnPolicyLoader, writer_of
from lmworks.compress.quantisation import check_floats
from lmworks.compress.structured_pruning import keep_layers
from lmworks.compress.teacher_columns import COLUMNS, open_columns, write_columns
from lmworks.data.config import LoaderConfig
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import located
from lmworks.model.huggingface import write_config
from lmworks.model.initialisation import by_fan_in, initialise
from lmworks.model.model_costs import count_parameters
from lmworks.model.transformer import Transformer
from lmworks.report import Section, Table
from lmworks.train.config import FinetuneConfig
from lmworks.train.derived_settings import HIGHEST_RATE, RULE
from lmworks.train.fit import adapts, fit, new_run
from lmworks.train.held_out import observe
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.planning.compute import inner_parameters
from lmworks.train.planning.hyperparameters import RULES
from lmworks.train.planning.model_shape import FAMILIES, choose_shape
from lmworks.train.run import Run
from lmworks.train.run_report import run_section
from lmworks.train.settings import EPOCHS
from lmworks.train.train_stages import (
    check_vocabulary,
    derived_finetune,
    find_base,
    find_shards,
    sources_of,
    tokens_of,
)


def teacher(config: TeacherConfig, context: StageContext) -> StageResult:
    """The columns of the inputs' token shards that are trained on. ValueError for shards of another vocabulary."""
    shards, _ = find_shards(context)
    checkpoint = load(context.models["teacher"])
    check_vocabulary(checkpoint.required_tokenizer, shards)
    datasets = {name: TokenDataset(folder) for name, folder in shards.items()}
    model = checkpoint.model.to(device_of_rank()).requires_grad_(False)
    write_columns(context.output, model, datasets, config, context.progress)
    size = sum(path.stat().st_size for path in context.output.iterdir())
    metrics = {"k": min(config.k, model.config.embedding.vocabulary), "tokens": tokens_of(shards), "bytes": size}
    rows = tuple((name, f"{value:,}") for name, value in metrics.items())
    return StageResult(metrics, (Section("What the teacher says", "", (Table(("what", "value"), rows),)),))


def distil(config: DistillConfig, context: StageContext) -> StageResult:
    """The student as it has learnt. ValueError for inputs that do not go together: shards, or a teacher, of another
    vocabulary than the student's, columns of other sequences; and where nothing says what is to be learned."""
    shards, held_out = find_shards(context)
    ranks, device = join(config.train.parallel), device_of_rank()
    columns = next((folder for folder in context.inputs.values() if (folder / COLUMNS).exists()), None)
    taught = load(context.models["teacher"], DTYPES[config.train.precision]) if "teacher" in context.models else None
    if taught is None and columns is None and config.loss.asks:
        raise ValueError("there is no teacher: name a model in the role teacher, or read from compress.teacher")
    if columns is not None and config.on_policy is not None:
        raise ValueError("columns hold nothing of texts that a student writes: give the role teacher a model instead")
    student, why_student = student_of(config, context)
    check_vocabulary(student.required_tokenizer, shards)
    if taught is not None and (teachers := taught.required_tokenizer).hash != student.required_tokenizer.hash:
        raise ValueError(
            f"the teacher has another vocabulary ({teachers.vocabulary_size:,} tokens) than the student "
            f"({student.required_tokenizer.vocabulary_size:,}), so that their next tokens are not the same: let it "
            "write texts by compress.sequences, which any tokenizer reads, or take a student of its vocabulary "
            "(layers, parameters)"
        )
    if config.parameters is not None and config.rate is None:
        # That of a model that restarts, by the rule for its size and tokens.
        tokens = tokens_of(shards) * (config.epochs or EPOCHS)
        advice = RULES[RULE].suggest(inner_parameters(student.config), tokens)
        config = replace(config, rate=min(advice.learning_rate, HIGHEST_RATE))
    model = None if taught is None or columns is not None else taught.model.to(device).requires_grad_(False)
    loss, on_policy = config.loss, config.on_policy

    def run_on(config: FinetuneConfig, base: Checkpoint, folder: Path | None = None) -> Run:
        assert config.length and config.batch
        sources = sources_of(shards, config.weights)
        numbers = LoaderConfig(sources, config.length, config.batch, config.steps, seed=config.seed)
        loader = OnPolicyLoader(numbers, on_policy, *ranks.rows) if on_policy else Loader(numbers, *ranks.rows)
        teacher_output = model
        if columns is not None:
            teacher_output = open_columns(columns, loader.datasets, config.length, config.seed, loss.temperature)
        prepare_student(base.model, model, loss, config.seed)
        adapt, objective = adapts(config.method, config.seed), Distillation(loss, teacher_output)
        run = new_run(context, base, objective, loader, config.train, adapt, ranks, compares=True, folder=folder)
        if isinstance(loader, OnPolicyLoader):
            loader.write = writer_of(run, loader.on_policy)
        return run

    def trial(config: FinetuneConfig, folder: Path) -> Run:
        return run_on(config, student.with_model(copy.deepcopy(student.model)), folder)

    complete, reasons = derived_finetune(config, student, shards, context, ranks, trial)
    run = run_on(complete, student)
    observe(run, held_out, CausalLanguageModel())
    rows = (("student", f"{count_parameters(student.config):,} parameters", why_student), *reasons)
    return fit(run, context, complete.method, complete.merge, report=[(run_section(rows, title="The student"), {})])


def student_of(config: DistillConfig, context: StageContext) -> tuple[Checkpoint, str]:
    """The student in float32, and how it was made."""
    new = config.layers is not None or config.parameters is not None
    if config.base or (not new and any((folder / "config.json").exists() for folder in context.inputs.values())):
        return load(find_base(config.base, context)), "initialised from a checkpoint"
    if "teacher" not in context.models:
        raise ValueError("a student is made of a teacher: name one in the role teacher, or give a base")
    teacher = load(context.models["teacher"])
    if config.parameters is not None:
        return new_student(teacher, config.parameters, config.seed), "a new model, by derived settings"
    layers = kept_layers(config, teacher)
    return keep_layers(teacher, layers), f"the teacher's layers {', '.join(map(str, layers))}"


def evenly_spaced(count: int, layers: int) -> list[int]:
    """The numbers of `count` of so many layers, the first among them: of every other one 0, 2, 4, … (Sanh et al. 2019,
    section 3). ValueError for more than there are."""
    if not 1 <= count <= layers:
        raise ValueError(f"a student keeps 1 to {layers} of the teacher's layers, not {count}")
    return [number * layers // count for number in range(count)]


def new_student(teacher: Checkpoint, parameters: int, seed: int) -> Checkpoint:
    """A new model of about so many parameters, of the teacher's vocabulary, tokenizer and family (a Llama where there
    is no rule for that family). ValueError as `choose_shape`."""
    family = write_config(teacher.config, teacher.published)["model_type"]
    family = family if family in FAMILIES else "llama"
    config = choose_shape(parameters, family, teacher.config.embedding.vocabulary, teacher.config.context_length)
    model = initialise(Transformer(config), seed, scheme=by_fan_in)
    weights, source = model.state_dict(), f"a student of {teacher.source}"
    return replace(teacher, config=config, weights=weights, source=source, published=None)


def kept_layers(config: DistillConfig, teacher: Checkpoint) -> list[int]:
    """The numbers of the teacher's layers that a student is cut of. ValueError for a teacher that has fewer, or is
    quantised."""
    check_floats(teacher)
    layers = len(decoder_of(teacher.config).blocks)
    return evenly_spaced(config.layers or -(-layers // 2), layers)


def check_student(config: DistillConfig, teacher: str, base: Path) -> None:
    """ValueError as of `kept_layers`, before any stage runs."""
    if not config.base and config.parameters is None:
        kept_layers(config, load(located(teacher, base), "stored"))
