"""The stage that indexes documents."""

from lmworks.stage import DOCUMENTS, Stage

STAGES: dict[str, Stage] = {
    "retrieve.index": Stage(
        run="lmworks.retrieve.stage:index",
        config="lmworks.retrieve.config:IndexConfig",
        version=19,
        purpose="cut documents into chunks; index them by embedding and by words",
        inputs=(DOCUMENTS,),
        libraries=("markdown-it-py", "numpy", "tokenizers", "torch"),
        models=("embedder",),
        check="lmworks.retrieve.vector_store:check",
    ),
}
