"""Sources of which data.clean left nothing: what data.balance says of them, and a weight that takes none of them."""

import pytest
from balance_cases import artefact, document, run

from lmworks.build import run_alone
from lmworks.corpus.balance.config import BalanceConfig, SourceShare
from lmworks.corpus.documents import DocumentStore

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


def test_a_source_that_cleaning_emptied_is_refused_with_its_documents(cleaned, tmp_path):
    sources = "sources={books={weight=2}, notes={weight=1}}"
    with pytest.raises(ValueError, match=r"sources.notes: data.clean \(cleaned\) dropped all of its 3 documents"):
        run_alone("data.balance", tmp_path / "out", [cleaned], [], [sources])


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
