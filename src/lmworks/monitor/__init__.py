"""Interaction log of production: recording, filters, columns, redaction, exports and replay.

The functions `replay` and `parse` have common names, so they are imported from their modules:
`from lmworks.monitor.token_replay import replay`.
"""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.monitor.config import LogConfig
    from lmworks.monitor.filter import FilterError
    from lmworks.monitor.log import ConversationRow, Log, LogFullError, LogRow, Reader
    from lmworks.monitor.store import UnusableLogError

__getattr__, __all__ = lazy_exports(__name__, __file__)
