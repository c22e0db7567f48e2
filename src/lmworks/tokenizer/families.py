"""The chat templates of the common families, for who tunes a base model or has a checkpoint without one.

The programs are in `templates/`, one file a family, written for this package. They give the strings that the templates
of published checkpoints give (`docs/chat.md` has the comparison), refuse what those refuse, and enclose what the
assistant writes in `{% generation %}`. A model learns a family's form only if the tokens that frame its turns are
tokens of its vocabulary: `missing_tokens` tells which are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from lmworks.tokenizer.template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Family:
    """What a template stands for.

    models  the checkpoints whose template it equals.
    tokens  the special tokens it writes by name.
    roles   the roles of special tokens it writes, by the names of `tokenizer_config.json`.
    """

    models: str
    tokens: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


_CHATML = ("<|im_start|>", "<|im_end|>")
_LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_GEMMA = ("<start_of_turn>", "<end_of_turn>")
_BOTH = ("bos_token", "eos_token")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "chatml": Family("OpenHermes, and most models tuned without a form of their own", _CHATML),
        "smollm2": Family("SmolLM2", _CHATML),
        "qwen2.5": Family("Qwen 2.5", _CHATML),
        "qwen3": Family("Qwen 3", _CHATML),
        "llama2": Family("Llama 2", (), _BOTH),
        "llama3": Family("Llama 3", _LLAMA3, ("bos_token",)),
        "llama3.1": Family("Llama 3.1 and 3.3", _LLAMA3, ("bos_token",)),
        "mistral-v1": Family("Mistral 7B 0.1 and 0.2, Mixtral 8x7B", (), _BOTH),
        "mistral-v3": Family("Mistral 7B 0.3, Mixtral 8x22B", ("[INST]", "[/INST]"), _BOTH),
        "mistral-v7": Family("Mistral Large 2411", ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), _BOTH),
        "gemma": Family("Gemma 1 and 2", _GEMMA, ("bos_token",)),
        "gemma3": Family("Gemma 3", _GEMMA, ("bos_token",)),
        "phi3": Family("Phi-3", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), ("eos_token",)),
        "zephyr": Family("Zephyr", (), ("eos_token",)),
    }
)


@cache
def chat_template(family: str) -> str:
    """The Jinja source of a family's chat template; ChatTemplateError with the known names for another one."""
    if family not in FAMILIES:
        raise ChatTemplateError(f"no family of chat templates is called {family!r}; known: {', '.join(FAMILIES)}")
    return (files("lmworks.tokenizer") / "templates" / f"{family}.jinja").read_text(encoding="utf-8")


def missing_tokens(family: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """What a family's template writes that is no token of this vocabulary, so that it would be read as letters.

    Names of tokens, and of roles (`eos_token`) that the tokenizer gives to none.
    """
    chat_template(family)  # for its error
    wanted = FAMILIES[family]
    added = {token.content for token in tokenizer.backend.get_added_tokens_decoder().values()}
    tokens = (token for token in wanted.tokens if token not in added)
    return (*tokens, *(role for role in wanted.roles if role not in tokenizer.roles))
