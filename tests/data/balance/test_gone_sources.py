"""Sources of which data.clean left nothing: what data.balance says of them, and a weight that takes none of them."""

import re

import pytest
from balance_cases import artefact, document, run

from lmworks.build import run_alone
from lmworks.config import ConfigError, from_mapping
from lmworks.data.balance.config import BalanceConfig, SourceShare
from lmworks.data.store import DocumentStore

STEPS = 'steps=[{name="few", limits={words={at_least=50}}}]'


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """Two long texts of `books`; three short ones of `notes`, all of which the policy drops."""
    folder = tmp_path_factory.mktemp("gone")
    for name, count, words in (("books", 2, 40), ("notes", 3, 5)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{number}.txt").write_text(f"The council met on day {number}. " + "Again so. " * words)
    sources = f'sources=["{folder / "books"}", "{folder / "notes"}"]'
    run_alone("data.read", folder / "documents", [], [], [sources])
    run_alone("data.annotate", folder / "annotations", [folder / "documents"], [], [])
    run_alone("data.clean", folder / "cleaned", [folder / "documents", folder / "annotations"], [], [STEPS])
    assert {each.uri.split("/")[0] for each in DocumentStore(folder / "cleaned")} == {"books"}
    return folder / "cleaned"


@pytest.mark.parametrize("share", ["weight=1", "max_epochs=2"])
def test_a_source_that_cleaning_emptied_is_told_with_its_documents(cleaned, tmp_path, share):
    books = "weight=2" if "weight" in share else "max_epochs=1"
    with pytest.raises(ValueError, match="dropped all") as caught:
        run_alone(
            "data.balance", tmp_path / "out", [cleaned], [], [f"sources={{books={{{books}}}, notes={{{share}}}}}"]
        )
    assert str(caught.value) == (
        "sources.notes: data.clean (cleaned) dropped all of its 3 documents. Leave sources.notes out, or give it "
        f"weight=0, or clean by a milder policy: {cleaned / 'report.html'} tells which steps took them"
    )


@pytest.mark.parametrize("sources", ["{books={weight=2}, notes={weight=0}}", "{books={weight=2}}"])
def test_either_way_out_gives_the_documents_of_the_others(cleaned, tmp_path, sources):
    run_alone("data.balance", tmp_path / "out", [cleaned], [], [f"sources={sources}"])
    texts = sorted(each.text for each in DocumentStore(tmp_path / "out"))
    assert texts == sorted(each.text for each in DocumentStore(cleaned))


def test_a_source_whose_documents_are_all_empty_or_to_evaluate_by_is_not_called_unknown(tmp_path):
    given = artefact(tmp_path / "given", [document("", "a/1"), document("x", "b/1"), document("y", "c/1")])
    tests = artefact(tmp_path / "tests", [document("x", "suite/1")])
    for number, name in enumerate("ab"):
        config = BalanceConfig(sources={name: SourceShare(max_epochs=2)}, evaluation=("tests",))
        with pytest.raises(ValueError, match=f"sources.{name}: all of its documents are empty or there to evaluate by"):
            run(tmp_path / str(number), config, given=given, tests=tests)


def test_a_name_that_no_document_ever_had_is_an_unknown_one(cleaned, tmp_path):
    with pytest.raises(ValueError, match=r'unknown source "note".*allowed: books'):
        run_alone("data.balance", tmp_path / "out", [cleaned], [], ["sources={books={weight=2}, note={weight=0}}"])


def test_a_source_without_the_weight_that_others_have_is_an_error_of_the_config():
    """So that a recipe is refused before any of its stages runs."""
    told = re.escape("stages.mixed: give all sources a weight or none; without one: b, c (0 takes none of a source)")
    sources = {"a": {"weight": 1}, "b": {"max_epochs": 2}, "c": {}}
    with pytest.raises(ConfigError, match=told):
        from_mapping(BalanceConfig, {"sources": sources}, ["stages", "mixed"])
    from_mapping(BalanceConfig, {"sources": {"b": {"max_epochs": 2}, "c": {}}})
