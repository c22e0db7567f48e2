"""Text to token ids and back, vocabularies from texts, and conversations to prompts."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.tokenizer.chat import ChatRenderer as ChatRenderer
    from lmworks.tokenizer.chat import Rendered as Rendered
    from lmworks.tokenizer.config import BpeConfig as BpeConfig
    from lmworks.tokenizer.config import UnigramConfig as UnigramConfig
    from lmworks.tokenizer.config import WordPieceConfig as WordPieceConfig
    from lmworks.tokenizer.explaining import explain as explain
    from lmworks.tokenizer.families import FAMILIES as FAMILIES
    from lmworks.tokenizer.families import chat_template as chat_template
    from lmworks.tokenizer.families import missing_roles as missing_roles
    from lmworks.tokenizer.families import missing_tokens as missing_tokens
    from lmworks.tokenizer.sentence_piece_model import load_sentence_piece as load_sentence_piece
    from lmworks.tokenizer.streaming import Detokenizer as Detokenizer
    from lmworks.tokenizer.tiktoken_ranks import load_tiktoken as load_tiktoken
    from lmworks.tokenizer.tokenizer import Tokenizer as Tokenizer
    from lmworks.tokenizer.training.bpe import Trained as Trained
    from lmworks.tokenizer.training.bpe import train_bpe as train_bpe
    from lmworks.tokenizer.training.unigram import TrainedUnigram as TrainedUnigram
    from lmworks.tokenizer.training.unigram import train_unigram as train_unigram
    from lmworks.tokenizer.training.wordpiece import train_wordpiece as train_wordpiece

_PUBLIC = {
    "BpeConfig": "lmworks.tokenizer.config",
    "ChatRenderer": "lmworks.tokenizer.chat",
    "Detokenizer": "lmworks.tokenizer.streaming",
    "FAMILIES": "lmworks.tokenizer.families",
    "Rendered": "lmworks.tokenizer.chat",
    "Tokenizer": "lmworks.tokenizer.tokenizer",
    "Trained": "lmworks.tokenizer.training.bpe",
    "TrainedUnigram": "lmworks.tokenizer.training.unigram",
    "UnigramConfig": "lmworks.tokenizer.config",
    "WordPieceConfig": "lmworks.tokenizer.config",
    "chat_template": "lmworks.tokenizer.families",
    "explain": "lmworks.tokenizer.explaining",
    "load_sentence_piece": "lmworks.tokenizer.sentence_piece_model",
    "load_tiktoken": "lmworks.tokenizer.tiktoken_ranks",
    "missing_roles": "lmworks.tokenizer.families",
    "missing_tokens": "lmworks.tokenizer.families",
    "train_bpe": "lmworks.tokenizer.training.bpe",
    "train_unigram": "lmworks.tokenizer.training.unigram",
    "train_wordpiece": "lmworks.tokenizer.training.wordpiece",
}

__all__ = [
    "FAMILIES",
    "BpeConfig",
    "ChatRenderer",
    "Detokenizer",
    "Rendered",
    "Tokenizer",
    "Trained",
    "TrainedUnigram",
    "UnigramConfig",
    "WordPieceConfig",
    "chat_template",
    "explain",
    "load_sentence_piece",
    "load_tiktoken",
    "missing_roles",
    "missing_tokens",
    "train_bpe",
    "train_unigram",
    "train_wordpiece",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.tokenizer' has no attribute {name!r}")
