"""Grounded answers: sentences with citations that are proven, or an abstention.

from lmworks.ground import load_answerer
load_answerer(index_folder, calibration_folder, {"embedder": ..., "assistant": ...}).answer("...")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.ground.answering import Answerer as Answerer
    from lmworks.ground.answering import load_answerer as load_answerer
    from lmworks.ground.config import AnswerConfig as AnswerConfig

_PUBLIC = {
    "Answerer": "lmworks.ground.answering",
    "load_answerer": "lmworks.ground.answering",
    "AnswerConfig": "lmworks.ground.config",
}

__all__ = ["AnswerConfig", "Answerer", "load_answerer"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.ground' has no attribute {name!r}")
