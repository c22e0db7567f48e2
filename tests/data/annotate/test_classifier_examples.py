"""Examples for a classifier: read from files, tables and artefacts, repaired, counted; and what is too little."""

import json
from pathlib import Path

import numpy as np
import pytest

from lmworks.build import run_alone
from lmworks.config import from_mapping
from lmworks.data.annotate.classifier_examples import LEAST, Example, LabelColumn, examples_from, usable
from lmworks.data.annotate.classifier_features import telling_features
from lmworks.data.annotate.classifier_report import sections_of
from lmworks.data.annotate.classifier_training import learn_classifier
from lmworks.data.annotate.config import ClassifierConfig
from lmworks.data.config import ReadConfig
from lmworks.data.readers.rows import Columns
from lmworks.records import LeftOut

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
    left_out: list[LeftOut] = []
    of_files = examples_from([str(texts)], [rows], left_out=left_out)
    assert [item.uri for item in left_out] == ["texts/picture.png"]
    assert {example.text for example in of_files.examples if example.label} == set(map(GOOD, range(LEAST)))
    assert {example.text for example in of_files.examples if not example.label} == set(map(BAD, range(LEAST)))
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
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], label=LabelColumn("topic", positive), group="page")
    assert sum(example.label for example in found.examples) == LEAST
    assert all(example.label == example.text.startswith("fine") for example in found.examples)
    assert all(example.group == f"page {example.text.split()[-1]}" for example in found.examples)


def test_columns_that_are_kept_under_another_name_are_found(tmp_path):
    """A table's `kind` and `copy` are no notes of lmworks, which are found by these names in documents without them."""
    rows = [
        {"text": text(n), "kind": kind, "copy": f"of {n}"}
        for text, kind in ((GOOD, "law"), (BAD, "sport"))
        for n in range(LEAST)
    ]
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], label=LabelColumn("kind", "law"), group="copy")
    assert all(example.label == example.text.startswith("fine") for example in found.examples)
    assert all(example.group == f"of {example.text.split()[-1]}" for example in found.examples)


def test_texts_are_repaired_as_they_are_when_they_are_measured(tmp_path):
    rows = [{"text": f"hello\u00c2\u00a0there na\u00c3\u00afve {n}"} for n in range(LEAST)]
    other = write_rows(tmp_path / "o.jsonl", [{"text": BAD(n)} for n in range(LEAST)])
    reading = from_mapping(ReadConfig, {"kind": "web"})
    found = examples_from([write_rows(tmp_path / "r.jsonl", rows)], [other], reading=reading)
    assert "na\u00efve" in found.examples[0].text


def test_copies_contradictions_and_texts_without_words_are_left_out_and_counted():
    examples = [*sides(LEAST + 2), Example(GOOD(0), True), Example(GOOD(1), False), Example(" \n", True)]
    found = usable(examples)
    assert (found.copies, found.contrary, found.wordless) == (1, 1, 1)
    assert len(found.examples) == 2 * (LEAST + 2) - 1
    assert GOOD(1) not in {example.text for example in found.examples}


@pytest.mark.parametrize(("good", "bad"), [(LEAST - 3, LEAST), (LEAST, 0), (1, 2)])
def test_too_few_examples_say_how_many_more_it_takes(good, bad):
    examples = [example for example in sides(LEAST) if int(example.text.split()[-1]) < (good if example.label else bad)]
    examples.append(Example("", True))
    with pytest.raises(ValueError) as error:
        usable(examples)
    told = str(error.value)
    assert f"{good} different texts with the label and {bad} without it (1 texts without a word" in told
    assert (f"{LEAST - good} more with it" in told) == (good < LEAST)
    assert (f"{LEAST - bad} more without it" in told) == (bad < LEAST)


def test_rows_without_a_usable_label_are_told(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [{"text": "a", "topic": "law"}])
    with pytest.raises(ValueError, match=r'"law", which is neither true nor false.*--positive "law"'):
        examples_from([path], label=LabelColumn("topic"))
    with pytest.raises(ValueError, match='no label in a column "toxic": its other columns are topic'):
        examples_from([path], label=LabelColumn("toxic"))
    for against, label in (([], None), ([path], LabelColumn("topic"))):
        with pytest.raises(ValueError, match="say which texts do not have the label"):
            examples_from([path], against, label)


def test_a_table_without_texts_is_told_with_the_columns_that_it_has(tmp_path):
    path = tmp_path / "news.csv"
    path.write_text("body,topic\n" + "".join(f"word {number},law\n" for number in range(60)))
    with pytest.raises(ValueError, match=r'news.csv: no column "text"; found: body, topic.*--text COLUMN') as told:
        examples_from([str(path)], label=LabelColumn("topic", "law"))
    assert "there are 0 different texts" in str(told.value)
    with pytest.raises(ValueError, match=r"^there are 60 different texts"):  # nothing is wrong with the columns
        examples_from([str(path)], label=LabelColumn("topic", "law"), reading=ReadConfig(columns=Columns("body")))


# ---------------------------------------------------------------------------------------------------------------------
# What is told of a classifier


@pytest.fixture(scope="module")
def learned():
    generator = np.random.default_rng(0)
    common, good, bad = (["the", "of", "and", "to", "in"], ["proof", "lemma", "theorem"], ["pills", "cheap", "casino"])
    examples = []
    for number in range(400):
        words = [*generator.choice(common, 20), *generator.choice(good if number % 2 else bad, 4), f"n{number}"]
        examples.append(Example(" ".join(generator.permutation(words)), bool(number % 2), f"text {number}"))
    found = usable(examples)
    return learn_classifier(found.examples, "maths", ClassifierConfig(bits=14)), found


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


def test_the_telling_words_are_those_that_part_the_texts(learned):
    telling = learned[0].telling
    first = {each.ngram for each in telling if each.weight > 0 and " " not in each.ngram}
    against = {each.ngram for each in telling if each.weight < 0 and " " not in each.ngram}
    assert {"proof", "lemma", "theorem"} <= first and {"pills", "cheap", "casino"} <= against
    for each in telling:
        if each.ngram in ("proof", "pills"):
            assert (each.having > 0) == (each.ngram == "proof") and (each.without > 0) == (each.ngram == "pills")


def test_shares_add_up_to_the_distance_between_the_mean_log_odds():
    examples = sides(200)
    learned = learn_classifier(examples, "fine", ClassifierConfig(bits=12))
    classifier = learned.classifier
    from lmworks.data.annotate.classifier import features
    from lmworks.data.annotate.words import tokens

    found = telling_features(classifier, features([tokens(e.text) for e in examples], 2, 12), examples, number=10_000)
    odds = classifier.log_odds([tokens(example.text) for example in examples])
    labels = np.array([example.label for example in examples])
    distance = odds[labels].mean() - odds[~labels].mean()
    # Shares below 0, of words that speak against their own side, are not listed: here there are next to none.
    assert sum(each.share for each in found) == pytest.approx(distance, rel=0.02)


def test_the_report_shows_the_most_mistaken_of_what_was_evaluated(learned):
    (examples,) = (section for section in sections_of(*learned, shown=3) if section.title == "Scores of examples")
    names = {example.name for example in learned[0].evaluated}
    assert all(len(table.rows) == 3 and {row[2] for row in table.rows} <= names for table in examples.tables)
    probabilities = [row[0] for row in examples.tables[1].rows]
    assert probabilities == sorted(probabilities, reverse=True)


def test_unlike_lengths_and_chance_are_warned_of():
    long = [Example(f"fine words {n} " * 50, True) for n in range(100)]
    other = [example for example in sides(100) if not example.label]
    found = usable([*long, *other])
    told = sections_of(learn_classifier(found.examples, "fine", ClassifierConfig(bits=10)), found)[0].text
    assert "WARNING: the texts of one side are" in told
    generator = np.random.default_rng(0)
    noise = usable(Example(" ".join(map(str, generator.integers(0, 50, 30))), n % 2 == 0) for n in range(400))
    told = sections_of(learn_classifier(noise.examples, "noise", ClassifierConfig(bits=10)), noise)[1].text
    assert "WARNING: it may be no better than chance" in told
