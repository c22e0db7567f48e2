"""Text to token ids and back, vocabularies from texts, and conversations to prompts."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.tokenizer.chat import ChatRenderer, Rendered
    from lmworks.tokenizer.config import BpeConfig, UnigramConfig, WordPieceConfig
    from lmworks.tokenizer.explaining import explain
    from lmworks.tokenizer.families import FAMILIES, chat_template, missing_roles, missing_tokens
    from lmworks.tokenizer.sentence_piece_model import load_sentence_piece
    from lmworks.tokenizer.streaming import Detokenizer
    from lmworks.tokenizer.tiktoken_ranks import load_tiktoken
    from lmworks.tokenizer.tokenizer import Tokenizer
    from lmworks.tokenizer.training.bpe import Trained, train_bpe
    from lmworks.tokenizer.training.unigram import TrainedUnigram, train_unigram
    from lmworks.tokenizer.training.wordpiece import train_wordpiece

__getattr__, __all__ = lazy_exports(__name__, __file__)
