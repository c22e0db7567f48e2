"""Static word vectors: trained, compared, evaluated, drawn; and the same questions to a language model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.embeddings.config import GloveConfig as GloveConfig
    from lmworks.embeddings.config import Subwords as Subwords
    from lmworks.embeddings.config import WordVectorsConfig as WordVectorsConfig
    from lmworks.embeddings.evaluation import read_analogies as read_analogies
    from lmworks.embeddings.evaluation import read_pairs as read_pairs
    from lmworks.embeddings.evaluation import score_analogies as score_analogies
    from lmworks.embeddings.evaluation import score_similarity as score_similarity
    from lmworks.embeddings.folder import load_word_vectors as load_word_vectors
    from lmworks.embeddings.folder import save_word_vectors as save_word_vectors
    from lmworks.embeddings.glove import train_glove as train_glove
    from lmworks.embeddings.language_model import contextual_vectors as contextual_vectors
    from lmworks.embeddings.language_model import token_vectors as token_vectors
    from lmworks.embeddings.phrases import Phrases as Phrases
    from lmworks.embeddings.phrases import learn_phrases as learn_phrases
    from lmworks.embeddings.training import train_word_vectors as train_word_vectors
    from lmworks.embeddings.word2vec_files import read_word2vec as read_word2vec
    from lmworks.embeddings.word2vec_files import write_word2vec as write_word2vec
    from lmworks.embeddings.word_vectors import WordVectors as WordVectors

_PUBLIC = {
    "GloveConfig": "lmworks.embeddings.config",
    "Phrases": "lmworks.embeddings.phrases",
    "Subwords": "lmworks.embeddings.config",
    "WordVectors": "lmworks.embeddings.word_vectors",
    "WordVectorsConfig": "lmworks.embeddings.config",
    "contextual_vectors": "lmworks.embeddings.language_model",
    "learn_phrases": "lmworks.embeddings.phrases",
    "load_word_vectors": "lmworks.embeddings.folder",
    "read_analogies": "lmworks.embeddings.evaluation",
    "read_pairs": "lmworks.embeddings.evaluation",
    "read_word2vec": "lmworks.embeddings.word2vec_files",
    "save_word_vectors": "lmworks.embeddings.folder",
    "score_analogies": "lmworks.embeddings.evaluation",
    "score_similarity": "lmworks.embeddings.evaluation",
    "token_vectors": "lmworks.embeddings.language_model",
    "train_glove": "lmworks.embeddings.glove",
    "train_word_vectors": "lmworks.embeddings.training",
    "write_word2vec": "lmworks.embeddings.word2vec_files",
}

__all__ = [
    "GloveConfig",
    "Phrases",
    "Subwords",
    "WordVectors",
    "WordVectorsConfig",
    "contextual_vectors",
    "learn_phrases",
    "load_word_vectors",
    "read_analogies",
    "read_pairs",
    "read_word2vec",
    "save_word_vectors",
    "score_analogies",
    "score_similarity",
    "token_vectors",
    "train_glove",
    "train_word_vectors",
    "write_word2vec",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.embeddings' has no attribute {name!r}")
