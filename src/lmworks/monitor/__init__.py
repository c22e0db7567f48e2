"""What happened in production: the log of interactions, and what is made from it.

The functions `replay` and `parse` have common names, so they are imported from their modules:
`from lmworks.monitor.replay import replay`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.monitor.config import LogConfig as LogConfig
    from lmworks.monitor.filter import FilterError as FilterError
    from lmworks.monitor.log import ConversationRow as ConversationRow
    from lmworks.monitor.log import Log as Log
    from lmworks.monitor.log import LogFullError as LogFullError
    from lmworks.monitor.log import LogRow as LogRow
    from lmworks.monitor.log import Reader as Reader
    from lmworks.monitor.store import UnusableLogError as UnusableLogError

_PUBLIC = {
    "ConversationRow": "lmworks.monitor.log",
    "FilterError": "lmworks.monitor.filter",
    "Log": "lmworks.monitor.log",
    "LogConfig": "lmworks.monitor.config",
    "LogFullError": "lmworks.monitor.log",
    "LogRow": "lmworks.monitor.log",
    "Reader": "lmworks.monitor.log",
    "UnusableLogError": "lmworks.monitor.store",
}

__all__ = [
    "ConversationRow",
    "FilterError",
    "Log",
    "LogConfig",
    "LogFullError",
    "LogRow",
    "Reader",
    "UnusableLogError",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmworks.monitor' has no attribute {name!r}")
