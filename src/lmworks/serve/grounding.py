"""The system of a workspace that answers from its documents, and its change to the version that is live."""

import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

from lmworks.generate.engine_worker import EngineWorker
from lmworks.serve.grounded_turn import GroundedSystem
from lmworks.stages import ANSWERER
from lmworks.versions import is_gated
from lmworks.workspace import Current, read_current

_LOGGER = logging.getLogger(__name__)
_FOLLOW_SECONDS = 1.0  # after which a question asks again which version is live


class Grounding:
    """`current` is what is built in the workspace, None where other models than its own are served; `grounded` answers
    from it, None where it has no answers from documents, or not yet."""

    def __init__(self, workspace: Path, current: Current | None) -> None:
        self.workspace, self.current = workspace, current
        self.grounded: GroundedSystem | None = None
        self.engines: Mapping[str, EngineWorker] = {}  # path -> the model that is served, which the system shares
        self.followed = 0.0  # when it was last looked which version is live; infinite while one is opened

    def open(self) -> None:
        """Open the system where the workspace has one; blocks until that is done."""
        if self.current and ANSWERER in self.current.uses.values():
            grounded = GroundedSystem(self.workspace)
            grounded.open()
            self.grounded = grounded

    def share(self, engines: Mapping[str, EngineWorker]) -> None:
        """Let the models that are served (path -> model) write, expand and rerank for the system, too."""
        self.engines = engines
        if self.grounded is not None:
            self.grounded.system.answerer.finder.engines |= engines

    @property
    def writes(self) -> bool:
        """Whether a language model writes the answers."""
        return self.grounded is not None and self.grounded.system.answerer.writer is not None

    def take_up(self) -> None:
        """Show what was made of the workspace since, unless it was built of something else meanwhile."""
        now, before = read_current(self.workspace), self.current
        if before is not None and before.stages.items() <= now.stages.items():
            self.current = now
            if self.grounded is not None:
                self.grounded.system.take_up(now)

    def follow(self, threads: Executor) -> None:
        """Look, off the event loop and at most every second, whether another version is live."""
        if time.monotonic() - self.followed > _FOLLOW_SECONDS and is_gated(self.workspace):
            self.followed = math.inf
            threads.submit(self._change_version)

    def _change_version(self) -> None:
        """Answer by the version that was promoted or rolled back to since, once it is open; the one before answers
        what it was asked, and goes with its last question. A failure leaves what is served as it is."""
        try:
            now = read_current(self.workspace)
            if self.current is None or self.grounded is None or now.version == self.current.version:
                return
            grounded = GroundedSystem(self.workspace)
            grounded.open().answerer.finder.engines |= self.engines
            self.grounded, self.current = grounded, now
            _LOGGER.warning("version %s is served from now on", now.version)
        except Exception as error:
            _LOGGER.warning("the version that is live cannot be opened: %s", error)
        finally:
            self.followed = time.monotonic()

    def close(self) -> None:
        """End its threads and let go of it."""
        if self.grounded is not None:
            self.grounded.close()
        self.grounded, self.engines = None, {}
