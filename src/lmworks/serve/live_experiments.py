"""Experiments on what is served: the arm of each request, the kill switch, and answers in the shadow."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmworks.config import to_mapping, unknown
from lmworks.generate.protocol import ParameterError
from lmworks.monitor.experiment import ExperimentState, add_event, assign, read_states
from lmworks.monitor.experiment_results import read_out
from lmworks.monitor.log import Log, LogFullError
from lmworks.monitor.unit_metrics import parse_metric
from lmworks.records import Experiment, Outcome
from lmworks.serve.events import Event, UnknownModelError
from lmworks.serve.grounded_turn import GroundedSystem
from lmworks.serve.interaction_record import Turn
from lmworks.serve.served_models import ASSISTANT
from lmworks.system import SETTINGS
from lmworks.versions import PRODUCTION

_LOOK_SECONDS = 1.0  # after which it is asked again what runs
_GUARD_SECONDS = 60.0  # between two looks at the guardrails
_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class LiveExperiments:
    """Experiments that run now, asked of the log every second, so that a command reaches every server."""

    log: Log
    workspace: Path
    threads: Executor
    deadline_seconds: float  # of a request
    versions: Mapping[str, GroundedSystem] = field(default_factory=dict)  # that arms answer by; replaced, never changed
    skipped: int = 0  # answers in the shadow that were not made since the server was busy
    _states: list[ExperimentState] = field(default_factory=list)
    _looked: float = -_LOOK_SECONDS
    _guarded: dict[str, float] = field(default_factory=dict)
    _clock: float = 0.0

    def now(self) -> float:
        """Seconds since the epoch; stands still while the machine's clock goes back, so that what follows is later."""
        self._clock = max(self._clock, time.time())
        return self._clock

    def running(self, route: str) -> ExperimentState | None:
        """The experiment that runs on a route; no request waits until that is read again."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = math.inf  # until it has
            self.threads.submit(self.look)
        return next((state for state in self._states if state.experiment.route == route), None)

    def look(self) -> None:
        """Read what runs, open the versions that arms answer by, and leave those of ended experiments to the requests
        that they still answer."""
        try:
            running = [state for state in read_states(self.log.reader) if state.status == "running"]
            self._states = [state for state in running if self._open(state.experiment)]
            needed = {version for state in self._states for version in _versions_of(state.experiment)}
            self.versions = {version: system for version, system in self.versions.items() if version in needed}
        except Exception as error:  # such as a log that is moved away: what runs continues
            _LOGGER.warning("it cannot be read which experiments run: %s", error)
        finally:
            self._looked = time.monotonic()

    def _open(self, experiment: Experiment) -> bool:
        """Whether the versions of all arms can be opened; else the experiment is stopped."""
        for version in _versions_of(experiment):
            if version not in self.versions:
                system = GroundedSystem(self.workspace, version)
                try:
                    system.open()
                except Exception as error:
                    system.close()
                    self._stop(experiment.name, f"the version {version} cannot be opened: {error}")
                    return False
                self.versions = {**self.versions, version: system}
        return True

    async def assigned(self, turn: Turn, check: Callable[[Turn], None]) -> tuple[Turn, Turn | None]:
        """As `arm_of`; the turn itself where an arm fails the `check`."""
        assigned = turn
        try:
            assigned, shadow = await self.arm_of(turn)
            for arm in (assigned, shadow):
                if arm is not None and arm is not turn:
                    check(arm)
            return assigned, shadow
        except (UnknownModelError, ValueError) as error:
            # Stop an experiment one of whose arms cannot answer; everybody gets what is served without it.
            self._states = [state for state in self._states if state.experiment.name != assigned.experiment]
            self.threads.submit(self._stop, assigned.experiment, f"the arm {assigned.arm} cannot answer: {error}")
            return turn, None

    async def answer_in_shadow(self, turn: Turn, events: AsyncGenerator[Event, None]) -> None:
        """Let an arm answer that nobody sees."""
        try:
            async for _ in events:
                pass
        except Exception as error:  # it is in the log, and nobody waits for it
            _LOGGER.warning("the arm %s of %s did not answer in the shadow: %s", turn.arm, turn.experiment, error)

    async def arm_of(self, turn: Turn) -> tuple[Turn, Turn | None]:
        """The turn as the arm of its unit wants it, and the one to answer in the shadow; the turn itself outside
        of any.

        The assignment is in the log before the answer is: both pass the one thread that writes. LogFullError where it
        takes none until the request's deadline.
        """
        state = self.running(turn.model)
        if state is None:
            return turn, None
        experiment = state.experiment
        unit = turn.conversation if experiment.unit == "conversation" else (turn.unit or turn.client)
        assignment = assign(experiment, unit, state.share, self.now())
        if assignment is None:
            return turn, None
        control, *treatments = experiment.arms
        if experiment.shadow:
            arm = treatments[int(assignment.time * 1e6) % len(treatments)]
            shadow = replace(
                _as(turn, experiment.name, arm, experiment.arms[arm]), unit="", client="", conversation="", id="",
                lineage={**turn.lineage, "shadow": turn.id},
            )  # fmt: skip
            return replace(turn, experiment=experiment.name, arm=control, unit=unit), shadow
        deadline = time.monotonic() + self.deadline_seconds
        while True:
            try:
                self.log.append("assignments", [to_mapping(assignment)])  # the first of a unit stays
                break
            except LogFullError:  # the answer waits until the disk has caught up
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(0.02)
        return replace(_as(turn, experiment.name, assignment.arm, experiment.arms[assignment.arm]), unit=unit), None

    def _stop(self, experiment: str, reason: str) -> None:
        _LOGGER.warning("the experiment %s is stopped: %s", experiment, reason)
        add_event(self.log, experiment, "killed", self.now(), reason, "lmworks")

    def guard(self, experiment: str) -> None:
        """Look at the guardrails, at most once a minute, off the event loop; called after each answer of an arm."""
        state = next((state for state in self._states if state.experiment.name == experiment), None)
        if state and time.monotonic() - self._guarded.get(experiment, -_GUARD_SECONDS) >= _GUARD_SECONDS:
            self._guarded[experiment] = time.monotonic()
            self.threads.submit(self.check, state)

    def check(self, state: ExperimentState) -> bool:
        """Stop an experiment in which a guardrail is breached beyond doubt; whether it was.

        How answers are is known at once: such guardrails wait for an hour of a unit, not for its window.
        """
        full, now = state.experiment, self.now()
        for acts in (False, True):
            chosen = {
                name: margin for name, margin in full.guardrails.items() if bool(parse_metric(name).outcome) is acts
            }
            if not chosen:
                continue
            alpha = full.alpha * len(chosen) / len(full.guardrails)
            days = full.window_days if acts else min(full.window_days, 1 / 24)
            restricted = replace(full, guardrails=chosen, window_days=days, alpha=alpha)
            result = read_out(self.log.reader, restricted, now)
            if any(effect.guard == "breached" for effect in result.effects):
                self._stop(full.name, result.decision.words)
                self._looked = -_LOOK_SECONDS
                return True
        return False

    def outcome(self, name: str, value: float, interaction: str, unit: str, at: float | None) -> Outcome:
        """An outcome of the unit of an interaction, or of `unit`; KeyError for an unknown interaction, ValueError for a
        name that no metric can have and a time that is to come."""
        try:
            parse_metric(f"{name}/answer")
        except ValueError as error:
            raise ParameterError("name", str(error)) from error
        if interaction:
            columns = "unit, conversation"
            if not (rows := self.log.reader.rows("interactions", columns, "id = ?", [interaction])):
                raise KeyError(interaction)
            unit = rows[0][0] or rows[0][1]
        if not unit:
            raise ParameterError("unit", "nobody's: give `interaction`, of a conversation or a unit, or `unit`")
        if at is not None and at > self.now() + 60:
            raise ParameterError("time", f"the time {at:g} has not come yet")
        return Outcome(unit, name, self.now() if at is None else at, value, interaction)

    def close(self) -> None:
        for system in self.versions.values():
            system.close()


def _versions_of(experiment: Experiment) -> set[str]:
    """The versions that arms name, but for the one that is live."""
    return {str(arm.get("version", PRODUCTION)) for arm in experiment.arms.values()} - {PRODUCTION}


def _as(turn: Turn, experiment: str, arm: str, table: Mapping[str, Any]) -> Turn:
    """A turn as an arm answers it. ValueError for a setting that there is not."""
    turn = replace(turn, experiment=experiment, arm=arm)
    if "model" in table:
        return replace(turn, model=table["model"], route=turn.model)
    if "version" in table:
        return replace(turn, version="" if table["version"] == PRODUCTION else table["version"])
    settings = dict(table.get("settings", {}))
    if turn.model == ASSISTANT:
        for key in settings.keys() - set(SETTINGS):
            raise ValueError(unknown("setting", key, SETTINGS))
        return replace(turn, answering=settings)
    try:
        return replace(turn, sampling=replace(turn.sampling, **settings))
    except TypeError as error:
        raise ValueError(f"the arm {arm} has settings that sampling does not know: {error}") from error
