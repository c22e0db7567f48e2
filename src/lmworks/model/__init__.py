"""The model core: architectures as data, their modules, and checkpoints on disk."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.model.checkpoint import Checkpoint, assemble, load
    from lmworks.model.config import ModelConfig
    from lmworks.model.download import locate, pull
    from lmworks.model.embedding_resize import extend_vocabulary
    from lmworks.model.gguf_write import save_gguf
    from lmworks.model.initialisation import initialise
    from lmworks.model.kv_cache import KVCache
    from lmworks.model.presets.sizes import SIZES
    from lmworks.model.transformer import Transformer

__getattr__, __all__ = lazy_exports(__name__, __file__)
