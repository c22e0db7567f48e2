"""The measured risk of the answers, as a calibration holds it and as it is said to readers."""

import json
from dataclasses import dataclass
from pathlib import Path

from lmworks.config import from_mapping

CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True)
class Certainty:
    """Measured risk of the answers at the threshold, on questions that nothing else was fitted on.

    Of `questions`, `answered` reached the threshold, and of these `right` were right. At most a share `alpha` of what
    is answered is wrong, with probability 1 - `delta` over the choice of these questions, for questions drawn as they
    were; 0: nothing is guaranteed. `borrowed`: all this is of other documents than those at hand.
    """

    questions: int = 0
    answered: int = 0
    right: int = 0
    alpha: float = 0.0
    delta: float = 0.0
    borrowed: bool = False


def certainty_sentence(certainty: Certainty) -> str:
    """Measurement and guarantee in words."""
    if not certainty.questions:
        return "How many of the answers are right was not measured. Nothing is guaranteed."
    of = "other documents" if certainty.borrowed else "these documents"
    measured = (
        f"Of {certainty.questions} questions about {of} that nothing was fitted on, {certainty.answered} were "
        f"answered, {certainty.right} of them right."
    )
    if not certainty.alpha:
        return f"{measured} Nothing is guaranteed."
    return (
        f"{measured} With {1 - certainty.delta:.0%} probability, at most {certainty.alpha:.0%} of the answers to "
        "questions like those are wrong."
    )


def certainty_phrase(certainty: Certainty) -> str:
    """The same in a few words, to stand next to a confidence."""
    if not certainty.answered:
        return "none was measured"
    about = " about other documents" if certainty.borrowed else ""
    return f"{certainty.right} of {certainty.answered} test answers{about} right"


def read_certainty(calibration: Path) -> Certainty:
    """The certainty in the folder of a calibration, which no model is loaded for."""
    path = calibration / CALIBRATION
    return from_mapping(Certainty, json.loads(path.read_text("utf-8")).get("certainty", {}), [str(path)])
