"""Replaying what a tiny random model said, by way of the log."""

from dataclasses import replace

import pytest
from events import full_event

from kit.tables import for_each
from lmworks.config import to_mapping
from lmworks.generate.constraint import FunctionCalls
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.monitor import Log
from lmworks.monitor.token_replay import first_difference, replay
from lmworks.records import Interaction, Message

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MESSAGES = (Message("system", "Be brief."), Message("user", "What does the with statement do?"))
_SAMPLINGS = {
    "greedy": SamplingParameters(max_tokens=12, ignore_eos=True),
    "sampled": SamplingParameters(max_tokens=30, temperature=1.0, top_k=50, top_p=0.9, ignore_eos=True),
    "penalties": SamplingParameters(
        max_tokens=20, temperature=0.9, repetition_penalty=1.2, frequency_penalty=0.5, presence_penalty=0.2
    ),
    "bias": SamplingParameters(max_tokens=8, logit_bias={40: 5.0, 41: -100.0}, seed=2**64 - 1),
    "stops": SamplingParameters(max_tokens=40, temperature=1.0, stop=("e", "t"), seed=5),
}


def _checkpoint(tokenizer, seed: int, template: str = _TEMPLATE) -> Checkpoint:
    config = llama(
        tokenizer.vocabulary_size, width=32, layers=2, heads=4, kv_heads=2, hidden=64, context_length=128, tied=True
    )
    weights = initialise(Transformer(config), seed=seed, std=0.2).state_dict()
    return assemble(config, weights, tokenizer, template, source="tiny")


@pytest.fixture(scope="module")
def checkpoint(tiny_tokenizer) -> Checkpoint:
    return _checkpoint(tiny_tokenizer, seed=1)


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    return Engine(checkpoint, slots=2, weights="float32")


def _logged(tmp_path, engine: Engine, request: Request, **changes) -> Interaction:
    """What the engine says to a request, recorded and read back."""
    checkpoint = engine.checkpoint
    completion = engine.generate([request])[0]
    chat = bool(request.messages)
    rendered = checkpoint.chat.render(request.messages, True, request.tools) if chat else None
    interaction = Interaction(
        id="0" * 15 + "1",
        time=1.0,
        messages=request.messages or (Message("user", "text"),),
        response=completion.text,
        operation="chat" if chat else "text_completion",
        tools=request.tools,
        rendered_prompt=rendered.text if rendered else "text",
        prompt_ids=rendered.ids if rendered else request.prompt_ids,
        token_ids=completion.ids or (),
        token_log_probabilities=completion.log_probabilities or (),
        parameters=to_mapping(request.sampling),
        finish_reason=completion.finish_reason,
        model=checkpoint.fingerprint,
        seed=completion.seed,
    )
    with Log(tmp_path / "log.sqlite") as log:
        log.record(replace(interaction, **changes)).result(20)
        return log.reader.get(interaction.id)


@for_each("sampling", _SAMPLINGS.values())
@for_each("chat", [True, False])
def test_the_same_seed_gives_the_same_tokens(tmp_path, engine, checkpoint, sampling, chat) -> None:
    prompt = {"messages": _MESSAGES} if chat else {"prompt_ids": tuple(range(40, 60))}
    interaction = _logged(tmp_path, engine, Request(**prompt, sampling=sampling))
    assert len(interaction.token_ids) >= 1
    fresh = Engine(checkpoint, slots=1, weights="float32")
    again = replay(interaction, fresh, checkpoint)
    assert again.token_ids == interaction.token_ids
    assert (again.same, again.first_difference, again.prompt_same, again.model_same) == (True, None, True, True)
    assert again.reason == f"all {len(interaction.token_ids)} tokens, from the same weights"


def test_functions_and_what_an_answer_had_to_be_are_replayed(tmp_path, tiny_tokenizer) -> None:
    calls = "{% for c in message.tool_calls %}<{{ c.function.name }}>{{ c.function.arguments | tojson }}{% endfor %}"
    template = "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}" + _TEMPLATE.replace(
        "{{ message.content }}", "{{ message.content }}" + calls
    )
    checkpoint = _checkpoint(tiny_tokenizer, 1, template)
    schema = (
        '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}'
    )
    constraint = FunctionCalls("<", ">", "", "<", (("f", schema),), required=True)
    request = Request(
        messages=_MESSAGES,
        tools=({"type": "function", "function": {"name": "f"}},),
        sampling=SamplingParameters(max_tokens=60, temperature=1.0, seed=3, constraint=constraint),
    )
    interaction = _logged(tmp_path, Engine(checkpoint, weights="float32"), request)
    assert interaction.rendered_prompt.startswith("f <|im_start|>") and interaction.response.startswith("<f>{")
    again = replay(interaction, Engine(checkpoint, weights="float32"), checkpoint)
    assert again.same and again.token_ids == interaction.token_ids, again.reason
    assert not replay(replace(interaction, tools=()), Engine(checkpoint, weights="float32"), checkpoint).prompt_same


def test_another_seed_would_not(tmp_path, engine, checkpoint) -> None:
    interaction = _logged(tmp_path, engine, Request(messages=_MESSAGES, sampling=_SAMPLINGS["sampled"]))
    again = replay(replace(interaction, seed=(interaction.seed or 0) + 1), engine, checkpoint)
    assert not again.same
    assert again.first_difference is not None
    assert again.token_ids[: again.first_difference] == interaction.token_ids[: again.first_difference]
    assert again.token_ids[again.first_difference] != interaction.token_ids[again.first_difference]
    assert f"token {again.first_difference + 1} of 30 is the first that differs" in again.reason


def test_what_was_cut_off_is_compared_up_to_there(tmp_path, engine, checkpoint) -> None:
    sampling = replace(_SAMPLINGS["sampled"], seed=3)
    interaction = _logged(tmp_path, engine, Request(messages=_MESSAGES, sampling=sampling))
    cancelled = replace(interaction, token_ids=interaction.token_ids[:9], finish_reason="cancelled")
    assert replay(cancelled, engine, checkpoint).same
    full = Engine(checkpoint, slots=1, context_length=len(interaction.prompt_ids) + 10, weights="float32")
    short = _logged(tmp_path / "short", full, Request(messages=_MESSAGES, sampling=sampling))
    assert short.token_ids == interaction.token_ids[:10]
    assert replay(short, engine, checkpoint).same  # in an engine with more room


def test_changed_weights_are_seen(tmp_path, engine, checkpoint, tiny_tokenizer) -> None:
    """Those of another model, and those that the engine was given since."""
    interaction = _logged(tmp_path, engine, Request(messages=_MESSAGES, sampling=_SAMPLINGS["sampled"]))
    other = _checkpoint(tiny_tokenizer, seed=2)
    again = replay(interaction, Engine(other, weights="float32"), other)
    assert (again.same, again.prompt_same, again.model_same) == (False, True, False)
    changed = Engine(checkpoint, weights="float32")
    changed.load_weights({name: value + 0.01 for name, value in checkpoint.model.state_dict().items()}, version=1)
    assert not replay(interaction, changed, checkpoint).model_same


def test_a_changed_template_is_told(tmp_path, engine, checkpoint, tiny_tokenizer) -> None:
    interaction = _logged(tmp_path, engine, Request(messages=_MESSAGES, sampling=_SAMPLINGS["greedy"]))
    other = _checkpoint(tiny_tokenizer, seed=1, template=_TEMPLATE.replace("<|im_end|>\n", "<|im_end|>\n\n"))
    again = replay(interaction, Engine(other, weights="float32"), other)
    assert (again.same, again.prompt_same, again.token_ids) == (False, False, ())
    place = interaction.rendered_prompt.index("<|im_end|>\n") + len("<|im_end|>\n")
    assert again.reason == f"the prompt is rendered differently from character {place + 1} on; nothing was generated"
    ids = replace(interaction, prompt_ids=(1, *interaction.prompt_ids[1:-1]))
    assert "has other token ids" in replay(ids, engine, checkpoint).reason


@for_each(
    ("changes", "says"),
    [
        ({"operation": "embeddings"}, "embedded texts"),
        ({"redacted": ("email",)}, r"was redacted \(email\): its prompt is not known"),
        ({"confidence": 0.5}, "is an answer from documents"),
        ({"retrieved": full_event().retrieved}, "is an answer from documents"),
        ({"token_ids": (), "error": "DeadlineError"}, r"no tokens to compare with \(DeadlineError\)"),
        ({"seed": None}, "no tokens to compare with"),
        ({"operation": "text_completion", "prompt_ids": ()}, "has no prompt ids"),
    ],
)
def test_what_cannot_be_replayed_says_why(tmp_path, engine, checkpoint, changes, says) -> None:
    interaction = _logged(tmp_path, engine, Request(messages=_MESSAGES, sampling=_SAMPLINGS["greedy"]), **changes)
    with pytest.raises(ValueError, match=says):
        replay(interaction, engine, checkpoint)


def test_the_first_difference() -> None:
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 4, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == first_difference([1, 2, 3], [1, 2]) == 2
