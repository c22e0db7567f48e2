"""What `build` made, opened for use: `lmworks.open(workspace).ask("...")`."""

import json
from pathlib import Path

from lmworks.artefact import read_manifest, write_json
from lmworks.build import Current, read_current
from lmworks.config import from_mapping
from lmworks.ground.answering import Answerer, load_answerer
from lmworks.records import Answer

ANSWERS = "answers"


class System:
    """A built system: its documents, index, models and calibration. Opened by `lmworks.open`."""

    def __init__(self, workspace: Path, current: Current, answerer: Answerer, lineage: dict[str, str]) -> None:
        self.workspace = workspace
        self.current = current
        self.answerer = answerer
        self.lineage = lineage

    def ask(self, question: str) -> Answer:
        """Answer from the documents, with citations, or abstain. The answer is kept: `lmworks lineage ID` explains it.

        Raises ValueError for an empty question.
        """
        answer = self.answerer.answer(question, lineage=self.lineage)
        write_json(self.workspace / ANSWERS / f"{answer.id}.json", answer)
        return answer


def open(workspace: str | Path) -> System:  # noqa: A001 - the public name is lmworks.open
    """Open what was built last in a workspace.

    Raises FileNotFoundError, naming the command to run, when nothing is built there or the recipe built no answerer.
    """
    workspace = Path(workspace)
    current = read_current(workspace)
    index, calibration = (artefact_of(workspace, current, use) for use in ("retrieve.index", "ground.calibrate"))
    lineage = {name: read_manifest(workspace / folder).content_hash for name, folder in current.stages.items()}
    for folder in (index, calibration):
        lineage |= {f"model:{role}": digest for role, digest in read_manifest(folder).models.items()}
    return System(workspace, current, load_answerer(index, calibration, current.models), lineage)


def artefact_of(workspace: Path, current: Current, use: str) -> Path:
    """The folder of the one stage of the current system that runs `use`; FileNotFoundError when there is none."""
    found = [name for name, used in current.uses.items() if used == use]
    if len(found) != 1:
        raise FileNotFoundError(
            f'the recipe "{current.recipe}" has {len(found)} stages that use {use}; asking needs one'
        )
    return workspace / current.stages[found[0]]


def read_answer(workspace: Path, identifier: str) -> Answer:
    """An answer given earlier; FileNotFoundError when there is none of this id."""
    path = workspace / ANSWERS / f"{identifier}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{workspace} holds no answer {identifier}")
    return from_mapping(Answer, json.loads(path.read_text("utf-8")), [str(path)])
