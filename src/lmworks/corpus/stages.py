"""Stages of the corpus: from files to clean documents."""

from lmworks.stage import ATTRIBUTES, DOCUMENTS, MODEL_LIBRARIES, Stage

STAGES: dict[str, Stage] = {
    "corpus.read": Stage(
        run="lmworks.corpus.read.stage:read",
        config="lmworks.corpus.read.config:ReadConfig",
        version=21,
        purpose="read files into documents; list what was left out and why",
        libraries=(  # that read, and that extract
            *("charset-normalizer", "fastwarc", "pyarrow"),
            *("mammoth", "markdown-it-py", "mwparserfromhell", "pypdfium2", "lxml"),
        ),
        check="lmworks.corpus.read.stage:check",
        outside_digest="lmworks.corpus.read.document_reader:outside_digest",
        keeps_hashes=True,
    ),
    "corpus.tag": Stage(
        run="lmworks.corpus.taggers.stage:annotate",
        config="lmworks.corpus.taggers.config:AnnotateConfig",
        version=10,
        purpose="measure documents: repairs, language, heuristics, personal data, licences, evaluation items",
        inputs=(DOCUMENTS,),
        libraries=("ftfy", "license-expression", "numpy", "py3langid", "pygments", "scikit-learn"),
        check="lmworks.corpus.taggers.tag_document:tools_of",
    ),
    "corpus.dedup": Stage(
        run="lmworks.corpus.dedup.stage:duplicates",
        config="lmworks.corpus.dedup.stage:DuplicatesConfig",
        version=9,
        purpose="find documents, paragraphs, passages and repositories that repeat others",
        inputs=(DOCUMENTS, "their attributes, which corpus.tag makes"),
        libraries=("numpy", "scipy"),
    ),
    "corpus.filter": Stage(
        run="lmworks.corpus.stage:clean",
        config="lmworks.corpus.filtering.stage:CleanConfig",
        version=14,
        purpose="decide by a policy what stays of documents, and keep a ledger of why",
        inputs=(
            DOCUMENTS,
            ATTRIBUTES,
            "their duplicates, which corpus.dedup makes",
        ),
        libraries=("numpy", "pyarrow"),
        check="lmworks.corpus.filtering.stage:check",
        check_inputs="lmworks.corpus.filtering.stage:check_inputs",
    ),
    "corpus.balance": Stage(
        run="lmworks.corpus.balance.stage:balance",
        config="lmworks.corpus.balance.config:BalanceConfig",
        version=7,
        purpose="bring documents of several sources into the wanted proportions: choose, repeat, vary repeats",
        inputs=(
            DOCUMENTS,
            f"{ATTRIBUTES}; none where no factor asks for any",
        ),
        libraries=("numpy", "pyarrow"),
        check_inputs="lmworks.corpus.balance.stage:check_inputs",
    ),
    "corpus.perplexity": Stage(
        run="lmworks.generate.perplexity:perplexity",
        config="lmworks.corpus.taggers.config:ModelPerplexityConfig",
        version=5,
        purpose="measure how unlikely a language model finds each document, for corpus.filter as a further input",
        inputs=(
            DOCUMENTS,
            "their attributes, which corpus.tag makes",
            "a checkpoint, which train.pretrain or train.finetune makes, or the documents of learn_from; none where "
            "checkpoint is set",
        ),
        libraries=MODEL_LIBRARIES,
    ),
}
