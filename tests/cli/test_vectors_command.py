"""`lmworks vectors`: train, neighbours, analogy, evaluate, map."""

import pytest
from typer.testing import CliRunner

from command_line import refused
from kit.tables import for_each
from lmworks.cli.main import app
from lmworks.embeddings.vector_files import load_word_vectors

TEXT = "The king and the queen rule. A man and a woman walk. The king is a man, the queen is a woman. " * 40


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT, "utf-8")
    (folder / "picture.png").write_bytes(b"\x89\xff")
    return folder


def run(*arguments: str):
    return CliRunner().invoke(app, ["vectors", *arguments])


@pytest.mark.parametrize("kind", ["skip-gram", "cbow", "glove"])
def test_train_ask_evaluate_and_draw(texts, tmp_path, kind):
    out = str(tmp_path / ("vectors.bin" if kind == "cbow" else "vectors"))
    done = run("train", str(texts), "--out", out, "--kind", kind, "--set", "dimensions=8", "--set", "epochs=3")
    assert done.exit_code == 0, done.output
    assert "picture.png" in done.output and "its neighbours" in done.output
    assert set(load_word_vectors(out).words) == {
        *["the", "king", "and", "queen", "rule", "a", "man", "woman", "walk", "is"]
    }
    assert "queen" in run("neighbours", "king", "--vectors", out).output
    for method in ("add", "multiply"):
        told = run("analogy", "man", "king", "woman", "--vectors", out, "--method", method).output
        assert "queen" in told and "king" not in told
    questions, pairs = tmp_path / "questions.txt", tmp_path / "pairs.tsv"
    questions.write_text(": royal\nman king woman queen\nking man queen woman\nman king woman duchess\n")
    pairs.write_text("king\tqueen\t9\nking\twalk\t1\nman\twoman\t8\nman\tduke\t5\n")
    told = run("evaluate", "--vectors", out, "--analogies", str(questions), "--similarity", str(pairs)).output
    assert "2 of 3" in told and "3 of 4" in told and "[" in told
    picture = tmp_path / "map.svg"
    drawn = run("map", "king", "woman", "--near", "2", "--vectors", out, "--out", str(picture))
    assert drawn.exit_code == 0, drawn.output
    assert "king" in picture.read_text("utf-8")


def test_a_model_is_asked_as_vectors_are(tiny_tokenizer, tmp_path):
    from lmworks.model.checkpoint import assemble
    from lmworks.model.initialisation import initialise
    from lmworks.model.presets import llama
    from lmworks.model.transformer import Transformer

    config = llama(267, 16, 1, 2, 2, 16, 16)
    folder = assemble(config, initialise(Transformer(config), seed=0).state_dict(), tiny_tokenizer).save(tmp_path / "m")
    told = run("neighbours", " the", "--vectors", str(folder), "--number", "3")
    assert told.exit_code == 0, told.output
    assert len(told.output.strip().splitlines()) == 5  # a title, a head, three words


def test_folders_on_the_way_to_a_result_are_made_before_the_work(texts, tmp_path):
    out = tmp_path / "missing" / "deep" / "vectors.bin"
    done = run("train", str(texts), "--out", str(out), "--set", "dimensions=4", "--set", "epochs=1")
    assert done.exit_code == 0 and "the" in load_word_vectors(out)
    picture = tmp_path / "pictures" / "map.svg"
    assert run("map", "king", "queen", "man", "--vectors", str(out), "--out", str(picture)).exit_code == 0
    assert picture.exists()
    in_a_file = str(texts / "text.txt" / "vectors")
    told = refused("vectors", "train", str(texts), "--out", in_a_file, "--set", "dimensions=4")
    assert "text.txt" in told and "words learnt" not in told


@for_each("name", ["v.bin", "v.vec", "v"])
def test_subwords_that_a_file_cannot_hold_are_named(texts, tmp_path, name):
    out = tmp_path / name
    small = ("--set", "dimensions=4", "--set", "epochs=1")
    told = run("train", str(texts), "--out", str(out), "--set", "subwords={}", *small).output
    told_so = f"without their subwords; --out {tmp_path / 'v'} keeps both" in told
    assert told_so == (load_word_vectors(out).ngrams is None) == (name != "v")
    plain = run("train", str(texts), "--out", str(tmp_path / f"plain-{name}"), *small).output
    assert "without their" not in plain
