"""Static word vectors: trained, compared, evaluated, drawn; and the same questions to a language model."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.embeddings.analogy_evaluation import read_analogies, read_pairs, score_analogies, score_similarity
    from lmworks.embeddings.config import GloveConfig, Subwords, WordVectorsConfig
    from lmworks.embeddings.contextual_embeddings import contextual_vectors, token_vectors
    from lmworks.embeddings.glove import train_glove
    from lmworks.embeddings.vector_files import load_word_vectors, read_word2vec, save_word_vectors, write_word2vec
    from lmworks.embeddings.word2vec import train_word_vectors
    from lmworks.embeddings.word_vectors import WordVectors

__getattr__, __all__ = lazy_exports(__name__, __file__)
