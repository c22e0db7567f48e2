"""Names of code: those that a heading defines, and those that a question asks for by name.

A name is written as such (`lru_cache`, functools.lru_cache, print(), --flag, MiniBatch), or is the name of a documented
module, class or function.
"""

import re

# In backticks; an option; a dotted name; one with an underscore; one that is called; one with capitals inside.
_NAME = re.compile(
    r"`(?P<code>[^`\s]+)`"
    r"|(?<![\w-])(?P<option>--?[A-Za-z][\w-]*)"
    r"|(?<![\w.])(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[A-Za-z]\w*_\w*|__?[A-Za-z]\w*|[A-Za-z]\w*(?=\()"
    r"|[a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*)"
)
_DEFINITION = re.compile(r"(?:module |class |async )?([A-Za-z_][\w.]*)(?=\(|$)")  # as data.docstrings writes headings


def written_names(text: str) -> list[str]:
    """The names that are written as code in a text, in lower case, in order."""
    names = (match["code"] or match["option"] or match["name"] for match in _NAME.finditer(text))
    return list(dict.fromkeys(name.rstrip("()").lower() for name in names if name.strip("()")))


def defined_names(heading_path: tuple[str, ...], own_headings: int, extractor: str) -> list[tuple[str, bool]]:
    """The names that the last `own_headings` of a path define, in lower case, and whether each is but a part.

    A docstring's heading is a definition; any other defines what it writes as code. Of `functools.lru_cache` the whole
    name and `lru_cache` are defined; of a member, `Counter.most_common`, `most_common` is a part.
    """
    names: dict[str, bool] = {}
    for heading in heading_path[len(heading_path) - own_headings :]:
        if extractor != "python-docstrings":
            names |= dict.fromkeys(written_names(heading), False)
        elif match := _DEFINITION.match(heading):
            name = match[1].lower()
            names[name] = False
            module = heading_path[0].removeprefix("module ").lower()
            if name != module:
                names[f"{module}.{name}"] = False
            if "." in name:
                names.setdefault(name.rpartition(".")[2], not heading.startswith("module "))
    return list(names.items())
