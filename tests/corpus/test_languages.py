"""One rule for the language of a document, through annotating, cleaning and balancing."""

import json
from pathlib import Path

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.corpus.languages import base_language, language_of
from lmworks.corpus.taggers.config import AnnotateConfig
from lmworks.corpus.taggers.tag_document import annotate_document
from lmworks.records import Document

ENGLISH = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years."
)
GERMAN = (
    "Der Gemeinderat traf sich am Dienstag, um über die neue Brücke zu sprechen, und die meisten waren dafür. Der "
    "Ingenieur sagte, dass die alte in wenigen Jahren geschlossen werden müsse."
)
FEW = "1848, 1849: 12 + 13 = 25."  # nothing to tell a language by
# Name of the file → language that it declares, its body, and what its language is by the rule.
PAGES = {
    "agrees": ("en-US", ENGLISH, "en"),
    "says_nothing": ("", ENGLISH, "en"),
    "is_wrong": ("en-US", GERMAN, "de"),
    "too_short": ("de_CH", FEW, "de"),
    "nobody_knows": ("", FEW, "und"),
}


def test_a_declared_tag_becomes_a_code_as_measured_labels_have_it():
    found = {tag: base_language(tag) for tag in ("en-US", "en_US.UTF-8", " EN ", "eng", "zh-Hant-TW", "deu-AT", "ger")}
    assert list(found.values()) == ["en", "en", "en", "en", "zh", "de", "de"]
    assert [base_language(tag) for tag in ("nb-NO", "iw", "cmn-Hans")] == ["no", "he", "zh"]
    assert base_language("grc") == "grc"
    assert [base_language(tag) for tag in ("English", "x-klingon", "en, de", "jane.lang@mail.com", "C")] == [None] * 5
    assert [base_language(tag) for tag in (None, "", "und", "und-Latn")] == [None] * 4


def test_measured_labels_are_codes_already():
    codes = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).nb_classes
    assert len(codes) > 100
    assert [base_language(code) for code in codes] == list(codes)
    assert [base_language(f"{code}-XX") for code in codes] == list(codes)


@pytest.mark.parametrize(
    "measured, declared, expected",
    [
        ("de", "en-US", "de"),
        ("und", "en-US", "en"),
        (None, "en-US", "en"),
        ("und", None, "und"),
        ("und", "und", "und"),
        (None, None, None),
        ("zxx", "en", "zxx"),
    ],
)
def test_the_measured_language_goes_before_the_declared_one(measured, declared, expected):
    assert language_of(measured, declared) == expected


def test_what_depends_on_a_language_depends_on_the_same():
    """Gopher's stop words are English ones: they are counted in what is English, whatever its tag looks like."""

    def measures(text: str, language: str | None, told: bool = True) -> set[str]:
        document = Document(text, "a/b", "text/plain", "plain", "1", "0" * 64, language=language)
        return set(annotate_document(document, AnnotateConfig(language=told), Path()).attributes.scores)

    only_of_english = measures(ENGLISH, "en") - measures(GERMAN, "de")
    assert only_of_english
    assert only_of_english <= measures(ENGLISH, "de") and not only_of_english & measures(GERMAN, "en")
    assert only_of_english <= measures(ENGLISH, "en-US", told=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    (folder / "pages").mkdir()
    rows = [{"text": text, "language": tag, "name": name} for name, (tag, text, _) in PAGES.items()]
    (folder / "pages" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run_alone("data.read", folder / "documents", [], [], [f'sources=["{folder / "pages"}"]'])
    run_alone("data.annotate", folder / "annotations", [folder / "documents"], [], [])
    return folder


def clean(folder: Path, out: str, steps: str) -> dict[str, Document]:
    run_alone("data.clean", folder / out, [folder / "documents", folder / "annotations"], [], [f"steps=[{steps}]"])
    return {document.metadata["name"]: document for document in DocumentStore(folder / out)}


def test_documents_ledger_and_card_agree(folder):
    found = clean(folder, "all", '{name="short", limits={words={at_least=0}}}')
    expected = {name: language for name, (_, _, language) in PAGES.items()}
    assert {name: document.language for name, document in found.items()} == expected
    names = {document.uri: name for name, document in found.items()}
    assert {names[row.document]: row.language for row in read_ledger(folder / "all" / LEDGER)} == expected
    card = (folder / "all" / "data_card.md").read_text("utf-8")
    assert "en-US" not in card
    assert 'language:\n- "de"\n- "en"\n' in card
    declared = {name: document.metadata.get("declared_language") for name, document in found.items()}
    assert declared == {name: tag or None for name, (tag, _, _) in PAGES.items()}


def test_policies_go_by_it(folder):
    words = '{name="long", languages=["%s"], limits={words={at_least=1000}}}'
    for language in ("en", "de"):
        kept = clean(folder, f"no_{language}", words % language)
        assert kept.keys() == {name for name, (_, _, each) in PAGES.items() if each != language}
    kept = clean(folder, "allowed", '{name="mine", labels={language={allow=["de"]}}}')
    assert kept.keys() == {"is_wrong", "too_short"}


def test_balance_goes_by_the_base_of_what_documents_declare(folder):
    """Uncleaned documents have no measured language; `en` bounds those that say `en-US`."""
    settings = ["languages={en={at_least=0.5}, de={at_most=0.5}, unknown={at_most=0.4}}", 'unit="documents"']
    run_alone("data.balance", folder / "balanced", [folder / "documents"], [], settings)
    report = (folder / "balanced" / "report.html").read_text("utf-8")
    assert "en-US" not in report
    assert len(DocumentStore(folder / "balanced")) == 4  # of five: two of them are half of the corpus
