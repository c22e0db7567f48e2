"""The examples of docs/training.md run as they stand."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_examples_train_a_model_and_generate_with_it(tmp_path, monkeypatch, capsys):
    """The second continues the first."""
    train, generate = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(train, names)
    assert "Position(step=40, cursor=40, tokens=" in capsys.readouterr().out
    exec(generate, names)
    assert capsys.readouterr().out.strip()
