"""Another behaviour for a module that is there already, given from outside: the model's own code stays as it is."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

Reader = Callable[[nn.Parameter], Tensor]


def override_methods(module: nn.Module, behaviour: type, **attributes: Any) -> None:
    """Puts the methods of `behaviour` before those of the module's class, for this module alone.

    `attributes` are set on the module, for these methods to read. Parameters, their names and all that `isinstance`
    knew of the module stay. ValueError for an attribute that is there already with another value.
    """
    for name, value in attributes.items():
        if module.__dict__.get(name, value) is not value:
            raise ValueError(f"{type(module).__name__} has another {name} already")
        object.__setattr__(module, name, value)
    module.__class__ = _joined(behaviour, type(module))


@cache
def _joined(behaviour: type, base: type) -> type:
    return type(f"{behaviour.__name__}{base.__name__}", (behaviour, base), {"__module__": base.__module__})


def read_parameters(module: nn.Module, readers: Mapping[str, Reader]) -> None:
    """`module.NAME` gives what `readers[NAME]` makes of the parameter, to the module's own code and to others.

    The parameters themselves stay in `named_parameters`, by their names: these are what an optimizer changes.
    """
    if readers:
        override_methods(module, _reading(tuple(readers)), _readers=dict(readers))


@cache
def _reading(names: tuple[str, ...]) -> type:
    return type("Read", (), {name: _property(name) for name in names})


def _property(name: str) -> property:
    def read(module: Any) -> Tensor | None:
        parameter = module._parameters[name]
        return None if parameter is None else module._readers[name](parameter)

    return property(read)
