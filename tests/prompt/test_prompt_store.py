"""Versions of prompts: kept for a reason, labels moved after a test, by whom it takes, and the way back."""

import pytest

from lmworks.evaluate.release.promotion import Gate, GateError
from lmworks.prompt.prompt_file import parse_prompt, prompt_hash
from lmworks.prompt.prompt_store import PromptStore

PASSED, FAILED = Gate(True, "not worse", {}), Gate(False, "exact-match WORSE", {})


@pytest.fixture
def store(tmp_path):
    return PromptStore(tmp_path / "prompts")


def prompt(instruction):
    text = f'name = "p"\ninput = "{{q}}"\ninstruction = "{instruction}"\n[slots.q]\n'
    return parse_prompt(text, "p.toml")


def test_a_version_is_kept_once_for_a_reason_and_never_changes(store):
    with pytest.raises(ValueError, match="reason"):
        store.add(prompt("one"), " ")
    assert store.names() == []
    first = store.add(prompt("one"), "the first", who="ann")
    assert store.add(prompt("one"), "again") == first and first.parent == ""
    second = store.add(prompt("two"), "shorter", who="bob")
    assert second.parent == first.hash and store.versions("p") == [first, second]
    assert store.read("p") == prompt("two") and store.read("p", first.hash[:6]) == prompt("one")
    path = store.folder / "p" / f"{first.hash}.toml"
    path.write_text(path.read_text().replace("one", "three"))
    with pytest.raises(ValueError, match="changed"):
        store.read("p", first.hash)
    for name, version in (("q", ""), ("p", "production"), ("p", "zz")):
        with pytest.raises(LookupError):
            store.read(name, version)


def test_production_moves_after_a_passed_test_and_goes_back(store):
    hashes = [store.add(prompt(text), "new").hash for text in ("one", "two", "three")]
    store.move("p", "production", hashes[0], "the first one")  # there is nothing to be worse than
    for gate, reason, lacks in ((None, "better", "test"), (FAILED, "better", "WORSE"), (PASSED, "", "reason")):
        with pytest.raises(GateError, match=lacks):
            store.move("p", "production", hashes[1], reason, gate=gate)
    assert store.live("p") == prompt("one")
    store.move("p", "candidate", hashes[2], "to be tried")  # needs no test
    store.move("p", "production", hashes[1], "better", gate=PASSED, who="ann")
    store.move("p", "production", "candidate", "better still", gate=PASSED)
    assert store.live("p") == prompt("three") and store.labels("p") == {"production": hashes[2], "candidate": hashes[2]}
    assert [store.rollback("p", reason="complaints").version for _ in range(2)] == [hashes[1], hashes[0]]
    with pytest.raises(GateError, match="no earlier"):
        store.rollback("p", reason="more complaints")
    assert [one.kind for one in store.history("p")] == ["promoted"] * 3 + ["rolled back"] * 2
    with pytest.raises(LookupError, match="staging"):
        store.move("p", "staging", hashes[0], "why not")


def test_a_label_may_need_a_second_person_or_be_nobodys(store):
    identifier = store.add(prompt("one"), "new").hash
    (store.folder / "labels.toml").write_text("[labels.production]\nsecond = true\n[labels.frozen]\nwho = []\n")
    assert store.move("p", "production", identifier, "good", who="ann").kind == "proposed"
    assert "production" not in store.labels("p")
    with pytest.raises(GateError, match="second person"):
        store.move("p", "production", identifier, "good", who="ann")
    moved = store.move("p", "production", identifier, "I agree", who="bob")
    assert (moved.kind, moved.who, moved.proposer) == ("promoted", "bob", "ann") and store.live("p") == prompt("one")
    with pytest.raises(GateError, match="nobody may"):
        store.move("p", "frozen", identifier, "good")


def test_a_prompt_of_lmworks_is_replaced_by_one_with_its_slots(store):
    text = 'name = "grounded-answer"\ninput = "{question}"\n[slots.question]\n'
    with pytest.raises(ValueError, match="no slot"):
        store.add(parse_prompt(text, "x"), "shorter")
    assert prompt_hash(store.live("grounded-answer"))
