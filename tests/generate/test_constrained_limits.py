"""What constrained decoding must withstand: schemas and expressions that explode, and wrong vocabularies."""

import contextlib
import gc
import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from constrained_cases import allowed, cut
from engine_cases import assert_same, finish, make_engine, prompt, tiny_llama

from kit.tables import for_each
from lmworks.generate import constrained_decoding
from lmworks.generate.constrained_decoding import MOST_TRIALS, ConstraintCompiler
from lmworks.generate.constraint import CompilerBusyError, ConstraintError, Grammar, JsonSchema, Regex
from lmworks.generate.constraint_grammar import to_grammar
from lmworks.generate.protocol import BeamParameters, Request, SamplingParameters
from slow_cases import slow

ROWS = 400
HOSTILE = {"allOf": [{"type": "string", "pattern": f"(.*a.{{{n}}}){{3}}"} for n in range(40)]}


def test_a_hostile_schema_costs_its_time_limit_and_nobody_elses(tiny_tokenizer, monkeypatch):
    """The library has not compiled this schema after 45 seconds, and no thread of ours can stop it."""
    compiler = ConstraintCompiler(tiny_tokenizer, ROWS, tiny_tokenizer.eos_ids, time_limit_seconds=1.0)
    compiler.compile(Regex("a"))  # the process is up
    with ThreadPoolExecutor(2) as pool:
        hostile = pool.submit(compiler.compile, JsonSchema(json.dumps(HOSTILE)))
        assert allowed(pool.submit(compiler.compile, Regex("b")).result().start())
        with pytest.raises(ConstraintError, match="could not be compiled in 1 s"):
            hostile.result()
    compiler.compile(Regex("c"))  # the next one works
    monkeypatch.setattr(compiler, "_compile", None)  # it is remembered, and not compiled again
    with pytest.raises(ConstraintError, match="could not be compiled"):
        compiler.compile(JsonSchema(json.dumps(HOSTILE)))
    compiler.close()


def test_who_finds_no_room_may_come_again(tiny_tokenizer):
    compiler = ConstraintCompiler(tiny_tokenizer, ROWS, tiny_tokenizer.eos_ids, time_limit_seconds=0.1)
    trials = [compiler._idle.get(block=False) for _ in range(MOST_TRIALS)]
    with pytest.raises(CompilerBusyError):
        compiler.compile(Regex("a"))
    for trial in trials:
        compiler._idle.put(trial)
    compiler.time_limit_seconds = 5.0
    assert allowed(compiler.compile(Regex("a")).start())
    compiler.close()


def test_a_compiler_that_is_dropped_leaves_no_process(tiny_tokenizer):
    compiler = ConstraintCompiler(tiny_tokenizer, ROWS, tiny_tokenizer.eos_ids)
    compiler.compile(Regex("a"))
    (process,) = (trial.sandbox._process for trial in compiler._trials if trial.sandbox.alive)
    del compiler
    gc.collect()
    assert process.exitcode is not None  # it has ended and was waited for


def test_a_grammar_that_takes_long_to_be_read_costs_its_time_limit(tiny_tokenizer):
    """GBNF is converted before it is compiled; half of this text took more than 20 seconds."""
    compiler = ConstraintCompiler(tiny_tokenizer, ROWS, tiny_tokenizer.eos_ids, time_limit_seconds=1.0)
    compiler.compile(Regex("a"))  # the process is up
    with pytest.raises(ConstraintError, match="could not be compiled in 1 s"):
        compiler.compile(Grammar("root ::= " + '"a" | ' * 40_000 + '"a"'))
    compiler.close()


@for_each("piece", ["<", '\\"', "/\\", '"', "/a"])
def test_a_grammar_is_looked_through_once(piece):
    """Where the end of a text or of a name is missing, to look for it from each of its signs takes minutes."""
    with contextlib.suppress(ConstraintError):
        to_grammar(Grammar('start: "b"\n' + piece * 200_000))  # some hundredths of a second


def test_an_expression_that_explodes_later_is_an_error_and_harms_no_other(tiny_tokenizer):
    """Its states multiply with the text, not while it is compiled."""
    compiler = ConstraintCompiler(tiny_tokenizer, ROWS, tiny_tokenizer.eos_ids)
    compiled = compiler.compile(Regex("((a{1,1000}){1,1000}){1,1000}"))
    matcher, (a,) = compiled.start(), cut("a", tiny_tokenizer, 0)
    early = compiled.start()
    with pytest.raises(ConstraintError, match="any further"):
        for _ in range(5000):
            matcher.mask()
            matcher.advance(a)
    assert a in allowed(early) and a in allowed(compiled.start())
    early.advance(a)
    assert a in allowed(early)
    compiler.close()


@pytest.mark.parametrize("how", ["a search", *slow("requests")])
def test_who_can_be_read_in_many_ways_keeps_nobody_waiting(monkeypatch, how):
    """A mask of this grammar takes most of a second, thirty letters on. On the way neither text changes."""
    monkeypatch.setattr(constrained_decoding, "MASK_SECONDS", 0.4)
    names = [f"x{n}" for n in range(3)]
    rules = [f"{a}: /[a-p]/ | " + " | ".join(f"{a} {b} {c}" for b in names for c in names) for a in names]
    engine = make_engine("fused", tiny_llama(), slots=6)
    ambiguous, digits = Grammar("\n".join(["start: x0 x0 x0 x0", *rules])), Regex("[0-9]+")
    endless = SamplingParameters(banned_tokens=tuple(engine.checkpoint.tokenizer.eos_ids))
    plain, constrained, *hostile = (
        Request(prompt(20, n), sampling=replace(endless, constraint=constraint, max_tokens=60 + 60 * (n > 1)))
        for n, constraint in enumerate([None, digits, *[ambiguous] * 3])
    )
    alone = engine.generate([plain, constrained])
    search = engine.enqueue_search(engine.prepare(hostile[0]), BeamParameters(2)) if how == "a search" else None
    neighbours = [engine.submit(request) for request in (plain, constrained)]
    lives = [engine.submit(request) for request in hostile] if how == "requests" else []
    while not all(live.done for live in neighbours):
        engine.step()
    assert not any(live.done for live in lives)
    for live, completion in zip(neighbours, alone, strict=True):
        assert_same(live.completion(0), completion, "fused")
    finish(engine)
    assert all(isinstance(live.error, ConstraintError) for live in lives)
    with pytest.raises(ConstraintError, match="took more than"):
        if search is not None:
            search.future.result(0)
        raise (lives[0].error or AssertionError) if lives else AssertionError
    engine.constraints.close()


@for_each("slow_masks", [False, True])
def test_who_waits_for_a_mask_pays_for_each_token_once(slow_masks, monkeypatch):
    engine = make_engine("fused", tiny_llama(), speculation=None)
    sampling = SamplingParameters(max_tokens=6, constraint=Regex("[0-9]{9}"))
    live = engine.submit(Request(prompt(20, 1), sampling=sampling, client="waits"))
    engine.submit(Request(prompt(20, 2), sampling=SamplingParameters(max_tokens=90, ignore_eos=True)))
    monkeypatch.setattr(type(live.constraint), "slow", slow_masks)
    monkeypatch.setattr(type(live.constraint), "ready", False)
    look, late = engine.batcher.look, []

    def look_late(request, guesses):
        late.append((Future(), look(request, guesses)))
        return late[-1][0]

    monkeypatch.setattr(engine.batcher, "look", look_late)
    while not live.done:
        for _ in range(3):
            engine.step()
        for mask, found in late:
            mask.set_result(found.result())
        late.clear()
    assert len(live.ids) == 6
    assert engine.batcher.scheduler._served["waits"] == 20 + 2 * 5, "a generated token counts double, the first is free"
    engine.constraints.close()


def test_a_compiler_needs_a_vocabulary_and_an_end(tiny_tokenizer):
    with pytest.raises(ValueError, match="vocabulary is 10"):
        ConstraintCompiler(tiny_tokenizer, 10, [0])
    with pytest.raises(ValueError, match="end a text"):
        ConstraintCompiler(tiny_tokenizer, ROWS, [])
    with pytest.raises(ValueError, match="end a text"):
        ConstraintCompiler(tiny_tokenizer, ROWS, [ROWS])
