"""All stages by name, as each package lists them."""

from lmworks.align.stages import STAGES as ALIGN
from lmworks.compress.stages import STAGES as COMPRESS
from lmworks.corpus.stages import STAGES as CORPUS
from lmworks.data.stages import STAGES as DATA
from lmworks.embeddings.stages import STAGES as EMBEDDINGS
from lmworks.evaluate.stages import STAGES as EVALUATE
from lmworks.ground.stages import STAGES as GROUND
from lmworks.retrieve.stages import STAGES as RETRIEVE
from lmworks.stage import Stage
from lmworks.train.stages import STAGES as TRAIN

STAGES: dict[str, Stage] = {
    **CORPUS, **DATA, **EMBEDDINGS, **TRAIN, **ALIGN, **COMPRESS, **EVALUATE, **RETRIEVE, **GROUND,
}  # fmt: skip

ANSWERER = "ground.calibrate"  # the stage whose artefact decides answers
_OTHER_NAMES = {  # what other libraries call what a stage does, by how the word begins
    "minhash": "corpus.dedup",
    "clean": "corpus.filter",
    "annotate": "corpus.tag",
    "extract": "corpus.read",
    "mix": "corpus.balance",
}
_RENAMED = {  # names that recipes still hold, until the next version
    "data.read": "corpus.read",
    "data.annotate": "corpus.tag",
    "data.duplicates": "corpus.dedup",
    "data.clean": "corpus.filter",
    "data.balance": "corpus.balance",
    "data.perplexity": "corpus.perplexity",
}


def stage_name(name: str) -> str:
    """The name of a stage today, of one that may be an older name."""
    return _RENAMED.get(name, name)


def meant_stages(name: str) -> list[str]:
    """The stages that other libraries call so."""
    return [stage for word, stage in _OTHER_NAMES.items() if name.rpartition(".")[2].startswith(word)]
