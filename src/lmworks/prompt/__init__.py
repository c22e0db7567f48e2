"""Prompts as versioned values: parts and slots, tests, routing, search, red team."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.prompt.config import Prompt, Slot
    from lmworks.prompt.filled_prompt import FilledPrompt, fill_prompt
    from lmworks.prompt.prompt_file import prompt_diff, prompt_hash, read_prompt, to_toml
    from lmworks.prompt.prompt_store import PromptStore

__getattr__, __all__ = lazy_exports(__name__, __file__)
