"""Text to token ids and back, and conversations to prompts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.tokenizer.chat import ChatRenderer as ChatRenderer
    from lmworks.tokenizer.chat import Rendered as Rendered
    from lmworks.tokenizer.sentence_piece_model import load_sentence_piece as load_sentence_piece
    from lmworks.tokenizer.streaming import Detokenizer as Detokenizer
    from lmworks.tokenizer.tiktoken_ranks import load_tiktoken as load_tiktoken
    from lmworks.tokenizer.tokenizer import Tokenizer as Tokenizer

_PUBLIC = {
    "ChatRenderer": "lmworks.tokenizer.chat",
    "Detokenizer": "lmworks.tokenizer.streaming",
    "Rendered": "lmworks.tokenizer.chat",
    "Tokenizer": "lmworks.tokenizer.tokenizer",
    "load_sentence_piece": "lmworks.tokenizer.sentence_piece_model",
    "load_tiktoken": "lmworks.tokenizer.tiktoken_ranks",
}

__all__ = ["ChatRenderer", "Detokenizer", "Rendered", "Tokenizer", "load_sentence_piece", "load_tiktoken"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.tokenizer' has no attribute {name!r}")
