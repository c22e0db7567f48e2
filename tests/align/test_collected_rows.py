"""Thumbs, votes and rankings as rows: what was said is what is written, and the rest is counted."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import pytest

from command_line import lmworks
from kit.tables import for_each
from lmworks.align.collected_rows import preference_rows, thumbed_rows
from lmworks.artefact import append_row
from lmworks.data.training_rows import parse_preference_row, read_preference_rows, row_columns
from lmworks.evaluate.release.votes import RANKINGS, VOTES, Vote, order_shown, read_candidates, read_votes
from lmworks.monitor.log import Log
from lmworks.records import (
    Feedback,
    Interaction,
    LabelledCompletion,
    Message,
    Preference,
    Provenance,
    Retrieved,
    Span,
    Verdict,
)  # fmt: skip

NUMBERS = itertools.count()


def answered(question: str, response: str, *thumbs: str | None, **fields) -> Interaction:
    name = f"{next(NUMBERS):016x}"
    given = tuple(Feedback(name, float(n), "thumbs", value, "too long") for n, value in enumerate(thumbs))  # type: ignore[arg-type]
    return Interaction(name, 1.7e9, (Message("user", question),), response, feedback=given, **fields)


def ranking(ranks: tuple[int, ...] | None, shown: tuple[int, ...] = (2, 0, 1), by: str = "ann") -> Vote:
    return Vote("Why?", ("a", "b", "c"), (), ranks, shown, reason="kind", provenance=Provenance("s", by))


def test_each_thumb_becomes_a_label_and_what_cannot_be_used_is_counted():
    interactions = [
        answered("Why?", "Because.", "down", "up"),  # the newest counts
        answered("Why?", "No idea.", "up", "down"),
        answered("Why?", "Taken back.", "up", None),
        answered("Why?", "And so", "up", finish_reason="length"),
        answered("Why?", "[EMAIL]", "up", redacted=("email",)),
        answered("Why?", "", "down", error="Failed", finish_reason="error"),
        answered("Once upon", " a time", "up", operation="text_completion"),
    ]
    left_out = Counter[str]()
    rows = thumbed_rows(interactions, left_out)
    assert [(row.completion, row.label) for row in rows] == [("Because.", True), ("No idea.", False)]
    assert rows[0].provenance == Provenance(f"interaction {interactions[0].id}", rubric="too long")
    assert sum(left_out.values()) == 5 and len(left_out) == 5
    assert [parse_preference_row(json.loads(json.dumps(row_columns(row))), "") for row in rows] == rows
    (pair,) = preference_rows(rows, [], left_out)
    assert (pair.chosen, pair.rejected, pair.prompt) == ("Because.", "No idea.", interactions[0].messages)


def test_an_answer_from_documents_has_the_passages_that_it_cites_in_its_prompt():
    texts = {"d": "Laptops are lost.", "e": "Hotels cost 90.", "f": "Report it by noon."}
    found = tuple(Retrieved(name, Span(name, 0, len(text)), name, text, {}) for name, text in texts.items())
    cited = tuple(Verdict(texts[d], "quoted", Span(d, 2, 9), d, 0.9, None, "cited") for d in ("f", "d"))
    said = answered("By when?", "By noon. [1]\nLost. [2]", "up", confidence=0.9, retrieved=found, verdicts=cited)
    unsure = answered("Who?", "I don't know.", "down", confidence=0.1, abstained=True, retrieved=found, verdicts=cited)
    rows = thumbed_rows([said, unsure, replace(said, retrieved=())], left_out := Counter())
    first, second = (row.prompt[0].content for row in rows)  # type: ignore[union-attr]
    assert first.index("[1] Report it by noon.") < first.index("[2] Laptops") < first.index("By when?")
    assert "Hotels" not in first and "Hotels" in second and left_out["thumbs on answers from documents that found none"]


@for_each("ranks", [(1, 2, 3), (3, 1, 2), (1, 1, 2), (2, 1, 2), (1, 1, 1)])
def test_a_ranking_gives_every_pair_that_it_orders_and_no_other(ranks):
    rows = ranking(ranks).preferences
    of = dict(zip("abc", ranks, strict=True))
    ordered = {(a, b) for a, b in itertools.permutations("abc", 2) if of[a] < of[b]}
    assert {(row.chosen, row.rejected) for row in rows} == ordered and len(rows) == len(ordered)
    places = dict(zip("abc", (2, 0, 1), strict=True))
    assert all(row.provenance.order == int(places[row.chosen] > places[row.rejected]) for row in rows)  # type: ignore[index]
    left_out = Counter[str]()
    preference_rows([], [ranking(ranks), ranking(())], left_out)
    assert left_out["pairs that tie"] == 3 - len(ordered) and left_out["prompts that were skipped"] == 1


def test_the_newest_ranking_of_each_annotator_stands(tmp_path):
    path = tmp_path / RANKINGS
    for one in (ranking((1, 2, 3)), ranking((3, 2, 1), by="ben"), ranking((2, 1, 3)), ranking(None, by="ben")):
        append_row(path, one)
    with path.open("a") as stream:
        stream.write('{"item": \n')
    assert read_votes(path) == ([ranking((2, 1, 3))], 1)


def test_the_order_shown_is_chance_between_items_and_stays_for_one():
    rows = [Vote(str(n), ("a", "b", "c")) for n in range(600)]
    orders = [order_shown(one, "ann") for one in rows]
    assert orders == [order_shown(one, "ann") for one in rows]
    counts = Counter(map(tuple, orders))
    assert len(counts) == 6 and all(70 <= count <= 130 for count in counts.values())


def test_rows_of_candidates_are_read_or_refused_with_the_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Why?", "completions": ["a", "b", "a"], "systems": ["x", "y", "z"]},
            {"prompt": "Why?", "chosen": "a", "rejected": "b", "provenance": {"source": "s"}}]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_candidates(path)
    assert found[0] == Vote("Why?", ("a", "b"), ("x", "y"), provenance=Provenance(f"{path}, line 1"))
    assert found[1].completions == ("a", "b") and found[1].provenance.source == "s"
    for wrong in ({"prompt": "Why?", "completions": ["a", "a"]}, {"text": "x"}, {"prompt": 1, "completions": ["a"]}):
        path.write_text(json.dumps(rows[0]) + "\n" + json.dumps(wrong))
        with pytest.raises(ValueError, match="line 2"):
            read_candidates(path)


def test_the_verb_writes_rows_that_training_reads(tmp_path):
    log = Log(tmp_path / "log.sqlite")
    for one in (answered("Why?", "Because."), answered("Why?", "No idea.", "down")):
        log.record(one).result()
        if one.response == "Because.":
            log.attach(Feedback(one.id, 1.0, "thumbs", "up")).result()
    log.close()
    append_row(tmp_path / VOTES, Vote("Who?", ("I", "you"), ("x", "y"), (2, 1)))
    append_row(tmp_path / VOTES, Vote("Which?", ("I", "you"), ("x", "y"), (1, 1)))
    append_row(tmp_path / RANKINGS, ranking((1, 2, 2)))
    out = tmp_path / "pairs.jsonl"
    done = lmworks("log", "rows", str(out), "--kind", "preference", "--workspace", str(tmp_path))
    rows = [row for row in read_preference_rows([out], [Preference]) if isinstance(row, Preference)]
    pairs = [("Because.", "No idea."), ("you", "I"), ("a", "b"), ("a", "c")]
    assert done.returncode == 0 and [(row.chosen, row.rejected) for row in rows] == pairs
    assert "2 pairs that tie" in done.stderr
    single = tmp_path / "thumbs.jsonl"
    assert lmworks("log", "rows", str(single), "--kind", "kto", "--workspace", str(tmp_path)).returncode == 0
    labels = {
        row.completion: row.label for row in read_preference_rows([single]) if isinstance(row, LabelledCompletion)
    }
    assert labels == {"Because.": True, "No idea.": False}
    arguments = ("--kind", "kto", "--filter", "since:1h", "--workspace", str(tmp_path))
    empty = lmworks("log", "rows", str(tmp_path / "x"), *arguments)
    assert empty.returncode == 2 and "thumbs on the pages" in empty.stderr
