"""One rule for the language of a document, through annotating, cleaning and balancing."""

import json

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from kit.tables import for_each
from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.corpus.languages import base_language

ENGLISH = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years."
)
GERMAN = (
    "Der Gemeinderat traf sich am Dienstag, um über die neue Brücke zu sprechen, und die meisten waren dafür. Der "
    "Ingenieur sagte, dass die alte in wenigen Jahren geschlossen werden müsse."
)
FEW = "1848, 1849: 12 + 13 = 25."  # nothing to tell a language by
# Name of the document → language that it declares, its body, and what its language is by the rule.
PAGES = {
    "agrees": ("en-US", ENGLISH, "en"), "says_nothing": ("", ENGLISH, "en"), "is_wrong": ("en-US", GERMAN, "de"),
    "too_short": ("de_CH", FEW, "de"), "nobody_knows": ("", FEW, "und"),
}  # fmt: skip


@for_each(("code", "tags"), [
    ("en", ["en-US", "en_US.UTF-8", " EN ", "eng"]), ("de", ["deu-AT", "ger"]), ("zh", ["zh-Hant-TW", "cmn-Hans"]),
    ("no", ["nb-NO"]), ("he", ["iw"]), ("grc", ["grc"]),
    (None, [None, "", "und", "und-Latn", "English", "x-klingon", "en, de", "jane.lang@mail.com", "C"]),
])  # fmt: skip
def test_a_declared_tag_becomes_a_code_as_measured_labels_have_it(code, tags):
    assert [base_language(tag) for tag in tags] == [code] * len(tags)


def test_measured_labels_are_codes_already():
    codes = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).nb_classes
    assert len(codes) > 100
    assert [base_language(f"{code}-XX") for code in codes] == list(codes)


def test_documents_ledger_policies_and_balance_go_by_it(tmp_path):
    (tmp_path / "pages").mkdir()
    rows = [{"text": text, "language": tag, "name": name} for name, (tag, text, _) in PAGES.items()]
    (tmp_path / "pages" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    inputs = [tmp_path / "documents", tmp_path / "annotations"]
    run_alone("corpus.read", inputs[0], [], [], [f'sources=["{tmp_path / "pages"}"]'])
    run_alone("corpus.tag", inputs[1], inputs[:1], [], [])
    steps = '{name="english", languages=["en"], limits={words={at_least=1000}}}'
    run_alone("corpus.filter", tmp_path / "cleaned", inputs, [], [f"steps=[{steps}]"])
    kept = {each.metadata["name"]: each for each in DocumentStore(tmp_path / "cleaned")}
    assert {name: each.language for name, each in kept.items()} == {
        name: language for name, (_, _, language) in PAGES.items() if language != "en"
    }
    assert kept["is_wrong"].metadata["declared_language"] == "en-US"
    names = {each.uri: each.metadata["name"] for each in DocumentStore(inputs[0])}
    told = {names[row.document]: row.language for row in read_ledger(tmp_path / "cleaned" / LEDGER)}
    assert told == {name: language for name, (_, _, language) in PAGES.items()}
    # Uncleaned documents have no measured language; `en` bounds those that say `en-US`.
    settings = ["languages={en={at_least=0.5}, de={at_most=0.5}, unknown={at_most=0.4}}", 'unit="documents"']
    run_alone("corpus.balance", tmp_path / "balanced", inputs[:1], [], settings)
    assert len(DocumentStore(tmp_path / "balanced")) == 4  # of five: two of them are half of the corpus
