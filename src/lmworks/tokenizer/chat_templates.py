"""The chat templates of the common families, for who tunes a base model or has a checkpoint without one.

The programs are in `templates/`, one file a family, written for this package. They give the strings that the templates
of published checkpoints give (`docs/measured/chat.md` has the comparison), refuse what those refuse, and enclose what
the assistant writes in `{% generation %}`. A model learns a family's form only if the tokens that frame its turns are
tokens of its vocabulary: `missing_tokens` tells which are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Family:
    """A family of checkpoints that share a chat template.

    models  the checkpoints whose template it equals.
    tokens  the special tokens it writes by name.
    roles   the roles of special tokens, by the names of `tokenizer_config.json`, and the tokens that the checkpoints
            have in them; a template reads a token by its role, and not all of the roles.
    """

    models: str
    tokens: tuple[str, ...]
    roles: Mapping[str, str]


_CHATML = ("<|im_start|>", "<|im_end|>")
_LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_MISTRAL_V3 = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
               "[/TOOL_RESULTS]")  # fmt: skip
_MISTRAL_V7 = (*_MISTRAL_V3, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")
_END = MappingProxyType({"eos_token": "<|endoftext|>"})
_BOTH = MappingProxyType({"eos_token": "</s>", "bos_token": "<s>"})
_LLAMA3_ROLES = MappingProxyType({"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"})
_GEMMA_ROLES = MappingProxyType({"eos_token": "<eos>", "bos_token": "<bos>"})
_MEANINGS = {"bos_token": "begins a text", "eos_token": "ends a text"}

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "chatml": Family("OpenHermes, and most models tuned without a form of their own", _CHATML, _END),
        "smollm2": Family("SmolLM2", _CHATML, _END),
        "qwen2.5": Family("Qwen 2.5", _CHATML, _END),
        "qwen3": Family("Qwen 3", _CHATML, _END),
        "llama2": Family("Llama 2", (), _BOTH),
        "llama3": Family("Llama 3", _LLAMA3, _LLAMA3_ROLES),
        "llama3.1": Family("Llama 3.1 and 3.3", _LLAMA3, _LLAMA3_ROLES),
        "mistral-v1": Family("Mistral 7B 0.1 and 0.2, Mixtral 8x7B", (), _BOTH),
        "mistral-v3": Family("Mistral 7B 0.3, Mixtral 8x22B", _MISTRAL_V3, _BOTH),
        "mistral-v7": Family("Mistral Large 2411", _MISTRAL_V7, _BOTH),
        "gemma": Family("Gemma 1 and 2", _GEMMA, _GEMMA_ROLES),
        "gemma3": Family("Gemma 3", _GEMMA, _GEMMA_ROLES),
        "phi3": Family("Phi-3", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), _END),
        "zephyr": Family("Zephyr", (), _BOTH),
    }
)


@cache
def chat_template(family: str) -> str:
    """The Jinja source of a family's chat template; ChatTemplateError with the known names for another one."""
    if family not in FAMILIES:
        raise ChatTemplateError(f"no family of chat templates is called {family!r}; known: {', '.join(FAMILIES)}")
    return (files("lmworks.tokenizer") / "templates" / f"{family}.jinja").read_text(encoding="utf-8")


def missing_tokens(family: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The names that a family's template writes and that are no token of this vocabulary: it would read letters."""
    chat_template(family)  # for its error
    added = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values()}
    return tuple(token for token in FAMILIES[family].tokens if token not in added)


def missing_roles(family: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The roles, such as `bos_token`, of which a family's template writes the token, and this tokenizer names none."""
    template = chat_template(family)
    return tuple(role for role in FAMILIES[family].roles if role in template and role not in tokenizer.roles)


def check_roles(family: str, tokenizer: Tokenizer, called: str = "this vocabulary") -> None:
    """ChatTemplateError where a family's template cannot be written with a vocabulary, with what helps."""
    missing = missing_roles(family, tokenizer)
    if not missing:
        return
    needed = [f"a token that {_MEANINGS[role]} ({role}, there {FAMILIES[family].roles[role]})" for role in missing]
    families = [name for name in FAMILIES if not missing_roles(name, tokenizer)]
    raise ChatTemplateError(
        f"the family {family} needs {' and '.join(needed)}, and {called} names none: learn the vocabulary with "
        f"`lmworks tokenizer train ... --family {family}`, state the token in its tokenizer_config.json"
        + (f", or choose a family that needs none: {', '.join(families)}" if families else "")
    )
