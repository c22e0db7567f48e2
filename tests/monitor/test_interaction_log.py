"""The log as its users see it, the same in SQLite and in PostgreSQL."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from events import event, full_event, interactions, random_events
from hypothesis import given

from lmworks.monitor import Log, LogConfig, Reader
from lmworks.monitor import log as log_module
from lmworks.monitor.filter import in_quotes
from lmworks.monitor.rows import decode, encode
from lmworks.records import Feedback, Message

_WAIT = 20.0


@given(interactions)
def test_a_row_holds_the_whole_interaction(interaction) -> None:
    row = encode(interaction)
    assert decode(row.value("query_embedding"), row.value("payload"), ()) == interaction


def test_what_is_recorded_is_read_back_and_shown_as_a_row(location) -> None:
    with Log(location) as log:
        log.record(full_event(7)).result(_WAIT)
        (row,) = log.reader.find()
        log.record(event(8)).result(_WAIT)
        assert log.reader.get(f"{7:016x}") == full_event(7)
        assert log.reader.get(f"{8:016x}") == event(8)
        assert log.pending == 0
        with pytest.raises(Exception, match=r"readonly|read-only|read only"):
            log.reader._rows.read("DELETE FROM interactions")
    with Reader.open(location) as reader:  # a later process
        assert reader.get(f"{7:016x}") == full_event(7)
        with pytest.raises(KeyError):
            reader.get("0" * 16)
    assert (row.id, row.time, row.operation, row.route) == (f"{7:016x}", 1_700_000_000.123456, "chat", "assistant")
    assert row.question == "What does `with` do? ? \N{REPLACEMENT CHARACTER} ü"  # no database can store the others
    assert (row.confidence, row.abstained, row.seconds) == (0.625, True, 0.3)
    assert (row.finish_reason, row.error, row.input_tokens, row.output_tokens) == ("length", "DeadlineError", 3, 2)
    assert (row.conversation, row.thumbs, row.notes) == ("c" * 16, "down", 1)


def test_recording_again_changes_nothing(location) -> None:
    with Log(location) as log:
        log.record(full_event(1)).result(_WAIT)
        log.record(replace(full_event(1), response="another")).result(_WAIT)
        futures = [log.record(event(2)) for _ in range(50)]  # also within one batch
        for future in futures:
            future.result(_WAIT)
        assert log.reader.count() == 2
        assert log.reader.get(f"{1:016x}") == full_event(1)


def test_what_cannot_be_stored_is_refused_at_once(tmp_path) -> None:
    with Log(tmp_path / "log.sqlite") as log:
        for error, changes in [
            *((ValueError, {"id": identifier}) for identifier in ("", "a b", "x" * 65, "ü")),
            (TypeError, {"parameters": {"temperature": object()}}),
            (ValueError, {"feedback": (Feedback("other", 1.0, "note"),)}),
        ]:
            with pytest.raises(error):
                log.record(event(1, **changes))
        assert log.reader.count() == 0


def test_feedback(location) -> None:
    key = f"{1:016x}"
    with Log(location) as log:
        log.record(event(1)).result(_WAIT)
        given = [
            Feedback(key, 1.0, "thumbs", "down", "no"),
            Feedback(key, 3.0, "thumbs", "up", "yes", "ann"),
            Feedback(key, 2.0, "note", None, "hm"),
        ]
        for one in given:
            log.attach(one).result(_WAIT)
        log.attach(given[0]).result(_WAIT)  # told again by a client that got no answer
        late = Feedback(key, 0.5, "thumbs", "down")  # an older one that comes later changes nothing
        log.attach(late).result(_WAIT)
        row = log.reader.find()[0]
        assert (row.thumbs, row.notes) == ("up", 1)
        assert log.reader.get(key).feedback == (late, given[0], given[2], given[1])
        log.attach(Feedback(key, 4.0, "thumbs", None)).result(_WAIT)
        assert log.reader.find()[0].thumbs is None
        unknown = log.attach(Feedback("f" * 16, 1.0, "note", None, "to whom?"))
        with pytest.raises(KeyError, match="f" * 16):
            unknown.result(_WAIT)
        assert log.reader.get(key).feedback[-1].value is None


def test_pages_go_on_where_they_ended(module_log) -> None:
    log, events = module_log
    newest_first = sorted(events, key=lambda e: (e.time, e.id), reverse=True)
    found, before = [], None
    while page := log.reader.find(limit=7, before=before):
        found += page
        before = (page[-1].time, page[-1].id)
    assert [row.id for row in found] == [e.id for e in newest_first]
    assert [i.id for i in log.reader.interactions()] == [e.id for e in newest_first]


def _assert_pages(reader: Reader, name: str, ids: list[str]) -> None:
    """The pages of a conversation, the newest first, put together are all of it."""
    found, before = [], None
    while page := reader.conversation(name, limit=3, before=before):
        found = [*(one.id for one in page), *found]
        before = (page[0].time, page[0].id)
    assert found == ids


def test_a_long_conversation_is_not_read_whole(location) -> None:
    with Log(location) as log:
        futures = [log.record(event(number, conversation="c", operation="chat")) for number in range(60)]
        futures += [log.record(event(number, conversation="c", operation="embeddings")) for number in range(60, 130)]
        for future in futures:
            future.result(_WAIT)
        alone = log.record(event(200))
        alone.result(_WAIT)
        assert [one.time for one in log.reader.conversation("c")] == [1000.0 + n for n in range(80, 130)]
        chats = log.reader.conversation("c", operation="chat")
        assert [one.time for one in chats] == [1000.0 + n for n in range(10, 60)]
        assert log.reader.neighbours(event(200)) == (None, None)


def test_conversations(module_log, monkeypatch) -> None:
    log, events = module_log
    monkeypatch.setattr(log_module, "_PAGE", 4)  # the newest conversations are found over many pages
    expected = {}
    for name in ("c1", "c2"):
        turns = sorted((e for e in events if e.conversation == name), key=lambda e: (e.time, e.id))
        ids = [e.id for e in turns]
        assert len(ids) > 8
        assert [i.id for i in log.reader.conversation(name, limit=1000)] == ids
        _assert_pages(log.reader, name, ids)
        for place, turn in enumerate(turns):
            around = (ids[place - 1] if place else None, ids[place + 1] if place + 1 < len(ids) else None)
            assert log.reader.neighbours(turn) == around
        question = next(m.content for m in turns[0].messages if m.role == "user")
        expected[name] = (turns[-1].time, turns[-1].id, question, len(turns))
    rows = log.reader.conversations()
    newest_first = sorted(expected, key=lambda name: expected[name][:2], reverse=True)
    assert [row.id for row in rows] == newest_first
    assert all((row.time, row.question, row.turns) == (*expected[row.id][:1], *expected[row.id][2:]) for row in rows)
    assert log.reader.conversations(limit=1) == rows[:1]
    assert log.reader.conversation("nobody") == log.reader.conversation("") == []


def test_a_sample_has_the_size_that_was_asked_for_whatever_else_is_logged(location) -> None:
    with Log(location) as log:
        for number in range(600):
            log.record(event(number, time=1.0, operation="embeddings" if number % 12 else "chat"))
        log.prune(0.0)  # returns when all is written
        sizes = {size: len(log.reader.sample("id", 0.0, 2.0, size)) for size in (30, 50, 400)}
    assert sizes[50] == sizes[400] == 50
    assert abs(sizes[30] - 30) < 4 * (50 * 0.6 * 0.4) ** 0.5


def test_many_threads_read_while_one_writes(location) -> None:
    def read() -> None:
        for _ in range(10):
            count = log.reader.count()
            assert len(log.reader.find(limit=1000)) >= count

    with Log(location) as log, ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(6)]
        for future in [*[log.record(event(number)) for number in range(200)], *readers]:
            future.result(_WAIT)
        assert log.reader.count() == 200


def test_closing_writes_what_is_pending(tmp_path) -> None:
    log = Log(tmp_path / "log.sqlite")
    futures = [log.record(event(number)) for number in range(200)]
    log.close()
    log.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with Reader.open(tmp_path / "log.sqlite") as reader:
        assert reader.count() == 200
    for act in (lambda: log.record(event(1)), log.reader.count):
        with pytest.raises(RuntimeError):
            act()


def test_pruning(location) -> None:
    with Log(location) as log:
        for number in range(250):  # more than one transaction deletes
            log.record(full_event(number) if number == 3 else event(number))
        log.record(event(251)).result(_WAIT)
        assert log.prune(1000.0 + 225) == 224  # `full_event` is of 2023
        assert log.prune(1000.0 + 225) == 0
        assert log.reader.count() == 27
        assert log.reader.get(f"{3:016x}") == full_event(3)
        assert log.prune(2e9) == 27
        assert log.reader.find() == []


def test_retention_deletes_what_is_old(tmp_path) -> None:
    now = time.time()
    with Log(tmp_path / "log.sqlite") as log:
        for number, days in enumerate((0.5, 1.5, 30)):
            log.record(event(number, time=now - days * 86400)).result(_WAIT)
        assert log.reader.count() == 3
    with Log(tmp_path / "log.sqlite", LogConfig(retention_days=1)) as log:
        for _ in range(2):  # the second waits for what retention began
            log.prune(0.0)
        assert [row.id for row in log.reader.find()] == [f"{0:016x}"]


def test_text_of_the_users_is_never_sql_and_any_name_of_a_conversation_finds_its_turns(location) -> None:
    hostile = "'; DROP TABLE interactions; -- %s ? % _ \" *"
    names = ["plain", '"quoted" name', "half \ud800 a character", "nul \0", "ü"]
    with Log(location) as log:
        log.record(event(1, messages=(Message("user", hostile),), route=hostile, conversation=hostile)).result(_WAIT)
        assert log.reader.conversation(hostile)[0].route == hostile
        assert log.reader.count("drop table -nothing") == 1
        assert log.reader.count('route:"\'; DROP TABLE interactions; -- %s ? % _ "') == 0
        assert log.reader.count() == 1
        for place, name in enumerate(names, 1):
            turns = [event(10 * place + number, conversation=name) for number in range(3)]
            for turn in turns:
                log.record(turn).result(_WAIT)
            assert [turn.id for turn in log.reader.conversation(name)] == [turn.id for turn in turns], name
            assert log.reader.neighbours(turns[1]) == (turns[0].id, turns[2].id), name
            assert log.reader.count(f"conversation:{in_quotes(name)}") == 3, name


@pytest.fixture(scope="module")
def module_log(module_location):
    events = random_events(60, seed=0)
    with Log(module_location) as log:
        for one in events:
            log.record(one).result(_WAIT)
        yield log, events
