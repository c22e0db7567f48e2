"""The verb `tokenizer report`, and what its names mean."""

import gzip
import json

import pytest

from command_line import refused, run
from kit.tables import for_each
from lmworks.cli.tokenizer_arguments import embedding_rows, find_texts, find_tokenizer
from lmworks.data.plain_texts import plain_texts
from lmworks.model.checkpoint import assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from published_data import DATA, needs_data


@pytest.fixture
def folder(tiny_tokenizer, tmp_path):
    made = tmp_path / "mine"
    made.mkdir()
    tiny_tokenizer.save(made)
    (tmp_path / "eng.txt").write_text("the thing\nin the inn\non it\n", "utf-8")
    (tmp_path / "deu.txt").write_text("das Ding\nim Gasthof größer\nauf ihm\n", "utf-8")
    return made


def test_writes_a_page_and_the_numbers(folder, tiny_tokenizer):
    here = folder.parent
    config = llama(267, 32, 2, 4, 2, 48, 64, tied=False)
    weights = initialise(Transformer(config), 0).state_dict()
    model = assemble(config, weights, tiny_tokenizer).save(here / "model")
    output = run(
        "tokenizer", "report", folder, model, "--text", here / "*.txt", "--by-file", "--reference", "eng",
        "--embeddings", "--out", here / "page.html", "--json", here / "page.json",
    )  # fmt: skip
    assert "model: 267 ids, of which" in output and "mine: no weights next to this tokenizer" in output
    page = (here / "page.html").read_text("utf-8")
    assert "Parity with eng" in page and "look under-trained" in page
    numbers = json.loads((here / "page.json").read_text("utf-8"))
    row = next(r for r in numbers if (r["vocabulary"], r["text"], r["measure"]) == ("mine", "deu", "parity"))
    encode = find_tokenizer(str(folder)).tokenizer.encode
    german, english = ((here / f"{name}.txt").read_text("utf-8") for name in ("deu", "eng"))
    assert row["value"] == len(encode(german)) / len(encode(english)) and row["n"] == 3 and row["signature"]
    assert row["unit"] == "line"


def test_nothing_is_overwritten_and_what_is_no_text_is_left_out(folder, monkeypatch):
    here = folder.parent
    monkeypatch.chdir(here)
    (here / "texts").mkdir()
    (here / "texts" / "a.txt").write_text("one\ntwo\n", "utf-8")
    (here / "texts" / "b.txt").write_text("three\n", "utf-8")
    (here / "texts" / "c.png").write_bytes(b"\x89\xff")
    given = ("tokenizer", "report", folder, "--text", "texts", "--out", "page.html")
    assert "left out because not UTF-8: 1 file, such as texts/c.png" in run(*given)
    assert "page.html exists already" in refused(*given)


def test_finds_every_form_of_a_tokenizer(folder, smollm2, tiny_tokenizer):
    assert find_tokenizer(str(folder)).name == "mine"
    direct = find_tokenizer(str(folder / "tokenizer.json"))
    assert (direct.name, direct.tokenizer.hash) == ("mine", tiny_tokenizer.hash)
    other = folder.parent / "other.json"
    tiny_tokenizer.backend.save(str(other))
    assert find_tokenizer(str(other)).tokenizer.encode("the") == tiny_tokenizer.encode("the")
    assert find_tokenizer(str(smollm2)).tokenizer.vocabulary_size == 49152
    assert find_tokenizer(str(smollm2.parent)).path == smollm2  # alone in the folder that pull made
    assert find_tokenizer("smollm2-135m-instruct").name == "smollm2-135m-instruct"


@needs_data
def test_finds_a_sentence_piece_model(tmp_path):
    (tmp_path / "botchan.model").write_bytes(
        gzip.decompress((DATA / "sentencepiece-models" / "test_model.model.gz").read_bytes())
    )
    found = find_tokenizer(str(tmp_path / "botchan.model"))
    assert found.name == "botchan" and found.tokenizer.decode(found.tokenizer.encode("a test")) == "a test"
    assert embedding_rows(found) is None
    (tmp_path / "unheard_of.tiktoken").write_bytes(b"")
    with pytest.raises(ValueError, match="encoding 'unheard_of' is not known"):
        find_tokenizer(str(tmp_path / "unheard_of.tiktoken"))


def test_passages_are_files_lines_or_rows(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "b.txt").write_text("three", "utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "four\\n"}\n{"text": "five"}\n', "utf-8")
    found = find_texts([f"all={tmp_path}/*.txt", f"{tmp_path}/a.txt", f"rows={tmp_path}/c.jsonl"], by_file=False)
    assert {name: (text.passages, text.unit) for name, text in found.items()} == {
        "all": (("one\ntwo\n", "three"), "file"),
        "a": (("one\n", "two\n"), "line"),
        "rows": (("four\n", "five"), "row"),
    }
    assert list(find_texts([f"x={tmp_path}/*.txt"], by_file=True)) == ["a", "b"]


@for_each(
    ("content", "option", "problem"),
    [
        (b"", "nothing=*.md", "no file matches"),
        (b"\xff\xfe", "x=a.txt", "not UTF-8"),
        (b"{}\n", "x=a.jsonl", 'not a JSON object with a "text"'),
    ],
)
def test_texts_that_cannot_be_read_are_named(content, option, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        find_texts([option], by_file=False)


# ---------------------------------------------------------------------------------------------------------------------
# Texts as training reads them


BREAKS = "one\r\ntwo\u2028still two\x0cstill two\nthree\r\n"


def test_texts_are_the_bytes_of_their_files(tmp_path):
    """Line breaks of Windows are not made shorter, and no other sign than a line feed ends a line of a corpus."""
    (tmp_path / "a.txt").write_bytes(BREAKS.encode())
    text = find_texts([f"{tmp_path}/a.txt"], by_file=False)["a"]
    assert text.passages == ("one\r\n", "two\u2028still two\x0cstill two\n", "three\r\n")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfx\r\ry")
    pair = find_texts([f"all={tmp_path}/*.txt"], by_file=False)["all"]
    assert [passage.encode() for passage in pair.passages] == [
        (tmp_path / name).read_bytes() for name in ("a.txt", "b.txt")
    ]
    assert "".join(pair.passages) == "".join(plain_texts([str(tmp_path / "*.txt")], []))


def test_a_text_may_be_a_folder(tmp_path):
    inner = tmp_path / "docs" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "docs" / "a.txt").write_text("one\n", "utf-8")
    (inner / "b.txt").write_text("two\n", "utf-8")
    (tmp_path / "docs" / "c.png").write_bytes(b"\x89\xff")
    rejected = []
    found = find_texts([f"{tmp_path}/docs", f"named={tmp_path}/docs"], False, rejected)
    assert {name: text.passages for name, text in found.items()} == dict.fromkeys(("docs", "named"), ("one\n", "two\n"))
    assert [each.uri for each in rejected] == ["docs/c.png"] * 2 and "not UTF-8" in rejected[0].reason
    assert list(find_texts([f"{tmp_path}/docs"], by_file=True)) == ["a", "b"]


@for_each(
    ("pattern", "name"),
    [("*/a.txt", "*/a.txt"), ("docs/*.txt", "docs"), ("docs/**/*.txt", "docs"), ("docs/a.txt", "a")],
)
def test_a_text_without_a_name_is_called_what_it_comes_from(pattern, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for file in ("a.txt", "b.txt"):
        (tmp_path / "docs" / file).write_text("one\n", "utf-8")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "a.txt").write_text("two\n", "utf-8")
    assert list(find_texts([pattern], by_file=False)) == [name]
