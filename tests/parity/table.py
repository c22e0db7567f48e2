"""Prints the parity table: every family by every check, with the errors. `.venv/bin/python tests/parity/table.py`

Names of families as arguments choose among them.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import transformers
from harness import CHECKS, Case, Pair
from test_families import CASES


def row(case: Case) -> list[str]:
    """The error of each check; `-` where a check does not apply, and a mark where the error is too large."""
    cells = []
    with TemporaryDirectory() as folder:
        pair = Pair(case, Path(folder))
        for check in CHECKS.values():
            if not check.applies(case):
                cells.append("-")
                continue
            error = check.measure(pair)
            cells.append(("equal" if error == 0 else f"{error:.1e}") + ("" if error <= check.tolerance else " !"))
    return cells


def main(names: list[str]) -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    cases = [case for case in CASES.values() if not names or case.name in names]
    width = max(len(case.name) for case in cases)
    print(f"{'family':{width}}", *(f"{name:>17}" for name in CHECKS))
    for case in cases:
        print(f"{case.name:{width}}", *(f"{cell:>17}" for cell in row(case)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
