"""What a Hugging Face folder says about texts beside its `tokenizer.json`: the chat template, and what ends a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmworks.tokenizer.tokenizer import read_json

CHAT_TEMPLATE = "chat_template.jinja"


def read_chat_template(folder: Path) -> str | None:
    """From `chat_template.jinja`, or from `tokenizer_config.json`: one template, or a list with one named `default`."""
    if (folder / CHAT_TEMPLATE).exists():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def stated_eos_ids(config: Mapping[str, Any], generation: Mapping[str, Any]) -> list[int]:
    """What ends a text, by `generation_config.json` if it says so, else by `config.json`; empty where neither does."""
    found = generation.get("eos_token_id", config.get("eos_token_id"))
    return found if isinstance(found, list) else [found] if isinstance(found, int) else []
