"""`lmworks tokenizer train` and `explain`."""

import sys

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app, main
from lmworks.tokenizer.chat_templates import FAMILIES, missing_roles, missing_tokens
from lmworks.tokenizer.tokenizer import Tokenizer

TEXT = "The lowest lower low is lower than low. " * 30


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT, "utf-8")
    (folder / "picture.png").write_bytes(b"\x89\xff")
    return folder


def run(*arguments: str):
    return CliRunner().invoke(app, ["tokenizer", *arguments])


def test_train_then_explain(texts, tmp_path):
    out = tmp_path / "vocabulary"
    done = run("train", str(texts), "--out", str(out), "--vocabulary-size", "300")
    assert done.exit_code == 0, done.output
    assert "left out because not UTF-8: 1 file, such as texts/picture.png" in done.output
    assert f"read 1 file, {len(TEXT):,} bytes" in done.output
    assert "fewer than asked for" in " ".join(done.output.split())  # so little text teaches less
    tokenizer = Tokenizer.load(out)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    explained = run("explain", "lowest", "--tokenizer", str(out))
    assert explained.exit_code == 0, explained.output
    assert "l + o" in explained.output and "merge" in explained.output and "seen" in explained.output


@pytest.mark.parametrize(("kind", "reason"), [("wordpiece", "longest piece"), ("unigram", "log-probability")])
def test_other_kinds(texts, tmp_path, kind, reason):
    done = run("train", str(texts), "--out", str(tmp_path / "v"), "--kind", kind, "--set", "vocabulary_size=60")
    assert done.exit_code == 0, done.output
    assert reason in run("explain", "lower", "--tokenizer", str(tmp_path / "v")).output


def test_metaspace_explains_bytes(texts, tmp_path):
    out = str(tmp_path / "v")
    run("train", str(texts), "--out", out, "--set", "words=metaspace", "--vocabulary-size", "290")
    assert "a byte of a character that has no token of its own" in run("explain", "狗", "--tokenizer", out).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocabulary-size", "300", "--set", "vocabulary_size=400"], "leave out one of them"),
        (["--kind", "bep"], 'did you mean "bpe"?'),
        (["--set", "vocabulary=3"], 'did you mean "vocabulary_size"?'),
        (["--family", "llama9"], "no family of chat templates is called 'llama9'"),
        (["--family", "chatml", "--kind", "wordpiece"], "choose --kind bpe or unigram"),
        (["--set", "words=gpt5"], "'gpt2', 'gpt4'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(texts, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(
        sys, "argv", ["lmworks", "tokenizer", "train", "nowhere", "--out", str(tmp_path / "v"), *arguments]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "v").exists()


def test_nothing_is_overwritten(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lmworks", "tokenizer", "train", str(texts), "--out", str(texts)])
    with pytest.raises(SystemExit):
        main()
    assert "exists already" in capsys.readouterr().err and (texts / "text.txt").exists()


def test_help_teaches_every_setting():
    told = run("train", "--help").output
    for setting in ("min_frequency", "special_tokens", "lowercase", "coverage"):
        assert setting in told


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_ready_for_its_conversations(texts, tmp_path, kind, family):
    out = tmp_path / "v"
    done = run("train", str(texts), "--out", str(out), "--kind", kind, "--family", family, "--vocabulary-size", "300")
    assert done.exit_code == 0, done.output
    assert f"lmworks tokenizer preview {out}" in "".join(done.output.split("\n"))
    previewed = run("preview", str(out))
    assert previewed.exit_code == 0, previewed.output
    assert "a turn ends with" in previewed.output and "no token" not in previewed.output
    tokenizer = Tokenizer.load(out)
    assert missing_tokens(family, tokenizer) == missing_roles(family, tokenizer) == ()
    assert tokenizer.eos_id is not None and tokenizer.roles["eos_token"] == FAMILIES[family].roles["eos_token"]


@pytest.mark.parametrize(("kind", "becomes"), [("unigram", "<unk>"), ("wordpiece", "[UNK]")])
def test_characters_that_got_no_token_are_told(texts, tmp_path, kind, becomes):
    (texts / "rare.txt").write_text("ßß", "utf-8")
    settings = ("--set", "vocabulary_size=60", "--set", "coverage=0.99")
    done = run("train", str(texts), "--out", str(tmp_path / "v"), "--kind", kind, *settings)
    assert done.exit_code == 0, done.output
    assert "no token," in done.output
    assert "ß (2)" in done.output and becomes in done.output and "Raise coverage" in done.output


def test_a_family_keeps_the_special_tokens_that_are_asked_for(texts, tmp_path):
    given = ["--set", 'special_tokens=["<|end|>", "<tool>"]', "--family", "chatml", "--vocabulary-size", "300"]
    done = run("train", str(texts), "--out", str(tmp_path / "v"), *given)
    assert done.exit_code == 0, done.output
    special = Tokenizer.load(tmp_path / "v").special_ids
    assert list(special) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|end|>", "<tool>"]
