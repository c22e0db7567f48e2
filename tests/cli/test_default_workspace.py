"""The workspace that commands take where none is named: the one built last below the current folder."""

import shutil

import pytest

from lmworks.cli.options import remember, resolve_workspace
from lmworks.cli.serve_command import serve_workspace
from lmworks.serve import server
from lmworks.serve.config import ServeConfig


def test_a_copy_of_a_project_works_in_itself(tmp_path, monkeypatch, capsys):
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    remember(tmp_path / "one" / ".lmworks" / "handbook")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    monkeypatch.chdir(tmp_path / "two")
    assert resolve_workspace(None).resolve() == tmp_path / "two" / ".lmworks" / "handbook"
    assert "handbook" in capsys.readouterr().err


def test_a_last_workspace_outside_of_the_folder_is_refused(tmp_path, monkeypatch):
    """As earlier versions wrote it: its whole path."""
    (tmp_path / "two" / ".lmworks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "two")
    (tmp_path / "two" / ".lmworks" / ".last").write_text(str(tmp_path / "one" / ".lmworks" / "handbook"))
    with pytest.raises(ValueError, match="--workspace"):
        resolve_workspace(None)


def test_a_server_says_which_workspace_it_serves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(server, "run", lambda *_: None)
    serve_workspace(tmp_path, ServeConfig(), {"tiny": "tiny"})
    assert str(tmp_path / "log.sqlite") in capsys.readouterr().err
