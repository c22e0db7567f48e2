"""Episodes of several turns: what an environment says between two completions."""

from collections.abc import Sequence

import pytest
from tokenizers import AddedToken

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.generate.constraint import Regex
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.rollouts import Turns, reply_ids, roll_out
from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
from lmworks.tokenizer.tokenizer import Tokenizer

WORDS = SamplingParameters(8, temperature=1.0, constraint=Regex("[a-z]{3}"))
ASKED = [[Message("user", "one")], [Message("user", "two")]]


def echo(messages: Sequence[Message], completion: str, _: object) -> tuple[Sequence[Message], float | None, bool]:
    """Says again what it was told, until there are three answers."""
    answers = sum(message.role == "assistant" for message in messages) + 1
    return (Message("user", f"{completion}<|im_end|>"),), 0.5, answers == 3


def episodes(checkpoint, length: int = 256, turns: int = 8):
    engine = Engine(checkpoint, slots=4, weights="float32", context_length=length)
    ids = [checkpoint.chat.render(messages, True).ids for messages in ASKED]
    rules = Turns(echo, checkpoint.chat, ASKED, length, turns)
    return engine, roll_out(engine, ids, 2, WORDS, "key", turns=rules)


def test_an_episode_is_the_conversation_and_only_the_answers_were_sampled(tiny_llama):
    engine, groups = episodes(tiny_llama)
    assert [len(group) for group in groups] == [2, 2] and groups == episodes(tiny_llama)[1]
    assert len({rollout.text for group in groups for rollout in group}) > 1
    for messages, group in zip(ASKED, groups, strict=True):
        for rollout in group:
            assert (rollout.turns, rollout.reward, rollout.finish_reason) == (3, 1.5, "stop")
            answers, size = [], len(rollout.ids)
            starts = [n for n in range(size) if rollout.sampled[n] and not rollout.sampled[n - 1]]
            for start in starts:
                stop = next(n for n in range(start, size) if not rollout.sampled[n] or n == size - 1)
                answers.append(tiny_llama.required_tokenizer.decode(rollout.ids[start:stop]).removesuffix("<|im_end|>"))
            said = [Message("assistant", text) for text in answers]
            replies = [Message("user", f"{text}<|im_end|>") for text in answers[:2]]
            whole = [*messages, said[0], replies[0], said[1], replies[1], said[2]]
            rendered = tiny_llama.chat.render(whole).ids
            assert rendered[: len(rollout.ids)] == rollout.ids  # a user's `<|im_end|>` is letters, and no token
            (score,) = engine.score([rollout.ids[:1]], [rollout.ids[1:]])
            pairs = zip(rollout.sampled[1:], rollout.model_log_probabilities[1:], score.log_probabilities, strict=True)
            assert max(abs(own - value) for sampled, own, value in pairs if sampled) < 1e-4


def test_an_episode_ends_where_there_is_no_room_or_no_turn_left(tiny_llama):
    (short, *_), *_ = episodes(tiny_llama, length=55)[1]
    assert (short.turns, short.finish_reason) == (1, "length") and short.ids[-1] == tiny_llama.chat.turn_end
    (one, *_), *_ = episodes(tiny_llama, turns=2)[1]
    assert (one.turns, one.reward, one.finish_reason) == (2, 1.0, "stop") and one.ids[-1] == tiny_llama.chat.turn_end


def test_a_template_without_an_end_of_turn_is_refused(tiny_llama):
    open_ended = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    renderer = ChatRenderer(open_ended, tiny_llama.required_tokenizer)
    with pytest.raises(ValueError, match="ends no answer"):
        reply_ids(renderer, [Message("user", "x")], 0)


@for_each("family", ["smollm2", "qwen2.5", "qwen3", "llama3.1", "mistral-v3", "gemma"])
def test_a_result_of_a_tool_stands_behind_a_call_as_the_template_writes_it(family):
    roles = FAMILIES[family].roles
    backend = byte_tokenizer(dict(roles)).backend
    backend.add_special_tokens([AddedToken(token, special=True) for token in FAMILIES[family].tokens])
    renderer = ChatRenderer(chat_template(family), Tokenizer(backend, roles))
    function = {"name": "add", "arguments": {"a": 1}}
    call = Message("assistant", "", ({"id": "call00001", "type": "function", "function": function},))
    result = Message("tool", "12", name="add", tool_call_id="call00001")
    conversation = [Message("user", "1+11?"), call]
    whole = renderer.render([*conversation, result], add_generation_prompt=True).ids
    behind = reply_ids(renderer, [result], 0)  # of an answer that was not ended
    assert whole[-len(behind) :] == tuple(behind) and behind[0] == renderer.turn_end
    assert reply_ids(renderer, [result], behind[0]) == behind[1:] and 12 < len(behind) < len(whole)
