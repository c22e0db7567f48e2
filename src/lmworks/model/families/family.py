"""A family as a value: the preset that builds it, and where a `config.json` and its tensors keep the parts.

Reading is strict where it matters: a field that changes what the model computes must have a value we compute; anything
else in the file is ignored.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import Any

from torch import Tensor

from lmworks.model.config import ClassificationHead, Head, LanguageModelHead, ModelConfig, ScoreHead, UnsupportedModel

JsonObject = dict[str, Any]
Document = Mapping[str, Any]  # a config.json


@dataclass(frozen=True)
class Setting:
    """An argument of a family's preset: `read` finds it in a config.json, `write` gives the fields that express it."""

    argument: str
    read: Callable[[Document], Any]
    write: Callable[[ModelConfig], JsonObject]


@dataclass(frozen=True)
class Architecture:
    """One of a family's classes in `transformers`, which differ in their heads.

    read_head    the head, from config.json and the config that the preset gave.
    heads        the kinds of head that it has.
    write_head   the fields that express one of these.
    modules      our module names of the head → theirs.
    bare         the model by itself, whose tensor names go without the family's prefix.
    """

    name: str
    read_head: Callable[[Document, ModelConfig], Head | None]
    heads: type | UnionType
    write_head: Callable[[Any], JsonObject] = lambda head: {}
    modules: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False


@dataclass(frozen=True)
class Fused:
    """Several of our tensors that are one of theirs: `split` cuts theirs, `join` puts ours together.

    Names are without `.weight` or `.bias`, and both get the same treatment; or one parameter's whole
    name. The functions take the config as well.
    """

    their_name: str
    ours: tuple[str, ...]
    split: Callable[[Tensor, ModelConfig], Sequence[Tensor]]
    join: Callable[[Sequence[Tensor], ModelConfig], Tensor]


@dataclass(frozen=True)
class Family:
    """One `model_type`.

    prefix      of their tensor names in every class but the bare model's.
    preset      builds the config from the arguments that `settings` read, with whatever head it has.
    fixed       fields that must have one value, or one of a tuple's; the first is their default, and is written too
                when not None.
    modules     our module (or parameter) names → theirs, without the prefix; `{}` stands for a number.
    variant     the same of modules whose names depend on the config.
    fused       tensors that are cut or put together, see `Fused`.
    copies      their tensors that some files hold twice → the other name, without the prefix; they must be equal.
    renamed     how their names end in older files → today's ending.
    stored      the config by the names of the tensors that are there, where config.json does not say all of it.
    ignored     regular expression: their tensors that hold nothing the forward uses.
    """

    model_type: str
    prefix: str
    preset: Callable[..., ModelConfig]
    settings: tuple[Setting, ...]
    fixed: Mapping[str, Any]
    architectures: tuple[Architecture, ...]
    modules: Mapping[str, str]
    variant: Callable[[ModelConfig], Mapping[str, str]] = lambda config: {}
    fused: tuple[Fused, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    stored: Callable[[ModelConfig, Collection[str]], ModelConfig] = lambda config, names: config
    ignored: str = r"(?!)"

    def read(self, document: Document) -> ModelConfig:
        """UnsupportedModel names the first field whose value is not computed here; KeyError a missing one."""
        for name, value in {**self.fixed, "quantization_config": None}.items():
            allowed = value if isinstance(value, tuple) else (value,)
            given = document.get(name, allowed[0])
            if given not in allowed:
                supported = ", ".join(map(repr, allowed))
                raise UnsupportedModel(f"{name} = {given!r} is not supported; supported: {supported}")
        config = self.preset(**{setting.argument: setting.read(document) for setting in self.settings})
        return replace(config, head=self.architecture(document).read_head(document, config))

    def write(self, config: ModelConfig, architecture: Architecture) -> JsonObject:
        if not isinstance(config.head, architecture.heads):
            raise UnsupportedModel(f"{architecture.name} has another head than {config.head}")
        document: JsonObject = {"architectures": [architecture.name], "model_type": self.model_type}
        defaults = {name: value[0] if isinstance(value, tuple) else value for name, value in self.fixed.items()}
        document |= {name: value for name, value in defaults.items() if value is not None}
        for setting in self.settings:
            document |= setting.write(config)
        return document | architecture.write_head(config.head)

    def architecture(self, document: Document) -> Architecture:
        """The class that a config.json names; the first one when it names none."""
        names = document.get("architectures") or [self.architectures[0].name]
        for architecture in self.architectures:
            if names == [architecture.name]:
                return architecture
        known = ", ".join(architecture.name for architecture in self.architectures)
        raise UnsupportedModel(f"architectures {names} is not supported; supported: {known}")


# ---------------------------------------------------------------------------------------------------------------------
# The parts that families are declared with

_ABSENT = object()


def setting(
    argument: str,
    name: str,
    get: Callable[[ModelConfig], Any],
    default: Any = _ABSENT,
    values: Mapping[Any, Any] | None = None,
    nullable: bool = False,
) -> Setting:
    """The usual kind: one field `name` of config.json, whose `default` stands where it is missing, and, unless it is
    `nullable`, also where it is null.

    `get` finds the argument's value in a config. `values` translates their values to ours; the first of several that
    mean the same is the one written.
    """

    def read(document: Document) -> Any:
        value = document.get(name)
        if value is None and not (nullable and name in document):
            if default is _ABSENT:
                raise KeyError(name)
            value = default
        if values is None:
            return value
        if value not in values:
            raise UnsupportedModel(f"{name} = {value!r} is not supported; supported: {', '.join(map(str, values))}")
        return values[value]

    def write(config: ModelConfig) -> JsonObject:
        value = get(config)
        return {name: value if values is None else next(t for t, ours in values.items() if ours == value)}

    return Setting(argument, read, write)


def bare_model(name: str) -> Architecture:
    """The class without a head, whose output is the hidden states."""
    return Architecture(name, lambda document, config: None, NoneType, bare=True)


def language_model(
    name: str,
    modules: Mapping[str, str] | None = None,
    tied: bool = False,
    softcap: tuple[str, float | None] | None = None,
) -> Architecture:
    """The class with the language model head; `tied` is the default of `tie_word_embeddings`, `softcap` the field of
    the cap and its default."""

    def read_head(document: Document, config: ModelConfig) -> Head:
        cap = None if softcap is None else document.get(*softcap)
        return LanguageModelHead(tied=document.get("tie_word_embeddings", tied), softcap=cap)

    def write_head(head: LanguageModelHead) -> JsonObject:
        return {"tie_word_embeddings": head.tied} | ({} if softcap is None else {softcap[0]: head.softcap})

    return Architecture(name, read_head, LanguageModelHead, write_head, modules or {"head.projection": "lm_head"})


def last_token_classifier(name: str) -> Architecture:
    """The class that labels a text by its last token; with one label it is a score."""

    def read_head(document: Document, config: ModelConfig) -> Head:
        labels = len(document.get("id2label") or range(document.get("num_labels", 2)))
        return ScoreHead("last") if labels == 1 else ClassificationHead(labels, "last", activation=None, bias=False)

    def write_head(head: ClassificationHead | ScoreHead) -> JsonObject:
        labels = head.labels if isinstance(head, ClassificationHead) else 1
        return {} if labels == 2 else {"num_labels": labels}

    return Architecture(name, read_head, ClassificationHead | ScoreHead, write_head, {"head.projection": "score"})


def decoder_classes(
    name: str,
    causal: str = "ForCausalLM",
    modules: Mapping[str, str] | None = None,
    tied: bool = False,
    softcap: tuple[str, float | None] | None = None,
) -> tuple[Architecture, ...]:
    """The classes of most decoders: `language_model`, `bare_model`, `last_token_classifier`."""
    return (
        language_model(f"{name}{causal}", modules, tied, softcap),
        bare_model(f"{name}Model"),
        last_token_classifier(f"{name}ForSequenceClassification"),
    )


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
