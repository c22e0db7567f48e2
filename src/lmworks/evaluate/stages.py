"""Stages that evaluate models and metrics."""

from lmworks.stage import MODEL_LIBRARIES, Stage

STAGES: dict[str, Stage] = {
    "evaluate.suite": Stage(
        run="lmworks.system:evaluate_suite",
        config="lmworks.evaluate.config:SuiteConfig",
        version=5,
        purpose="score a model, or a whole system, on the tasks of a suite, item by item",
        inputs=("the tasks' files, such as the questions that ground.refusals holds out; none where data is set",),
        libraries=MODEL_LIBRARIES,
        optional=("model",),
        check="lmworks.evaluate.suite:check",
        outside_digest="lmworks.evaluate.suite:outside_digest",
    ),
    "evaluate.learned": Stage(
        run="lmworks.evaluate.learned_metric:learned",
        config="lmworks.evaluate.config:LearnedConfig",
        version=2,
        purpose="train a metric on texts that people rated, and measure it on documents that were held out",
        libraries=("numpy", "sacrebleu", "tokenizers", "torch"),
        check="lmworks.evaluate.learned_metric:check",
    ),
    "evaluate.judge": Stage(
        run="lmworks.evaluate.judge_calibration:calibrate_judge",
        config="lmworks.evaluate.config:JudgeConfig",
        version=3,
        purpose="measure how far a judge agrees with people, and what besides quality moves it",
        libraries=("numpy", "scipy", "tokenizers", "torch"),
        optional=("judge",),
        check="lmworks.evaluate.judge_calibration:check",
        outside_digest="lmworks.evaluate.judge_calibration:outside_digest",
    ),
}
