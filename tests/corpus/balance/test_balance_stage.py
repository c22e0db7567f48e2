"""From documents of several sources to a corpus: shares, repeats, what is refused, and always the same documents."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from balance_cases import artefact, corpus, document, run, size, tagged

from lmworks.artefact import read_rows
from lmworks.build import run_alone
from lmworks.corpus.balance.config import BalanceConfig, SourceShare, UpsamplingFactor
from lmworks.corpus.documents import REJECTED, DocumentStore
from lmworks.corpus.filtering.filter_policy import Limit
from lmworks.records import RejectedRecord

DOCUMENTS = corpus()
SIZES: dict[str, int] = Counter()
for each in DOCUMENTS:
    SIZES[each.uri.split("/")[0]] += size(each.text)
LARGEST = max(size(each.text) for each in DOCUMENTS)
MIXED = BalanceConfig(
    sources={"web": SourceShare(2), "wiki": SourceShare(2, max_epochs=3), "code": SourceShare(1)},
    max_epochs=4,
    total=15_000,
    augment={"rewrap": 0.2, "plain_punctuation": 0.3, "lowercase": 0.4},
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return artefact(tmp_path_factory.mktemp("given") / "documents", DOCUMENTS)


def amounts(documents, key=lambda each: each.uri.split("/")[0]):
    found = Counter()
    for each in documents:
        found[key(each)] += size(each.text)
    return found


def chosen(documents):
    """How often each document comes, whatever its copies became."""
    return Counter(document.uri.split("#copy-")[0] for document in documents)


def test_shares_and_caps(given, tmp_path):
    result, documents, ledger = run(tmp_path, replace(MIXED, augment={}), documents=given)
    found = amounts(documents)
    for source, quota in {"web": 6000, "wiki": 6000, "code": 3000}.items():
        assert abs(found[source] - quota) < LARGEST
    assert found["wiki"] > SIZES["wiki"] and found["code"] > SIZES["code"] and found["web"] < SIZES["web"]
    assert max(chosen(documents).values()) == 2
    assert Counter({row["uri"]: row["copies"] for row in ledger if row["copies"]}) == chosen(documents)
    assert result.metrics["repeats"] == len(documents) - len(chosen(documents))
    assert result.metrics["bytes"] == sum(found.values())
    assert json.loads(json.dumps(result.metrics)) == result.metrics


def test_copies_say_what_they_are_and_stand_behind_all_first_ones(given, tmp_path):
    result, documents, _ = run(tmp_path, MIXED, documents=given)
    first = {document.uri: document for document in DOCUMENTS}
    numbers = [int(document.metadata.get("copy", "1")) for document in documents]
    assert numbers == sorted(numbers) and numbers[-1] > 1
    augmented = Counter()
    for number, each in zip(numbers, documents, strict=True):
        if number == 1:
            assert each == first[each.uri]
            continue
        origin = first[each.uri.removesuffix(f"#copy-{number}")]
        assert each.metadata["origin"] == origin.hash
        assert ("augmented" in each.metadata) == (each.text != origin.text)
        augmented[each.metadata.get("augmented", "")] += 1
    assert len({document.uri for document in documents}) == len(documents)
    written = augmented.total() - augmented[""]
    assert written > 3 and augmented[""] > 3 and result.metrics["augmented"] == written


def test_order_and_shards_change_nothing_of_what_is_chosen(given, tmp_path):
    _, expected, _ = run(tmp_path / "1", MIXED, documents=given)
    shuffled = list(DOCUMENTS)
    random.Random(1).shuffle(shuffled)
    other = artefact(tmp_path / "shuffled", shuffled, shard_bytes=9000)
    _, found, _ = run(tmp_path / "2", MIXED, documents=other)
    by_uri = {document.uri: document for document in expected}
    assert {document.uri: document for document in found} == by_uri
    _, found, _ = run(tmp_path / "4", replace(MIXED, seed=1), documents=given)
    assert {document.uri for document in found} != by_uri.keys()


def test_a_run_that_was_killed_goes_on_to_the_same(given, tmp_path):
    first = tmp_path / "first"
    run_alone("corpus.balance", first, [given_artefact(tmp_path)], [], ["max_epochs=2", "augment={lowercase=0.5}"])
    again = tmp_path / "again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmworks.corpus.balance.stage.write_ledger", stop)
        with pytest.raises(KeyboardInterrupt):
            run_alone("corpus.balance", again, [tmp_path / "read"], [], ["max_epochs=2", "augment={lowercase=0.5}"])
    run_alone("corpus.balance", again, [tmp_path / "read"], [], ["max_epochs=2", "augment={lowercase=0.5}"])
    assert list(DocumentStore(first)) == list(DocumentStore(again))
    hashes = [json.loads((folder / "manifest.json").read_text())["content_hash"] for folder in (first, again)]
    assert hashes[0] == hashes[1]


def stop(*_):
    raise KeyboardInterrupt


def given_artefact(folder):
    (folder / "notes").mkdir()
    for number in range(6):
        (folder / "notes" / f"{number}.txt").write_text(f"Note {number}. " * 9)
    return run_alone("corpus.read", folder / "read", [], [], [f'sources=["{folder / "notes"}"]']).folder


def test_factors_by_what_a_document_is(given, tmp_path):
    factors = (
        UpsamplingFactor(3, sources=("wi*",)),
        UpsamplingFactor(2, kinds=("code",)),
        UpsamplingFactor(0.5, languages=("de", "unknown"), kinds=("text",)),
    )
    result, documents, ledger = run(tmp_path, BalanceConfig(factors=factors, unit="documents"), documents=given)
    times = {row["uri"]: row["times"] for row in ledger}
    assert times["wiki/0"] == 3 and times["code/0.py"] == 2 and times["web/0"] == 1 and times["web/1"] == 0.5
    found = chosen(documents)
    assert all(found[uri] in ((int(count),) if count >= 1 else (0, 1)) for uri, count in times.items())
    assert sum(found[f"web/{n}"] for n in range(120)) == 40 + 40  # of the 80 that count half, half
    assert result.metrics["documents"] == 3 * 30 + 2 * 20 + 40 + 40


def test_factors_by_measures_and_labels(given, tmp_path):
    """Of files that know different measures."""
    quality = tagged(tmp_path / "quality", DOCUMENTS, {"quality": lambda place: place / 170 if place % 5 else None})
    licence = tagged(tmp_path / "licence", DOCUMENTS, {}, {"licence": lambda place: ("MIT", None)[place % 2]})
    factors = (
        UpsamplingFactor(4, limits={"quality": Limit(at_least=0.5)}),
        UpsamplingFactor(2, limits={"quality": Limit(at_least=0.5)}, labels={"licence": ("MIT", "CC0-1.0")}),
    )
    config = BalanceConfig(factors=factors, unit="documents")
    _, documents, ledger = run(tmp_path / "1", config, documents=given, quality=quality, licence=licence)
    wanted = {}
    for place, each in enumerate(DOCUMENTS):
        good = place % 5 and place / 170 >= 0.5
        wanted[each.uri] = (8 if place % 2 == 0 else 4) if good else 1
    assert {row["uri"]: row["times"] for row in ledger} == wanted
    assert chosen(documents) == wanted


def test_evaluation_documents_never_go_in(given, tmp_path):
    tests = [document(DOCUMENTS[3].text.replace(" ", "\n"), "suite/1"), document("Not elsewhere.", "suite/2")]
    config = BalanceConfig(evaluation=("tests",), max_epochs=2)
    result, documents, ledger = run(tmp_path, config, documents=given, tests=artefact(tmp_path / "tests", tests))
    gone = {DOCUMENTS[3].uri, "suite/1", "suite/2"}
    assert chosen(documents) == {each.uri: 2 for each in DOCUMENTS if each.uri not in gone}
    assert {row["uri"] for row in ledger if row["rejected"] == "there to evaluate by"} == gone
    assert result.metrics["rejected"] == 3
    told = {(item.uri, item.reason): item.count for item in read_rows(RejectedRecord, tmp_path / "output" / REJECTED)}
    assert told == {("suite", "there to evaluate by"): 2, ("web", "there to evaluate by"): 1}
