"""What the log must not see: the rules one by one, then the bytes on the disk."""

import json
import re
import sqlite3
import zlib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from events import event, full_event, interactions
from hypothesis import given
from hypothesis import strategies as st

from lmworks.config import ConfigError, from_mapping, to_mapping
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.monitor import Log, LogConfig
from lmworks.monitor.config import RULES, ReviewConfig
from lmworks.monitor.event_tables import COLUMNS
from lmworks.monitor.experiment import assign, start
from lmworks.monitor.experiment_results import read_out
from lmworks.monitor.log import Reader
from lmworks.monitor.redaction import DETECTED, Redactor
from lmworks.monitor.review import take
from lmworks.monitor.review_sampling import enqueue
from lmworks.records import Edit, Experiment, Feedback, Interaction, Message, Outcome, Verdict

_WAIT = 20.0
_ALL = Redactor.of(LogConfig(redact=RULES))


FOUND = [
    ("email", "Write to ann.b+c@mail.example.org, please", "Write to [email], please"),
    ("email", "<a@b.co>;o'neil@example.com", "<[email]>;[email]"),
    ("email", "ünal@exämple.de", "[email]"),
    # The examples that the card networks and ISO 13616's registry publish.
    ("credit_card", "4111 1111 1111 1111 or 5500-0000-0000-0004", "[credit_card] or [credit_card]"),
    ("credit_card", "378282246310005.", "[credit_card]."),
    ("credit_card", "2 cards: 4111 1111 1111 1111 12/27", "2 cards: [credit_card] 12/27"),
    ("credit_card", "no. 2 4111-1111-1111-1111-5", "no. 2 [credit_card]-5"),
    ("iban", "AB12 DE89 3704 0044 0532 0130 00 42 EUR", "AB12 [iban] 42 EUR"),
    ("iban", "DE89 3704 0044 0532 0130 00 and then", "[iban] and then"),
    ("iban", "GB29NWBK60161331926819, FR1420041010050500013M02606", "[iban], [iban]"),
    ("iban", "my iban is no9386011117947 ok", "my iban is [iban] ok"),
    ("ip_address", "from 192.168.0.1:8080 and 10.0.0.255.", "from [ip_address]:8080 and [ip_address]."),
    ("ip_address", "2001:db8::ff00:42:8329 fe80::1", "[ip_address] [ip_address]"),
    ("ip_address", "2001:0db8:0000:0000:0000:ff00:0042:8329", "[ip_address]"),
    ("ip_address", "via ::ffff:1.2.3.4, ::ffff:10.0.0.1", "via [ip_address], [ip_address]"),
    ("phone", "+49 30 1234567 (030) 1234567", "[phone] [phone]"),
    ("phone", "+49 (0)30 12345678, +49(30)1234567", "[phone], [phone]"),
    ("phone", "call +49 30 1234567 or +1 (555) 010-9999", "call [phone] or [phone]"),
    ("phone", "(030) 123456, 0171-2345678, 555-123-4567", "[phone], [phone], [phone]"),
    ("secret", "key sk-proj-abcDEF0123456789xyz!", "key [secret]!"),
    ("secret", "Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: [secret]"),
    ("secret", "ghp_" + "a1B2" * 9, "[secret]"),
    ("secret", "the key lmw-" + "a_B-9" * 8 + "xyz.", "the key [secret]."),
    ("secret", "AIza" + "aB-_9" * 7 + " hf_" + "aB9" * 11 + " npm_" + "aB9" * 12, "[secret] [secret] [secret]"),
    ("secret", "session-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[secret]"),
    ("secret", "AKIAIOSFODNN7EXAMPLE", "[secret]"),
    ("secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[secret]"),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nx", "[secret]\nx"),
]
# Which a corpus keeps.
FOUND_IN_LOGS = [
    ("secret", "ghp_abcdefghijklmnopqrstuvwxyzABCDEF", "[secret]"),  # shorter than the provider's, and no digit
    ("secret", "AKIA1089IOSFODNN7EXA xoxb-1234567890 glpat-abcdefgh12345678", "[secret] [secret] [secret]"),
    ("secret", "hf_" + "abcde" * 7 + " AIza" + "aB-_9" * 8, "[secret] [secret]"),
    ("email", "_ann@mail.org_, ann@mail.Com, ann@mail.orgThanks", "[email], [email], [email]"),
    ("email", "ann@web.zip", "[email]"),
    ("credit_card", "41111111 11111111, 4111-1111 1111-1111", "[credit_card], [credit_card]"),
    ("credit_card", "3782 8224 6310 005 12/27", "[credit_card] 12/27"),
    ("iban", "AB12 DE89 370 400 440 532 013 000 EUR", "AB12 [iban] EUR"),
    ("phone", "600 123 456, (12) 3456 7890, +1234567, 123 456 7890", "[phone], [phone], [phone], [phone]"),
]
LEFT = [
    ("email", "a decorator: @property, x @ y, user@localhost"),
    ("credit_card", "4111 1111 1111 1112"),  # Luhn
    ("credit_card", "1234567890123456 94111111111111111 411111111111"),  # other beginning, longer, shorter
    ("iban", "DE89 3704 0044 0532 0130 01"),  # checksum
    ("iban", "AB12 is the name of a function that takes arguments"),
    ("ip_address", "256.1.1.1 1.2.3 1.2.3.4.5 std::vector a::b 12:30:45 x[1:2:3]"),
    ("phone", "2024-01-31 10:00, 3.14159, 1234, 192.168.0.1, chapter 7.3.1, 1,000,000, 65536"),
    ("secret", "sk-learn is a library; the task-0123456789abcdefgh; the bearer of news; eyJ"),
]


def test_what_a_rule_finds() -> None:
    check([(*case, {case[0]}) for case in FOUND + FOUND_IN_LOGS])


def check(cases: list[tuple[str, str, str, set[str]]]) -> None:
    """Each text loses, by a rule alone, what it should."""
    wrong = []
    for rule, text, expected, rules in cases:
        redacted = Redactor.of(LogConfig(redact=(rule,))).text(text)
        if redacted != (expected, rules):
            wrong.append((rule, text, redacted))
    assert wrong == []


def test_a_log_loses_what_is_marked_in_a_corpus() -> None:
    wrong = []
    for rule, text, _ in FOUND:
        marks = find_personal_data(text, 0.0)
        edits = [Edit(mark.start, mark.end, f"[{rule}]", rule) for mark in marks if mark.rule in DETECTED.get(rule, ())]
        redacted = Redactor.of(LogConfig(redact=(rule,))).text(text)[0]
        if rule != "secret" and redacted != apply_edits(text, edits).text:
            wrong.append((rule, text, redacted))
    assert wrong == []


def test_a_key_that_is_known_by_its_form_is_a_secret_in_both() -> None:
    text = "the key xoxb-9381740265-qWmRtZpLkV"
    assert [mark.rule for mark in find_personal_data(text)] == ["pii.key"]
    assert _ALL.text(text) == ("the key [secret]", {"secret"})


def test_what_a_rule_leaves_alone() -> None:
    check([(rule, text, text, set()) for rule, text in LEFT])


@given(st.integers(0, 10**15 - 1))
def test_every_number_with_luhns_digit_is_found(number) -> None:
    digits = f"4{number:015d}"[:15]
    odd = sum(int(digit) for digit in digits[1::2])
    even = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[0::2])
    card = digits + str(-(odd + even) % 10)
    assert Redactor.of(LogConfig(redact=("credit_card",))).text(f"pay {card} now")[0] == "pay [credit_card] now"
    wrong = digits + str((1 - odd - even) % 10)
    assert Redactor.of(LogConfig(redact=("credit_card",))).text(wrong)[0] == wrong


@given(st.text("ABCXYZ0123456789", min_size=30, max_size=30), st.sampled_from(["DE", "NO", "MT", "gb"]))
def test_every_number_with_the_length_and_the_checksum_of_an_iban_is_found(text, country) -> None:
    account = text[: {"DE": 22, "NO": 15, "MT": 31, "GB": 22}[country.upper()] - 4]
    remainder = int("".join(str(int(c, 36)) for c in f"{account}{country}00")) % 97
    iban = f"{country}{98 - remainder:02d}{account}"
    assert Redactor.of(LogConfig(redact=("iban",))).text(f"({iban})")[0] == "([iban])"
    groups = " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
    assert Redactor.of(LogConfig(redact=("iban",))).text(f"({groups})")[0] == "([iban])"


_findable = st.sampled_from(["a@b.org", "10.0.0.1", "+49 30 1234567", "4111111111111111", "sk-" + "x" * 20])


@given(
    st.lists(st.text(max_size=8) | _findable | st.sampled_from([" ", ".", ":", "[email]"]), max_size=10).map("".join)
)
def test_redacting_again_changes_nothing(text) -> None:
    once = _ALL.text(text)[0]
    assert _ALL.text(once) == (once, frozenset())


_STRAINING = {
    "secret": [
        "-eyJaaaaaaaa",
        "_eyJaaaaaaaa",
        "eyJaaaaaaaa.",
        "eyJaaaaaaaa.aaaaaaaa.-",
        "-sk-aaaaaaaa",
        "lmw-a",
        "-AIza",
        "bearer  \n",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "sk-aaaaaaaaaaaaaaaa ",
        "hf_a",
        "xoxa-aaaa",
        "eyJ.",
    ],
    "email": ["a@", "a.", "a@a.", "+a", "a'", "'", "a@a.a'"],
    "iban": ["AB12 C ", "AB12 ", "AB12", "A"],
    "credit_card": ["4 ", "4", "4-1 ", "4111 1111 1111 1112 "],
    "ip_address": [":", "0:", "1.", "::", "1.1.1.1", "::1.1.1.1 ", "1:2:3:4:5:6:7:8"],
    "phone": ["+1 ", "+1", "+1(", "+1 (", "+1 (22) 3", "(0", "(030) ", "030 1 ", "+123456789", "+1 (555) 010-9999"],
}


def test_the_work_of_a_rule_grows_with_the_text_and_not_faster() -> None:
    """With work that grows with the square of the length this would take minutes for each of the texts."""
    for rule, pieces in _STRAINING.items():
        redactor = Redactor.of(LogConfig(redact=(rule,)))
        for piece in pieces:
            redactor.text((piece * (20_000 // len(piece) + 1))[:20_000])


def test_findings_that_uncover_each_other_leave_nothing() -> None:
    for piece in ("+49301234567", "10.0.0.1+49301234567"):
        text, names = _ALL.text(piece * 5000)
        assert not re.search("[0-9]{4}", text)
        assert names
        assert _ALL.text(text) == (text, frozenset())


def test_own_patterns_come_first() -> None:
    redactor = Redactor.of(LogConfig(redact=("phone",), patterns={"employee": r"\bE-\d{6}\b"}))
    assert redactor.text("E-123456 at 0171-2345678") == ("[employee] at [phone]", {"employee", "phone"})


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    for values, word in [
        ({"redact": ["e-mail"]}, '"email"'),
        ({"patterns": {"x": "("}}, "pattern x"),
        ({"patterns": {"x": "a*"}}, "pattern x"),
        ({"patterns": {"email": "a"}}, "'email'"),
        ({"patterns": {"X Y": "a"}}, "'X Y'"),
        ({"retention_days": -1}, "retention_days"),
        ({"retention_days": float("nan")}, "retention_days"),
    ]:
        with pytest.raises(ConfigError, match=word):
            from_mapping(LogConfig, values)


# ---------------------------------------------------------------------------------------------------------------------
# Interactions

_SECRET = "mallory@example.org"
# Where people and models write. Everything else is made by us, or a quote from a document.
_WRITTEN = {
    *("messages", "response", "tools", "rendered_prompt", "parameters", "error", "verdicts"),
    *("conversation", "parent", "unit", "feedback"),
}
_DERIVED = {"prompt_ids", "token_ids", "token_log_probabilities", "query_embedding", "redacted"}


def _secret_everywhere() -> Interaction:
    plain = full_event(7)
    return replace(
        plain,
        messages=(
            Message("system", f"You help {_SECRET}."),
            Message("tool", "", ({"name": "send", "arguments": {"to": [_SECRET], _SECRET: 1}},), _SECRET, _SECRET),
            Message("user", f"What does {_SECRET} say?"),
        ),
        response=f"{_SECRET} says hello",
        tools=({"function": {"description": f"Writes to {_SECRET}"}},),
        rendered_prompt=f"<|im_start|>{_SECRET}",
        parameters={"temperature": 0.5, "stop": [_SECRET]},
        error=f"LookupError: {_SECRET}",
        verdicts=tuple(replace(verdict, text=f"Ask {_SECRET}.") for verdict in plain.verdicts),
        conversation=_SECRET,
        parent=f"after-{_SECRET}",
        unit=_SECRET,
        feedback=(Feedback(plain.id, 5.0, "note", None, f"tell {_SECRET}", _SECRET),),
    )


def test_every_text_is_redacted_and_nothing_else_changes() -> None:
    before = _secret_everywhere()
    after = Redactor.of(LogConfig(redact=("email", "phone"))).interaction(before)
    assert _SECRET not in json.dumps(to_mapping(after))
    assert after.redacted == ("email",)
    for field in fields(Interaction):
        if field.name not in _WRITTEN | _DERIVED:
            assert getattr(after, field.name) == getattr(before, field.name), field.name
    assert after.prompt_ids == after.token_ids == after.token_log_probabilities == after.query_embedding == ()
    assert after.messages[2].content == "What does [email] say?"
    assert after.messages[1].tool_calls == ({"name": "send", "arguments": {"to": ["[email]"], "[email]": 1}},)
    assert after.parameters == {"temperature": 0.5, "stop": ["[email]"]}
    assert after.feedback[0].author == "[email]"


def test_names_that_clients_chose_stay_distinct() -> None:
    redactor = Redactor.of(LogConfig(redact=("email", "phone")))
    one, again, other = (
        redactor.interaction(event(number, conversation=name))
        for number, name in enumerate(("a@example.org", "a@example.org", "b@example.org"))
    )
    assert one.conversation == again.conversation != other.conversation
    assert one.conversation.startswith("redacted-")
    elsewhere = Redactor.of(LogConfig(redact=("email",))).interaction(event(1, conversation="a@example.org"))
    assert elsewhere.conversation != one.conversation  # nobody can look the address up
    own = event(1, conversation="0301234567012345", parent="0301234567012345-2")  # random, but like a phone number
    assert redactor.interaction(own) == own


@given(interactions)
def test_what_no_rule_finds_stays_as_it_is(interaction) -> None:
    redactor = Redactor.of(LogConfig(patterns={"marker": "\N{SNOWMAN}\N{SNOWMAN}"}))
    assert redactor.interaction(interaction) == interaction


def test_without_content_no_text_is_left() -> None:
    before = replace(_secret_everywhere(), retrieved=full_event().retrieved)
    after = Redactor.of(LogConfig(content=False)).interaction(before)
    assert [(m.role, m.content, m.tool_calls, m.name) for m in after.messages] == [
        ("system", "", (), None),
        ("tool", "", (), None),
        ("user", "", (), None),
    ]
    assert (after.response, after.tools, after.rendered_prompt, after.error) == ("", (), "", "LookupError")
    assert after.parameters == {"temperature": 0.5}
    assert [r.text for r in after.retrieved] == [v.text for v in after.verdicts] == [""]
    assert after.retrieved[0].span == before.retrieved[0].span
    assert after.prompt_ids == after.token_ids == after.query_embedding == ()
    assert (after.feedback[0].text, after.feedback[0].author) == ("", "")
    assert after.redacted == ("email", "content")
    assert (after.timings, after.input_tokens, after.model) == (before.timings, before.input_tokens, before.model)


def _disk(folder: Path, path: Path) -> bytes:
    """All bytes of the log's files, and what its compressed payloads hold."""
    raw = b"".join(file.read_bytes() for file in folder.iterdir())
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    payloads = [zlib.decompress(row[0]) for row in connection.execute("SELECT payload FROM interactions")]
    connection.close()
    return b"".join([raw, *payloads]).lower()


def test_the_disk_never_sees_it(tmp_path) -> None:
    """With the rule, and without any text; a log that has another rule shows it."""
    for name, policy, seen in [
        ("email", LogConfig(redact=("email",)), False),
        ("no content", LogConfig(redact=("email",), content=False), False),
        ("phone", LogConfig(redact=("phone",)), True),
    ]:
        folder = tmp_path / name
        with Log(folder / "log.sqlite", policy) as log:
            log.record(_secret_everywhere()).result(_WAIT)
            log.attach(Feedback(f"{7:016x}", 9.0, "thumbs", "down", f"{_SECRET} knows", _SECRET)).result(_WAIT)
            disk = _disk(folder, folder / "log.sqlite")  # while the write-ahead log is there
            assert (folder / "log.sqlite-wal").stat().st_size > 0
            assert (b"mallory" in disk) == seen and b"assistant" in disk
        assert (b"mallory" in _disk(folder, folder / "log.sqlite")) == seen


@pytest.mark.parametrize("location", ["sqlite", "postgres"], indirect=True)
def test_a_unit_is_the_same_in_all_tables_and_after_a_restart_and_nowhere_by_its_name(location, tmp_path) -> None:
    """Users who are known by addresses: two sessions of the log, an experiment that counts them, a review by one."""
    spec = Experiment("tone", {"a": {"share": 0.5}, "b": {"share": 0.5}}, "click", unit="user", window_days=1.0)
    policy, users = LogConfig(redact=("email",)), [f"mallory{number}@example.org" for number in range(40)]
    for day in (0.0, 0.1):
        with Log(location, policy) as log:
            for number, user in enumerate(users):
                found = assign(spec, user, 1.0, 1000.0)
                assert found is not None
                about = {"experiment": spec.name, "unit": user, "arm": found.arm, "conversation": f"of {user}"}
                made = event(number + round(1000 * day), time=1000.0 + day * 86400, **about)
                log.record(made).result(_WAIT)
                assert log.append("assignments", [to_mapping(found)]).result(_WAIT) == (day == 0)
                log.append("outcomes", [to_mapping(Outcome(user, "click", 1001.0, 1.0))]).result(_WAIT)
            if not day:
                start(log, replace(spec, description=f"asked for by {_SECRET}"), 1.0, f"{_SECRET} said so", _SECRET)
                enqueue(log, [f"{3:016x}"], "person", 1.0)
            item = take(log, ReviewConfig(), _SECRET, 2.0 + day)
            assert item is not None  # the lock is still theirs
    with Reader.open(location, policy) as reader:
        found = read_out(reader, spec, 5 * 86400)
        assert sum(found.assigned.values()) == len(users)
        assert sum(v * n for v, n in zip(found.primary[0].values, found.primary[0].units, strict=True)) == len(users)
        assert reader.count(f"unit:{users[5]}") == 2 == len(reader.conversation(f"of {users[5]}"))
        tables = ["interactions", *COLUMNS]
        assert "mallory" not in json.dumps([reader.rows(table) for table in tables], default=repr)
    if isinstance(location, Path):
        assert b"mallory" not in _disk(tmp_path, location)
        assert (tmp_path / "log.sqlite.key").stat().st_mode & 0o777 == 0o600


def test_sentences_of_an_answer_are_redacted_and_passages_of_documents_are_not() -> None:
    passage = replace(full_event().retrieved[0], text=f"written by {_SECRET}")
    verdict: Verdict = replace(full_event().verdicts[0], text=f"written by {_SECRET}")
    before = event(1, retrieved=(passage,), verdicts=(verdict,))
    after = Redactor.of(LogConfig(redact=("email",))).interaction(before)
    assert after.verdicts[0].text == "written by [email]"
    assert after == replace(before, verdicts=(replace(verdict, text="written by [email]"),), redacted=("email",))
    kept = Redactor.of(LogConfig(redact=("email",))).interaction(event(1, retrieved=(passage,)))
    assert kept.retrieved == (passage,) and kept.redacted == ()
