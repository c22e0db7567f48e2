"""The examples of docs/loader.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "loader.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
PRINTED = r"torch.Size\(\[4, 64\]\) Text number \d+ .*\n1 9\n[\s\S]*What the sources hold[\s\S]*What the run shows"


def test_the_examples_run_as_they_stand(tmp_path):
    """The second continues the first."""
    done = subprocess.run([sys.executable, "-c", "\n".join(BLOCKS)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED, done.stdout), done.stdout
