"""lmworks: from raw documents to a served, grounded, evaluated and monitored language-model system.

    checkpoint = lmworks.load("smollm2-135m-instruct")   # or a Hugging Face folder, or a .gguf file
    engine = lmworks.Engine(checkpoint)                  # generate, stream, score, embed
    system = lmworks.open(workspace)                     # what `lmworks build` made
    answer = system.ask("...")                           # text, citations, confidence, verdicts, lineage

The names are imported on first use, so that `import lmworks` stays instant.
"""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.adapt.adapted_checkpoint import load
    from lmworks.generate.engine import Engine
    from lmworks.system import open

__version__ = "0.1.0"

__getattr__, __all__ = lazy_exports(__name__, __file__)
