"""The examples of docs/training.md run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_examples_train_a_model_and_ask_it(tmp_path):
    """The second asks what the first has made, which is put where the page's commands would have put theirs."""
    ask, train = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / ".lmworks" / "map").mkdir(parents=True)
    train = train.replace('folder / "model"', '".lmworks/map/pretrained"')
    done = subprocess.run([sys.executable, "-c", train], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Position(step=40, cursor=40, multiple=1" in done.stdout
    asked = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
