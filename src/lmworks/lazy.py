"""Lazy exports of a package (PEP 562): its public names are imported on first use, so that importing it is instant."""

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class CallablePackage(ModuleType, Generic[P, R]):
    """A package that is called as the function of its name: `lmworks.align(model, rows)`, and `lmworks.align.config`.

    `lmworks/__init__.py` declares to type checkers which function that is.
    """

    @property
    def __wrapped__(self) -> Callable[P, R]:  # where `inspect.signature` and notebooks find its parameters
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"lmworks.commands.{name}"), name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)


def callable_package(function: Callable[P, R]) -> CallablePackage[P, R]:
    """The package that is called as this function, for type checkers: it is in `sys.modules`."""
    return sys.modules[function.__module__.replace(".commands", "")]  # type: ignore[return-value]


def lazy_exports(package: str, file: str, called: bool = False) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` of the package `__init__.py` at `file`, from the imports under its TYPE_CHECKING.

    They are read from the source, so that each name stands once; an `as` is not followed. Packages in this one need no
    import of their own: `lmworks.evaluate.compute`. A package may be `called` as the function of its name.
    """
    tree = ast.parse(Path(file).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    modules = {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    def load(name: str) -> Any:
        # Threads of OpenMP that wait by spinning take the processor from each other; read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if (Path(file).parent / name / "__init__.py").is_file():
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    if called:
        sys.modules[package].__class__ = CallablePackage
    vars(sys.modules[package])["__dir__"] = lambda: sorted(modules)  # for completion in a notebook
    return load, sorted(modules)
