"""What lm-evaluation-harness (0.4.13, `local-completions`) sends, as it was recorded, and what it reads in the answers.

`benchmarks/lm_eval_harness/` runs the harness itself.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters

SCORING = {"model": "tiny", "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
GENERATING = {"model": "tiny", "max_tokens": 24, "temperature": 0.0, "seed": 1234}
NO_KEY = {"Authorization": "Bearer"}  # where OPENAI_API_KEY is not set


@pytest.fixture(scope="module")
def engine(tiny):
    return Engine(tiny, weights="float32")


@pytest.fixture(scope="module")
def encode(tiny):
    return tiny.tokenizer.encode


def post(exact, body):
    answer = exact.http().post("/v1/completions", json=body, headers=NO_KEY)
    assert answer.status_code == 200, answer.text
    return sorted(answer.json()["choices"], key=lambda choice: choice["index"])


def reading(choice, context):
    """(ln p, is greedy) of what follows `context` tokens, as the harness reads them; the last token was generated."""
    told = choice["logprobs"]
    values, tops = told["token_logprobs"][context:-1], told["top_logprobs"][context:-1]
    return sum(values), all(value == max(top.values()) for value, top in zip(values, tops, strict=True))


def greedy(engine, ids, count):
    sampling = SamplingParameters(temperature=0, max_tokens=count, ignore_eos=True)
    return list(engine.generate([Request(prompt_ids=tuple(ids), sampling=sampling)])[0].ids)


def agree(choice, engine, context, continuation):
    (score,) = engine.score([context], [continuation], alternatives=1)
    total, is_greedy = reading(choice, len(context))
    # float32, where the order of a sum depends on what is computed together
    assert total == pytest.approx(score.total, abs=1e-4 * len(continuation))
    best = [row[0][0] for row in score.alternatives]
    assert is_greedy == (best == list(continuation))


def test_choices_of_a_question_are_scored_as_by_the_engine(exact, engine, encode):
    """Contexts and continuations of several questions in one list of ids; two continuations are the greedy ones."""
    contexts = [encode("Question: what is the thing?\nAnswer:"), encode("the cat")]
    pairs = [(one, encode(text)) for one in contexts for text in (" yes", " no, not at all", "\u00e9\U0001f600")]
    pairs += [(one, greedy(engine, one, 5)) for one in contexts]
    choices = post(exact, {**SCORING, "prompt": [[*context, *answer] for context, answer in pairs]})
    for choice, (context, continuation) in zip(choices, pairs, strict=True):
        assert len(choice["logprobs"]["token_logprobs"]) == len(context) + len(continuation) + 1
        agree(choice, engine, context, continuation)
    assert [reading(choice, len(pair[0]))[1] for choice, pair in zip(choices, pairs, strict=True)][-2:] == [True, True]


def test_one_wrong_token_is_not_greedy(exact, engine, encode):
    context = encode("the thing")
    right = greedy(engine, context, 6)
    for place in range(len(right)):
        wrong = [
            *right[:place],
            (right[place] + 1) % engine.checkpoint.config.embedding.vocabulary,
            *right[place + 1 :],
        ]
        kept, changed = post(exact, {**SCORING, "prompt": [[*context, *right], [*context, *wrong]]})
        assert (reading(kept, len(context))[1], reading(changed, len(context))[1]) == (True, False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_ids_are_scored_as_by_the_engine(exact, engine, data):
    """Special tokens, parts of characters and single tokens too."""
    token = st.integers(0, engine.checkpoint.config.embedding.vocabulary - 1)
    ids = st.lists(token, min_size=1, max_size=8)
    pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=4))
    choices = post(exact, {**SCORING, "prompt": [[*context, *answer] for context, answer in pairs]})
    for choice, (context, continuation) in zip(choices, pairs, strict=True):
        agree(choice, engine, context, continuation)


@for_each("ends", [(), ("<|im_end|>",)])
def test_texts_end_before_a_stop(exact, engine, encode, ends):
    """`generate_until`; the end token's name is among the stops unless requests are concurrent."""
    prompts = [encode(text) for text in ("Question: what?\nAnswer:", "the thing", "once upon")]
    whole = [engine.checkpoint.tokenizer.decode(greedy(engine, ids, 24)) for ids in prompts]
    stop = [whole[0][5:7], *ends]
    told = post(exact, {**GENERATING, "prompt": prompts, "stop": stop})
    sampling = SamplingParameters(temperature=0, max_tokens=24)
    free = engine.generate([Request(prompt_ids=tuple(ids), sampling=sampling) for ids in prompts])
    wanted = [min((one.text.split(end)[0] for end in stop), key=len) for one in free]
    assert [choice["text"] for choice in told] == wanted
    assert told[0]["finish_reason"] == "stop" and len(told[0]["text"]) <= 5
