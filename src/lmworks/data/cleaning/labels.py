"""What a label of a document decides: it stays, it goes, or nothing may be cleaned before somebody has said what holds.

Labels of licences are expressions of SPDX, such as "MIT OR GPL-2.0-only": `LicencePolicy.verdict` says what the lists
of a policy make of them. Words of other labels, such as languages, are compared as they are.
"""

from typing import Literal

from lmworks.data.annotate.licence_expressions import LicencePolicy
from lmworks.data.cleaning.policy import LICENCES, Choice

Outcome = Literal["stays", "goes", "refused"]
_UNKNOWN: dict[str, Outcome] = {"keep": "stays", "drop": "goes", "refuse": "refused"}


def outcome_of(name: str, choice: Choice, label: str | None) -> Outcome:
    """What becomes of a document whose label of this name is `label`, or which has none.

    A licence that the lists do not decide goes where any are allowed, since it is none of them; and stays otherwise,
    since it is none of those denied.
    """
    if label is None:
        return _UNKNOWN[choice.unknown]
    if name in LICENCES:
        verdict = LicencePolicy(choice.allow, choice.deny).verdict(label)
        return "goes" if verdict == "denied" or (verdict == "unknown" and choice.allow) else "stays"
    return "goes" if label in choice.deny or (choice.allow and label not in choice.allow) else "stays"
