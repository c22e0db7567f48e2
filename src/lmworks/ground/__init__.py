"""Grounded answers: sentences with citations that are proven, or an abstention.

from lmworks.ground import load_answerer
load_answerer(index_folder, calibration_folder, {"embedder": ..., "assistant": ...}).answer("...")
"""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.ground.config import AnswerConfig
    from lmworks.ground.grounded_answer import Answerer, load_answerer

__getattr__, __all__ = lazy_exports(__name__, __file__)
