"""Lazy exports of a package (PEP 562): its public names are imported on first use, so that importing it is instant."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` of the package `__init__.py` at `file`, from the imports under its TYPE_CHECKING.

    They are read from the source, so that each name stands once; an `as` is not followed. Packages in this one need no
    import of their own: `lmworks.evaluate.compute`.
    """
    tree = ast.parse(Path(file).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    modules = {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    def load(name: str) -> Any:
        if (Path(file).parent / name / "__init__.py").is_file():
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    vars(sys.modules[package])["__dir__"] = lambda: sorted(modules)  # for completion in a notebook
    return load, sorted(modules)
