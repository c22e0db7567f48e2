"""The threshold below which to abstain, with a guarantee on the risk above it, and what readers are told of that.

Learn then Test (Angelopoulos et al. 2021): a distribution-free guarantee, from questions that nothing was fitted on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.config import from_mapping

CALIBRATION = "calibration.json"
LEVELS = (0.25, 0.35, 0.45)  # of risk, which are tried one after the other
COVERAGE = 0.1  # of the questions must be answered for a level of risk to be worth keeping


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


def controlled_threshold(
    confidences: Sequence[float], right: Sequence[bool], alpha: float, delta: float
) -> tuple[float, Certainty]:
    """The confidence below which to abstain that these outcomes guarantee, and what they measure at it.

    Where too few would be answered at risk `alpha`, the next of `LEVELS` above it is tried, each at its share of
    `delta`. Where none has a guarantee, the system answers what is more likely right than wrong, and says so.
    """
    from lmworks.evaluate.abstention import risk_controlled_threshold  # and numpy, which readers do without

    levels = [alpha, *(level for level in LEVELS if level > alpha)]
    chosen, reached = 0.5, 0.0
    for level in levels:
        threshold = risk_controlled_threshold(confidences, right, level, delta / len(levels))
        if threshold is not None and sum(c >= threshold for c in confidences) >= COVERAGE * len(confidences):
            chosen, reached = threshold, level
            break
    answered = [is_right for confidence, is_right in zip(confidences, right, strict=True) if confidence >= chosen]
    return chosen, Certainty(len(right), len(answered), sum(answered), reached, delta)


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
