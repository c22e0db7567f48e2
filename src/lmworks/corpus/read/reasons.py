"""Why files were left out, as it is counted."""

import re


def kind_of_reason(reason: str) -> str:
    """A reason without what is true of one file alone, so that equal ones are counted together."""
    short = reason.split(":")[0] if reason.startswith(("not JSON:", "not Python", "unreadable")) else reason
    return re.sub(r"(?: \([^()]*\))+$", "", short)
