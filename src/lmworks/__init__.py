"""lmworks: from raw documents to a served, grounded, evaluated and monitored language-model system.

    checkpoint = lmworks.load("smollm2-135m-instruct")   # or a Hugging Face folder, or a .gguf file
    engine = lmworks.Engine(checkpoint)                  # generate, stream, score, embed
    system = lmworks.open(workspace)                     # what `lmworks build` made
    answer = system.ask("...")                           # text, citations, confidence, verdicts, lineage

The names are imported on first use, so that `import lmworks` stays instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.generate.engine import Engine as Engine
    from lmworks.model.checkpoint import load as load
    from lmworks.system import open as open

__version__ = "0.1.0"

_PUBLIC = {
    "load": "lmworks.model.checkpoint",
    "Engine": "lmworks.generate.engine",
    "open": "lmworks.system",
}

__all__ = ["Engine", "__version__", "load", "open"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks' has no attribute {name!r}")
