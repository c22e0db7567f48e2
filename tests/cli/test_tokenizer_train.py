"""`lmworks tokenizer train` and `explain`."""

import pytest

from command_line import run
from kit.tables import for_each
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


def test_train_then_explain(texts, tmp_path):
    out = tmp_path / "vocabulary"
    done = run("tokenizer", "train", str(texts), "--out", str(out), "--vocabulary-size", "300")
    assert "left out because not UTF-8: 1 file, such as texts/picture.png" in done
    assert f"read 1 file, {len(TEXT):,} bytes" in done
    assert "fewer than asked for" in " ".join(done.split())  # so little text teaches less
    tokenizer = Tokenizer.load(out)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    explained = run("tokenizer", "explain", "lowest", "--tokenizer", str(out))
    assert "l + o" in explained and "merge" in explained and "seen" in explained


@for_each(("kind", "reason"), [("wordpiece", "longest piece"), ("unigram", "log-probability")])
def test_other_kinds(texts, tmp_path, kind, reason):
    run("tokenizer", "train", str(texts), "--out", str(tmp_path / kind), "--kind", kind, "--set", "vocabulary_size=60")
    assert reason in run("tokenizer", "explain", "lower", "--tokenizer", str(tmp_path / kind))


@for_each(
    ("family", "kind"),
    [
        *((family, "bpe") for family in FAMILIES),
        *(("llama2", "unigram"), ("chatml", "unigram")),
    ],
)
def test_a_family_is_ready_for_its_conversations(texts, tmp_path, kind, family):
    out = tmp_path / f"{family}-{kind}"
    settings = ("--kind", kind, "--family", family, "--vocabulary-size", "300")
    done = run("tokenizer", "train", texts, "--out", out, *settings)
    assert f"lmworks tokenizer preview {out}" in "".join(done.split("\n"))
    previewed = run("tokenizer", "preview", str(out))
    assert "a turn ends with" in previewed and "no token" not in previewed
    tokenizer = Tokenizer.load(out)
    assert missing_tokens(family, tokenizer) == missing_roles(family, tokenizer) == ()
    assert tokenizer.eos_id is not None and tokenizer.roles["eos_token"] == FAMILIES[family].roles["eos_token"]


@for_each(("kind", "becomes"), [("unigram", "<unk>"), ("wordpiece", "[UNK]")])
def test_characters_that_got_no_token_are_told(texts, tmp_path, kind, becomes):
    (texts / "rare.txt").write_text("ßß", "utf-8")
    settings = ("--set", "vocabulary_size=60", "--set", "coverage=0.99")
    done = run("tokenizer", "train", str(texts), "--out", str(tmp_path / kind), "--kind", kind, *settings)
    assert "no token," in done
    assert "ß (2)" in done and becomes in done and "Raise coverage" in done


def test_a_family_keeps_the_special_tokens_that_are_asked_for(texts, tmp_path):
    given = ["--set", 'special_tokens=["<|end|>", "<tool>"]', "--family", "chatml", "--vocabulary-size", "300"]
    run("tokenizer", "train", str(texts), "--out", str(tmp_path / "v"), *given)
    special = Tokenizer.load(tmp_path / "v").special_ids
    assert list(special) == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|end|>", "<tool>"]
