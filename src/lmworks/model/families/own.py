"""Our own `model_type`, "lmworks", for what no family of `transformers` expresses: the whole config, our names."""

from lmworks.config import from_mapping, to_mapping
from lmworks.model.config import ModelConfig
from lmworks.model.huggingface import Architecture, Family, Setting


class _Same(dict[str, str]):
    """Every name → the same name."""

    def __missing__(self, name: str) -> str:
        return name


OWN = Family(
    model_type="lmworks",
    prefix="",
    preset=lambda config: from_mapping(ModelConfig, config, ["config"]),
    settings=(Setting("config", lambda document: document["config"], lambda config: {"config": to_mapping(config)}),),
    fixed={},
    architectures=(Architecture("Transformer", lambda document, config: config.head, lambda head: {}),),
    modules=_Same(),
)
