"""Stages of grounded answers."""

from lmworks.stage import DOCUMENTS, INDEX, QUESTIONS, READERS, Stage

STAGES: dict[str, Stage] = {
    "ground.questions": Stage(
        run="lmworks.ground.question_generation:make_questions",
        config="lmworks.ground.config:QuestionsConfig",
        version=15,
        purpose="load gold questions and make automatic ones from headings and removed sources",
        inputs=(DOCUMENTS,),
        libraries=("markdown-it-py",),
    ),
    "ground.calibrate": Stage(
        run="lmworks.ground.calibration:calibrate",
        config="lmworks.ground.config:CalibrationConfig",
        version=20,
        purpose="fit the confidence of answers, and the threshold below which to abstain, on the calibration split",
        inputs=(INDEX, QUESTIONS),
        libraries=("numpy", "scikit-learn", "tokenizers", "torch"),
        models=("embedder",),
        optional=(*READERS, "expander"),
    ),
    "ground.evaluate": Stage(
        run="lmworks.ground.grounding_evaluation:evaluate",
        config="lmworks.ground.config:EvaluationConfig",
        version=21,
        purpose="ask the test questions; score answers, citations and abstentions next to two baselines",
        inputs=(INDEX, QUESTIONS, "a calibration, which ground.calibrate makes"),
        libraries=("numpy", "tokenizers", "torch"),
        models=("embedder",),
        optional=(*READERS, "expander"),
    ),
    "ground.refusals": Stage(
        run="lmworks.ground.refusal_rows:refusals",
        config="lmworks.ground.config:RefusalsConfig",
        version=2,
        purpose="ask a model what it knows, and write rows that teach it to answer that and to refuse the rest",
        inputs=(f"{QUESTIONS}, and {INDEX}; none where tasks are set",),
        libraries=("numpy", "scikit-learn", "tokenizers", "torch"),
        models=("base",),
        check="lmworks.ground.refusal_rows:check",
        outside_digest="lmworks.ground.refusal_rows:outside_digest",
    ),
}
