"""Work that would hold up the event loop, on a thread; but only where it is long enough to be worth the way there."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from lmworks.records import Message

P = ParamSpec("P")
T = TypeVar("T")

# Characters or tokens up to which the work on a text is done at once. Below it, some hundred microseconds, the way to
# a thread and back costs as much again, and it costs the model more than that: every thread that wakes up stops one of
# those that compute. Much above it the other requests would feel the wait.
SHORT = 4096


async def aside(length: int, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What the function returns or raises, called on a thread if the text that it works on is longer than `SHORT`."""
    if length <= SHORT:
        return function(*arguments, **named)
    return await asyncio.to_thread(function, *arguments, **named)


def characters(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Of all that a model is told by a conversation, calls of functions and their definitions included; roughly."""
    functions = [*tools, *(call for message in messages for call in message.tool_calls)]
    return sum(len(message.content) for message in messages) + (len(str(functions)) if functions else 0)
