"""Examples for a classifier: read from files, tables and artefacts, repaired, counted; and what is too little."""

import json
from pathlib import Path

import numpy as np
import pytest

from lmworks.build import run_alone
from lmworks.config import from_mapping
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.table_rows import Columns
from lmworks.corpus.taggers.classifier_examples import LEAST, Example, examples_from, usable
from lmworks.corpus.taggers.classifier_trainer import classifier_section, learn_classifier
from lmworks.corpus.taggers.config import ClassifierConfig
from lmworks.records import RejectedRecord

GOOD, BAD = "fine words, number {}".format, "cheap pills, number {}".format


def write_rows(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sides(number: int) -> list[Example]:
    return [Example(text(n), text is GOOD) for text in (GOOD, BAD) for n in range(number)]


def test_folders_tables_and_artefacts_are_read_alike(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(LEAST):
        (texts / f"{number}.txt").write_text(GOOD(number))
    (texts / "picture.png").write_bytes(b"\x89PNG")
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": BAD(number)} for number in range(LEAST)])
    run_alone("data.read", tmp_path / "read", [], [], [f'sources=["{texts}"]'])
    left_out: list[RejectedRecord] = []
    of_files = examples_from([str(texts)], [rows], left_out=left_out)
    assert [item.uri for item in left_out] == ["texts/picture.png"]
    assert {example.text for example in of_files if example.label} == set(map(GOOD, range(LEAST)))
    assert {example.text for example in of_files if not example.label} == set(map(BAD, range(LEAST)))
    assert of_files == examples_from([str(tmp_path / "read")], [rows])
    assert of_files == examples_from(["read"], ["rows.jsonl"], base=tmp_path)


@pytest.mark.parametrize(
    ("labels", "positive"), [((True, False), ""), ((1, 0), ""), (("law", "sport"), "law"), (("TRUE", "False"), "")]
)
def test_rows_may_have_their_own_labels_and_groups(labels, positive, tmp_path):
    rows = [
        {"text": text(n), "topic": label, "page": f"page {n}"}
        for text, label in zip((GOOD, BAD), labels, strict=True)
        for n in range(LEAST)
    ]
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], label="topic", positive=positive, group="page")
    assert sum(example.label for example in found) == LEAST
    assert all(example.label == example.text.startswith("fine") for example in found)
    assert all(example.group == f"page {example.text.split()[-1]}" for example in found)


def test_columns_that_are_kept_under_another_name_are_found(tmp_path):
    """A table's `kind` and `copy` are no notes of lmworks, which are found by these names in documents without them."""
    rows = [
        {"text": text(n), "kind": kind, "copy": f"of {n}"}
        for text, kind in ((GOOD, "law"), (BAD, "sport"))
        for n in range(LEAST)
    ]
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], label="kind", positive="law", group="copy")
    assert all(example.label == example.text.startswith("fine") for example in found)
    assert all(example.group == f"of {example.text.split()[-1]}" for example in found)


def test_texts_are_repaired_as_they_are_when_they_are_measured(tmp_path):
    rows = [{"text": f"hello\u00c2\u00a0there na\u00c3\u00afve {n}"} for n in range(LEAST)]
    other = write_rows(tmp_path / "o.jsonl", [{"text": BAD(n)} for n in range(LEAST)])
    reading = from_mapping(ReadConfig, {"kind": "web"})
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], [other], reading=reading)
    assert "na\u00efve" in found[0].text


def test_copies_contradictions_and_texts_without_words_are_left_out():
    examples = [*sides(LEAST + 2), Example(GOOD(0), True), Example(GOOD(1), False), Example(" \n", True)]
    found = usable(examples)
    assert len(found) == 2 * (LEAST + 2) - 1
    assert GOOD(1) not in {example.text for example in found}
    with pytest.raises(ValueError, match="50 different texts with the label and 49 without it"):
        usable([*sides(LEAST - 1), Example("one more", True)])


def test_rows_without_a_usable_label_are_told(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [{"text": "a", "topic": "law"}])
    with pytest.raises(ValueError, match=r'"law", which is neither true nor false.*--positive "law"'):
        examples_from([path], label="topic")
    with pytest.raises(ValueError, match='no label in a column "toxic": its other columns are topic'):
        examples_from([path], label="toxic")
    for against, label in (([], ""), ([path], "topic")):
        with pytest.raises(ValueError, match="say which texts do not have the label"):
            examples_from([path], against, label=label)


def test_a_table_without_texts_is_told_with_the_columns_that_it_has(tmp_path):
    path = tmp_path / "news.csv"
    path.write_text("body,topic\n" + "".join(f"word {number},law\n" for number in range(60)))
    with pytest.raises(ValueError, match=r'news.csv: no column "text"; found: body, topic.*--text COLUMN') as told:
        examples_from([str(path)], label="topic", positive="law")
    assert "there are 0 different texts" in str(told.value)
    with pytest.raises(ValueError, match=r"^there are 60 different texts"):  # nothing is wrong with the columns
        examples_from([str(path)], label="topic", positive="law", reading=ReadConfig(columns=Columns("body")))


def test_groups_are_on_one_side():
    generator = np.random.default_rng(1)
    examples = [
        Example(f"{generator.integers(1000)} {'fine' if n % 2 else 'cheap'} {n}", bool(n % 2), group=f"g{n // 10}")
        for n in range(2000)
    ]
    learned = learn_classifier(examples, "fine", ClassifierConfig(bits=10))
    evaluated = {example.group for example in learned.evaluated}
    assert len(learned.evaluated) == 10 * len(evaluated)  # each of its groups is whole
    assert 15 < len(evaluated) < 50  # of 200, the share is 0.15


def test_the_report_names_the_words_and_the_mistakes_and_alarms_of_unlike_sides():
    generator = np.random.default_rng(0)
    common, good, bad = (["the", "of", "and", "to", "in"], ["proof", "lemma", "theorem"], ["pills", "cheap", "casino"])
    examples = [
        Example(
            " ".join([*generator.choice(common, 20), *generator.choice(words, 4)]) + f" n{n}", words is good, f"{n}"
        )
        for n in range(200)
        for words in (good, bad)
    ]
    learned = learn_classifier(examples, "maths", ClassifierConfig(bits=14))
    section = classifier_section(learned, examples)
    weights, mistakes = dict(section.tables[2].rows), section.tables[3].rows
    assert all(weights[word] > 0 for word in good) and all(weights[word] < 0 for word in bad)
    of = dict(zip((each.text for each in learned.evaluated), learned.probabilities, strict=True))
    wrong = sorted((abs(of[each.text] - each.label) for each in learned.evaluated), reverse=True)
    assert [abs(row[0] - (row[1] == "yes")) for row in mistakes] == pytest.approx(wrong[:10])
    assert not section.alarms
    long = [Example(f"word {n} " * 50, n % 2 == 0) if n % 2 else Example(f"word {n}", True) for n in range(400)]
    noise = [Example(" ".join(map(str, generator.integers(0, 50, 30))), n % 2 == 0) for n in range(400)]
    for given, told in ((long, "times as long"), (noise, "no better than chance")):
        learned = learn_classifier(given, "fine", ClassifierConfig(bits=10))
        assert any(told in alarm for alarm in classifier_section(learned, given).alarms)
