"""`corpus.tag` with models of the user's: several classifiers, word lists; and licences of sources."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.artefact import SECTIONS
from lmworks.build import run_alone
from lmworks.config import from_mapping
from lmworks.corpus.attributes import attribute_paths, read_attributes
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.corpus.taggers.classifier import load_classifier
from lmworks.corpus.taggers.classifier_trainer import Example, learn_classifier
from lmworks.corpus.taggers.config import AnnotateConfig, ClassifierConfig
from lmworks.corpus.taggers.tag_document import tag_document, tools_of
from lmworks.outside_inputs import digest_outside
from lmworks.records import Document
from lmworks.stages import STAGES

OFF = dict.fromkeys(("language", "heuristics", "personal", "spam"), False)
MINE = """
from lmworks.corpus.attributes import Attributes
from lmworks.corpus.taggers.tagger import Tagger

LETTERS = Tagger("letters", lambda text: Attributes({"letters": float(len(text.text))}), {"score.letters": "a line"})
"""
TEXT = "A proof of the lemma follows from the theorem before it.\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two classifiers, of mathematics and of advertisements, and a list of words."""
    folder = tmp_path_factory.mktemp("models")
    generator = np.random.default_rng(0)
    sorts = {"maths": ["proof", "lemma", "theorem"], "adverts": ["pills", "cheap", "casino"]}
    texts = [
        (sort, " ".join(["the", *generator.choice(words, 9), f"n{number}"]))
        for number in range(150)
        for sort, words in sorts.items()
    ]
    for name in sorts:
        examples = [Example(text, sort == name) for sort, text in texts]
        learn_classifier(examples, name, ClassifierConfig(bits=10)).classifier.save(folder / f"{name}.npz")
    (folder / "words.txt").write_text("lemma\n")
    (folder / "code_comment.txt").write_text("lemma\n")
    (folder / "blank.txt").write_text("\n \n")
    (folder / "mine.py").write_text(MINE)
    return folder


def document(text: str, **fields) -> Document:
    return Document(text, "a/1", "text/plain", "plain", "1", "0" * 64, **fields)


def config(**settings) -> AnnotateConfig:
    return from_mapping(AnnotateConfig, {**OFF, **settings})


def test_every_model_gives_the_score_of_its_name(models):
    wanted = config(
        classifiers={"quality": "maths.npz", "toxicity": str(models / "adverts.npz")},
        word_lists=["words.txt"],
        taggers=["mine.py"],
    )
    found = tag_document(document(TEXT), wanted, models).attributes
    for score, file in (("quality", "maths.npz"), ("toxicity", "adverts.npz")):
        assert found.scores[score] == load_classifier(models / file).probabilities([TEXT])[0]
    assert found.scores["quality"] > 0.8 > 0.2 > found.scores["toxicity"]
    assert found.scores["words_share"] == pytest.approx(1 / 11)
    assert found.scores["letters"] == len(TEXT)
    assert [span.rule for span in found.spans if span.rule == "words"] == ["words"]


@for_each(("settings", "named"), [
    ({"classifiers": {"quality": "no.npz"}}, "classifiers.quality"), ({"word_lists": ["."]}, "word_lists"),
    ({"evaluation": ["blank.txt"]}, "blank.txt"),
    ({"classifiers": {"quality": "words.txt"}}, "lmworks data classifier"),
    ({"classifiers": {"words": "maths.npz"}, "heuristics": True}, "words"),
    ({"word_lists": ["code_comment.txt"]}, "code_comment_share"), ({"taggers": ["words.txt"]}, "NameError"),
])  # fmt: skip
def test_files_that_are_not_what_they_should_be_are_refused_before_any_stage_runs(models, settings, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        tools_of(config(**settings), models)


def test_another_file_under_one_name_is_another_input(models, tmp_path):
    wanted, digests, scores = config(word_lists=["one.txt"]), set(), []
    for word in ("lemma", "theorems"):
        (tmp_path / "one.txt").write_text(word)
        digests.add(digest_outside(STAGES["corpus.tag"], wanted, tmp_path))
        scores.append(tag_document(document(TEXT), wanted, tmp_path).attributes.scores["one_share"])
    assert len(digests) == 2 and scores == [pytest.approx(1 / 11), 0]


@pytest.fixture
def built(models, tmp_path) -> Path:
    """Four rows, two of them nearly equal, of which the source states a licence, and one text another."""
    rows = [
        {"text": f"Proof of the lemma: {TEXT * 3}", "license": "CC BY 4.0"},
        {"text": f"Cheap pills: {TEXT * 2} pills casino pills cheap casino pills cheap casino", "license": "cc-by-4.0"},
        {"text": f"{TEXT}\nThis text is licensed under the GPL, version 3.", "license": "mit"},
        {"text": f"No licence. {TEXT}"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_alone("corpus.read", tmp_path / "documents", [], [], [f'sources=["{tmp_path / "rows.jsonl"}"]'])
    settings = [f"{name}=false" for name in OFF] + [f'classifiers={{quality="{models / "maths.npz"}"}}']
    run_alone("corpus.tag", tmp_path / "annotations", [tmp_path / "documents"], [], settings)
    return tmp_path


def clean(built: Path, name: str, step: str) -> list[str]:
    inputs = [built / "documents", built / "annotations"]
    run_alone("corpus.filter", built / name, inputs, [], [f'steps=[{{name="s", {step}}}]'])
    return [document.uri.rpartition("/")[2] for document in DocumentStore(built / name)]


def test_the_licence_of_the_source_counts_and_what_the_text_says_besides(built):
    table = read_attributes(attribute_paths(built / "annotations")[0])
    assert list(table.labels["licence"]) == ["CC-BY-4.0", "CC-BY-4.0", "MIT AND GPL-3.0-only", None]
    allow = 'allow=["permissive"]'
    assert clean(built, "strict", f"labels={{licence={{{allow}, unknown='drop'}}}}") == ["1", "2"]
    assert clean(built, "source", f"labels={{licence_of_source={{{allow}}}}}") == ["1", "2", "3", "4"]
    cleaned = {document.uri: document.licence for document in DocumentStore(built / "source")}
    assert cleaned["rows.jsonl/3"] == "MIT AND GPL-3.0-only"
    dropped = [entry.reasons[0].label for entry in read_ledger(built / "strict" / LEDGER) if entry.verdict == "dropped"]
    assert dropped == ["MIT AND GPL-3.0-only", None]


QUESTION = "Which of the {0} bridges over the river was built by the {0} grandfather of the mayor of the {0} town?"


def test_what_became_of_evaluation_items_is_counted(tmp_path):
    """Two items stand in one document, where the label names only one; a short one and a common one are not clean."""
    (tmp_path / "texts").mkdir()
    asked = [QUESTION.format(f"word{number}") for number in range(4)]
    (tmp_path / "texts" / "a.txt").write_text(f"{asked[0]} {asked[1]} And nothing else.\n")
    (tmp_path / "texts" / "b.txt").write_text("Nothing at all is asked for here.\n")
    common = ["Answer the question below in one word and do not explain your answer."] * 11
    (tmp_path / "items.txt").write_text("\n".join([*asked, "Who?", *common]))
    run_alone("corpus.read", tmp_path / "read", [], [], [f'sources=["{tmp_path / "texts"}"]'])
    settings = [*(f"{name}=false" for name in OFF), f'evaluation=["{tmp_path / "items.txt"}"]']
    result = run_alone("corpus.tag", tmp_path / "known", [tmp_path / "read"], [], settings)
    counts = {"contaminated": 2, "clean": 2, "too short to decide": 1, "too common to decide": 11}
    assert result.manifest.metrics["evaluation_items"] == counts
    sections = json.loads((result.folder / SECTIONS).read_text("utf-8"))
    (section,) = (section for section in sections if section["title"] == "Evaluation items")
    assert dict(section["tables"][0]["rows"]) == counts
