"""Stages that learn word vectors."""

from lmworks.stage import DOCUMENTS, Stage

STAGES: dict[str, Stage] = {
    "embeddings.words": Stage(
        run="lmworks.embeddings.stage:words",
        config="lmworks.embeddings.config:WordVectorsConfig",
        version=8,
        purpose="learn word vectors from documents by skip-gram or CBOW, with subwords if wanted",
        inputs=(DOCUMENTS,),
        libraries=("numpy",),
    ),
    "embeddings.glove": Stage(
        run="lmworks.embeddings.stage:glove",
        config="lmworks.embeddings.config:GloveConfig",
        version=9,
        purpose="learn word vectors from documents by GloVe",
        inputs=(DOCUMENTS,),
        libraries=("numpy", "scipy"),
    ),
}
