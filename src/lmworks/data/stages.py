"""Stages that learn a vocabulary and write token shards."""

from lmworks.stage import DOCUMENTS, Stage

STAGES: dict[str, Stage] = {
    **{
        f"tokenizer.{kind}": Stage(
            run="lmworks.data.tokenizer_stage:train",
            config=f"lmworks.tokenizer.config:{config}",
            version=8,
            purpose=f"learn a vocabulary from documents {how}",
            inputs=(DOCUMENTS,),
            libraries=("numpy", "tokenizers"),
        )
        for kind, config, how in (
            ("bpe", "BpeConfig", "by byte-pair encoding"),
            ("wordpiece", "WordPieceConfig", "as BERT has it"),
            ("unigram", "UnigramConfig", "as T5 has it"),
        )
    },
    "data.tokenize": Stage(
        run="lmworks.model.stage_tokenize:tokenize",
        config="lmworks.data.config:TokenizeConfig",
        version=10,
        purpose="write documents, or conversations, as token shards",
        inputs=(
            f"{DOCUMENTS}, or conversations, which ground.refusals makes; none where conversations are set",
            "a vocabulary, which tokenizer.bpe, .wordpiece or .unigram makes; none where tokenizer is set",
        ),
        libraries=("jinja2", "numpy", "safetensors", "tokenizers"),
    ),
}
