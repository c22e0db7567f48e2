"""Text to token ids and back, vocabularies from texts, and conversations to prompts."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.tokenizer.chat import ChatRenderer, Rendered
    from lmworks.tokenizer.chat_templates import FAMILIES, chat_template, missing_roles, missing_tokens
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
    from lmworks.tokenizer.incremental_detokenizer import Detokenizer
    from lmworks.tokenizer.merge_history import explain
    from lmworks.tokenizer.tiktoken_ranks import load_tiktoken
    from lmworks.tokenizer.tokenizer import Tokenizer, load_sentence_piece
    from lmworks.tokenizer.training.trainers import Trained, train_bpe, train_unigram, train_wordpiece

__getattr__, __all__ = lazy_exports(__name__, __file__)
