"""Regular expressions as data: a TOML file next to the module that searches with them.

An expression is a text, or a list of pieces that are joined. `%name%` in it stands for an entry of the table `words`.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path


def read_patterns(module: str, **words: str) -> Mapping[str, re.Pattern[str]]:
    """The expressions of the file next to a module (its `__file__`), by name; `words` are further ones."""
    table = tomllib.loads(Path(module).with_suffix(".toml").read_text("utf-8"))
    texts = {name: "".join(each) for name, each in {**table.pop("words", {}), **words}.items()}

    def filled(expression: str) -> str:
        return re.sub("%([a-z_]+)%", lambda found: filled(texts[found[1]]), expression)

    return {name: re.compile(filled("".join(pieces))) for name, pieces in table.items()}
