"""A workspace: which artefacts make up the system that was built last in it, and its log of interactions.

Nothing here loads a model, so that the log and the lineage of a workspace are read at once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lmworks.artefact import CURRENT, MANIFEST, hash_json, read_json, read_manifest
from lmworks.config import from_mapping
from lmworks.ground.config import WritingConfig
from lmworks.ground.conformal_risk_control import Certainty, read_certainty
from lmworks.model.download import MODELS, PACKAGED, digest_of_model, locate
from lmworks.monitor.config import LogConfig
from lmworks.monitor.log import Log, Reader
from lmworks.records import Interaction
from lmworks.stages import ANSWERER

LOG = "log.sqlite"
VERSION = "version"  # the key in the lineage of answers of the version that gave them
_BORROWED = (
    "Not calibrated on these documents: the confidence is that of other documents. Write questions about them, at "
    "least 40 with and 20 without an answer, and set questions.gold (docs/evaluation.md)."
)


@dataclass(frozen=True, slots=True)
class Current:
    """The system that was built last: the artefact folder of each stage, relative to the workspace, and the recipe.

    A stage of `uses` that `stages` lacks is not made yet; no answer needs it.
    """

    recipe: str
    question: str
    models: Mapping[str, str]
    stages: Mapping[str, str]
    uses: Mapping[str, str]  # name of the stage -> what it runs
    names: Mapping[str, str] = field(default_factory=dict)  # role -> the model's name in the recipe
    description: str = ""
    log: LogConfig = field(default_factory=LogConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)
    serve: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""  # `versions.version_id`
    created: float = 0.0  # by a build, in seconds since the epoch

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The stages that are not made yet."""
        return tuple(name for name in self.uses if name not in self.stages)


def read_current(workspace: Path) -> Current:
    """The system that was built last; FileNotFoundError that names the command to run when nothing was."""
    path = workspace / CURRENT
    if not path.exists():
        raise FileNotFoundError(f"nothing is built in {workspace}; run `lmworks build` first")
    return read_system(path)


def read_system(path: Path) -> Current:
    """A built system from its file; pulled and packaged models are where this installation has them."""
    current = from_mapping(Current, read_json(path), [str(path)])
    moved = {
        role: str(locate(name))
        for role, name in current.names.items()
        if name in (*PACKAGED, *MODELS) and not Path(current.models[role]).exists()
    }
    return replace(current, models={**current.models, **moved})


def artefact_of(workspace: Path, current: Current, use: str) -> Path:
    """The folder of the one stage of the current system that runs `use`; FileNotFoundError when there is none."""
    names = [name for name, used in current.uses.items() if used == use]
    if len(names) != 1:
        raise FileNotFoundError(
            f'the recipe "{current.recipe}" has {len(names)} stages that use {use}; asking needs one'
        )
    if names[0] in current.unfinished:
        raise FileNotFoundError(f"the stage {names[0]} of {workspace} is not made yet: `lmworks build` makes it")
    return workspace / current.stages[names[0]]


def content_hashes(workspace: Path, current: Current) -> dict[str, str]:
    """Stage -> content hash of what it made for the current system."""
    return {name: read_manifest(workspace / folder).content_hash for name, folder in current.stages.items()}


def model_digest(path: Path) -> str:
    """The content hash of a model that a stage made, which leaves times out; of a workspace those of all that its
    system is made of; the digest of the files of any other."""
    if (path / CURRENT).exists():
        return hash_json(content_hashes(path, read_current(path)))
    return read_manifest(path).content_hash if (path / MANIFEST).exists() else digest_of_model(path)


def certainty_of(workspace: Path, current: Current) -> Certainty | None:
    """The measured risk of the current system's answers; None where it answers nothing from documents."""
    return read_certainty(artefact_of(workspace, current, ANSWERER)) if ANSWERER in current.uses.values() else None


def calibration_caution(workspace: Path, current: Current) -> str:
    """A sentence for who asks where nothing was calibrated on the documents themselves, else ""."""
    certainty = certainty_of(workspace, current)
    return _BORROWED if certainty is not None and certainty.borrowed else ""


def log_config(workspace: Path) -> LogConfig:
    """The `[log]` table of what was built last; the defaults where nothing is built."""
    return read_current(workspace).log if (workspace / CURRENT).exists() else LogConfig()


def log_location(workspace: Path, config: LogConfig) -> Path | str:
    """`log.sqlite` of a workspace, unless the recipe's `[log]` names another place."""
    return config.location or workspace / LOG


def open_log(workspace: Path, config: LogConfig | None = None) -> Log:
    """The log of a workspace, for recording."""
    config = log_config(workspace) if config is None else config
    return Log(log_location(workspace, config), config)


def read_log(workspace: Path) -> Reader:
    """The log of a workspace, for reading; FileNotFoundError when nothing was logged there yet."""
    config = log_config(workspace)
    return Reader.open(log_location(workspace, config), config)


def read_interaction(workspace: Path, identifier: str) -> Interaction:
    """An interaction of the log; `identifier` may be that of the API, such as "chatcmpl-..." or "resp_...".

    FileNotFoundError when there is none.
    """
    identifier = re.sub(r"\A((chat)?cmpl-|resp_)", "", identifier)
    with read_log(workspace) as reader:
        try:
            return reader.get(identifier)
        except KeyError:
            raise FileNotFoundError(f"the log of {workspace} holds no interaction {identifier}") from None
