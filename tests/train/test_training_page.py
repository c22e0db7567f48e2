"""The examples of docs/training.md run as they stand."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_examples_train_a_model_and_ask_it(tmp_path, monkeypatch, capsys):
    """The second asks what the first has made, which is put where the page's commands would have put theirs."""
    ask, train = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path(".lmworks/map").mkdir(parents=True)
    exec(train.replace('folder / "model"', '".lmworks/map/pretrained"'), {})
    assert "Position(step=40, cursor=40, multiple=1" in capsys.readouterr().out
    exec(ask, {})
    assert capsys.readouterr().out.strip()
