"""Stages that learn a vocabulary and write token shards."""

from lmworks.stage import DOCUMENTS, Stage

STAGES: dict[str, Stage] = {
    "tokenizer.bpe": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:BpeConfig",
        version=8,
        purpose="learn a vocabulary from documents by byte-pair encoding",
        inputs=(DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
    "tokenizer.wordpiece": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:WordPieceConfig",
        version=8,
        purpose="learn a vocabulary from documents as BERT has it",
        inputs=(DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
    "tokenizer.unigram": Stage(
        run="lmworks.data.tokenizer_stage:train",
        config="lmworks.tokenizer.config:UnigramConfig",
        version=8,
        purpose="learn a vocabulary from documents as T5 has it",
        inputs=(DOCUMENTS,),
        libraries=("numpy", "tokenizers"),
    ),
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
