"""Stages that train models."""

from lmworks.stage import CHECKPOINT, MODEL_LIBRARIES, SHARDS, VOCABULARY, Stage

STAGES: dict[str, Stage] = {
    "train.pretrain": Stage(
        run="lmworks.train.train_stages:pretrain",
        config="lmworks.train.config:PretrainConfig",
        version=8,
        purpose="train a new language model on token shards, from one target: minutes, parameters or tokens",
        inputs=(
            "token shards, which data.tokenize makes; those of the held-out part are validated on",
            VOCABULARY,
        ),
        libraries=("numpy", "tokenizers", "torch"),
    ),
    "train.finetune": Stage(
        run="lmworks.train.train_stages:finetune",
        config="lmworks.train.config:FinetuneConfig",
        version=8,
        purpose="go on training a checkpoint on other token shards, such as conversations",
        inputs=(SHARDS, CHECKPOINT),
        libraries=MODEL_LIBRARIES,
        check="lmworks.train.train_stages:check",
    ),
    "train.sweep": Stage(
        run="lmworks.train.sweep.stage:sweep",
        config="lmworks.train.sweep.config:SweepConfig",
        version=8,
        purpose="train models of several sizes on several numbers of tokens, and fit the scaling law of this text",
        inputs=(
            "token shards, which data.tokenize makes, and those of the held-out part",
            VOCABULARY,
        ),
        libraries=("matplotlib", "numpy", "scipy", "tokenizers", "torch"),
    ),
    "train.embedder": Stage(
        run="lmworks.train.stage_embedder:embedder",
        config="lmworks.train.config:EmbedderConfig",
        version=8,
        purpose="go on training a checkpoint as an embedding model, on pairs of texts that belong together",
        inputs=(CHECKPOINT,),
        libraries=MODEL_LIBRARIES,
    ),
    "train.cross_encoder": Stage(
        run="lmworks.train.stage_cross_encoder:cross_encoder",
        config="lmworks.train.config:CrossEncoderConfig",
        version=3,
        purpose="teach a text encoder to read pairs: a reader, a reranker or a verifier",
        inputs=(CHECKPOINT,),
        libraries=("numpy", "tokenizers", "torch"),
    ),
}
