"""lmworks: from raw documents to a served, grounded, evaluated and monitored language-model system.

    checkpoint = lmworks.load("smollm2-135m-instruct")   # or a Hugging Face folder, or a .gguf file
    engine = lmworks.Engine(checkpoint)                  # generate, stream, score, embed
    system = lmworks.open(workspace)                     # what `lmworks build` made
    answer = system.ask("...")                           # text, citations, confidence, verdicts, lineage
    tuned = lmworks.finetune(model, rows, minutes=3)     # and align, compress, evaluate: commands, as functions

The names are imported on first use, so that `import lmworks` stays instant.
"""

import sys
from typing import TYPE_CHECKING

from lmworks.extras import ExtraFinder
from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.adapt.adapter import load
    from lmworks.commands.finetune import finetune
    from lmworks.generate.engine import Engine
    from lmworks.system import open

if TYPE_CHECKING:  # packages that are called, which type checkers do not know of a module
    import lmworks.commands.align
    import lmworks.commands.compress
    import lmworks.commands.evaluate
    from lmworks.lazy import callable_package

    align = callable_package(lmworks.commands.align.align)
    compress = callable_package(lmworks.commands.compress.compress)
    evaluate = callable_package(lmworks.commands.evaluate.evaluate)

__version__ = "0.1.0"

sys.meta_path.append(ExtraFinder)
__getattr__, __all__ = lazy_exports(__name__, __file__)
