"""Stages that make models smaller."""

from lmworks.stage import CHECKPOINT, DOCUMENTS, MODEL_LIBRARIES, SHARDS, Stage

STAGES: dict[str, Stage] = {
    "compress.quantise": Stage(
        run="lmworks.compress.stage:quantise",
        config="lmworks.compress.config:QuantiseConfig",
        version=2,
        purpose="quantise a checkpoint after its training: RTN, GPTQ, AWQ, SmoothQuant, mixed precision under a budget",
        inputs=(
            CHECKPOINT,
            "documents to calibrate on, which corpus.read makes; none for rtn",
        ),
        libraries=MODEL_LIBRARIES,
        check="lmworks.compress.stage:check",
    ),
    "compress.lsq": Stage(
        run="lmworks.compress.lsq:lsq",
        config="lmworks.compress.config:LSQConfig",
        version=1,
        purpose="quantise a checkpoint by training it with rounded weights and learned scales",
        inputs=(SHARDS, CHECKPOINT),
        libraries=MODEL_LIBRARIES,
        check="lmworks.compress.stage:check",
    ),
    "compress.compare": Stage(
        run="lmworks.compress.compression_report:compare",
        config="lmworks.compress.config:CompareConfig",
        version=1,
        purpose="measure compressed models next to their base: bytes, speed, bits per byte, suites; keep the best",
        inputs=(
            "compressed models, which the stages of compress make",
            "the documents that those were calibrated on, of which a share was held out",
        ),
        libraries=("gguf", "matplotlib", "numpy", "tokenizers", "torch"),
    ),
    "compress.prune": Stage(
        run="lmworks.compress.stage:pruning",
        config="lmworks.compress.config:PruneConfig",
        version=1,
        purpose="take heads, neurons or layers out of a model, or set weights to 0: a smaller or a sparser checkpoint",
        inputs=(
            f"{DOCUMENTS}, to calibrate on; none for magnitudes",
            CHECKPOINT,
        ),
        libraries=MODEL_LIBRARIES,
        check="lmworks.compress.stage:check",
    ),
    "compress.teacher": Stage(
        run="lmworks.compress.stage_distil:teacher",
        config="lmworks.compress.distillation_config:TeacherConfig",
        version=1,
        purpose="store what a teacher says to token shards: the likeliest next tokens at each place",
        inputs=(SHARDS,),
        libraries=MODEL_LIBRARIES,
        models=("teacher",),
    ),
    "compress.sequences": Stage(
        run="lmworks.compress.teacher_sequences:sequences",
        config="lmworks.compress.distillation_config:SequencesConfig",
        version=1,
        purpose="let a teacher answer prompts, or continue documents, for a student to learn from",
        inputs=(f"{DOCUMENTS}; none where rows are set",),
        libraries=MODEL_LIBRARIES,
        models=("teacher",),
        check="lmworks.compress.teacher_sequences:check",
    ),
    "compress.distil": Stage(
        run="lmworks.compress.stage_distil:distil",
        config="lmworks.compress.distillation_config:DistillConfig",
        version=1,
        purpose="teach a student what a teacher says to token shards: logits, hidden states, attention maps",
        inputs=(
            "token shards of the student's vocabulary, which data.tokenize makes; the held-out part is validated on",
            "a student, which compress.prune makes; none where base is set, or it is made of the teacher",
            "what the teacher says, which compress.teacher makes; none next to a model in the role teacher",
        ),
        libraries=MODEL_LIBRARIES,
        optional=("teacher",),
        check="lmworks.compress.stage:check",
    ),
}
