"""The tutorials: every block of a page runs, in order, in one empty folder, as a reader would run it."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
PAGES = [page for page in sorted(TUTORIALS.glob("*.md")) if page.stem != "index"]
FENCE = re.compile(r"^```(sh|python)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 15 * 60


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """(line, language, text) of the blocks that a page has its readers run."""
    text = page.read_text("utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, match[1], match[3])
        for match in FENCE.finditer(text)
        if "no-run" not in match[2]
    ]


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    programs = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    end = time.monotonic() + LIMIT_S
    found = blocks(page)
    assert found
    for line, language, text in found:
        run = subprocess.run(
            [*programs[language], text],
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(1, end - time.monotonic()),
        )
        assert run.returncode == 0, f"{page.name}:{line}\n{run.stdout[-2000:]}"
