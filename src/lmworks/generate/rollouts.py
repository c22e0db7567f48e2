"""Rollouts: completions sampled for training, as token ids with all that an update needs to know of their sampling."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmworks.generate.protocol import (
    Completion,
    EngineProtocol,
    FinishReason,
    Request,
    SamplingParameters,
    UnsupportedError,
)
from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer

# The conversation before a completion, the completion, what is known of the prompt (as an evaluation's item) → reply
# messages, a reward or None, whether the episode is over
Environment = Callable[[Sequence[Message], str, Any], tuple[Sequence[Message], float | None, bool]]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A prompt and what followed it. Nothing of it is ever made a text and tokenised again.

    ids                prompt and completion
    sampled            of each id, whether the policy chose it: not the prompt's, what a constraint forced, nor what an
                       environment said
    log_probabilities  of each id, ln p of the distribution that it was sampled from; 0 where it was not
    model_log_probabilities  the same of the model itself, without temperature and truncation
    text               of the last answer
    reward             the sum of what an environment gave; None where it gave nothing
    turns              completions
    """

    ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    log_probabilities: tuple[float, ...]
    model_log_probabilities: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    policy_version: int
    seed: int
    reward: float | None = None
    turns: int = 1


@dataclass(frozen=True, slots=True)
class Turns:
    """An episode's completions, and between them an environment's replies.

    conversations  the messages of each prompt, which the environment reads,
    items          and what else it is told of each, None by default
    length         most tokens of an episode
    most           completions
    """

    environment: Environment
    renderer: ChatRenderer
    conversations: Sequence[Sequence[Message]]
    length: int
    most: int = 8
    items: Sequence[Any] = ()


def roll_out(
    engine: EngineProtocol,
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: SamplingParameters,
    key: str,
    adapter: str = "",
    numbers: Sequence[int] | None = None,
    turns: Turns | None = None,
) -> list[list[Rollout]]:
    """`samples` completions, or episodes, of each prompt (its ids), all in the engine together.

    Each completion has a seed of its own that follows from `key` (such as the run's seed and its step), the number of
    the prompt (its place among `prompts`, or of `numbers`), of the sample and of the turn, so that a run that continues
    draws the same again. UnsupportedError for an engine that gives no ids or no log-probabilities.

    A reply stands behind the ids that were sampled as the chat template writes it; what was sampled stays as it is. An
    episode ends when the environment says so or says nothing, behind its last turn, and with `finish_reason` "length"
    where a completion or the next reply has no room. ValueError for a template that does not end an answer with a
    special token.
    """
    engine.capabilities.require("token_ids")
    engine.capabilities.require("sampled_log_probabilities")
    episodes = [(number, sample) for number in numbers or range(len(prompts)) for sample in range(samples)]
    nothing = Rollout((), (), (), (), "", "stop", 0, 0, turns=0)
    rollouts = [start for ids in prompts for start in [_behind(nothing, ids)] * samples]
    talks = [[*messages] for messages in turns.conversations for _ in range(samples)] if turns else []
    items = [item for item in turns.items or [None] * len(prompts) for _ in range(samples)] if turns else []
    going = list(range(len(rollouts)))
    for turn in range(turns.most if turns else 1):
        requests = []
        for number in going:
            before, most = rollouts[number].ids, sampling.max_tokens
            most = min(most, turns.length - len(before)) if turns else most
            seed = seed_of(f"{key} turn {turn}" if turns else key, *episodes[number])
            requests.append(Request(before, sampling=replace(sampling, seed=seed, max_tokens=most), adapter=adapter))
        asked, going = going, []
        for number, completion in zip(asked, engine.generate(requests), strict=True):
            rollout = _continued(rollouts[number], completion)
            if turns:
                answer = turns.environment(talks[number], rollout.text, items[number])
                rollout, reply = _answered(rollout, answer, turns, turn)
                talks[number] += [Message("assistant", rollout.text), *reply]
                going += [number] if reply else []
            rollouts[number] = rollout
    return [rollouts[n : n + samples] for n in range(0, len(rollouts), samples)]


def _answered(
    rollout: Rollout, answer: tuple[Sequence[Message], float | None, bool], turns: Turns, turn: int
) -> tuple[Rollout, Sequence[Message]]:
    """The rollout with the environment's reply appended, and the reply, which is () where the episode ends."""
    reply, reward, over = answer
    rollout = rollout if reward is None else replace(rollout, reward=(rollout.reward or 0.0) + reward)
    if over or not reply or turn == turns.most - 1 or rollout.finish_reason != "stop":
        return rollout, ()
    ids = reply_ids(turns.renderer, reply, rollout.ids[-1])
    if len(rollout.ids) + len(ids) >= turns.length:
        return replace(rollout, finish_reason="length"), ()
    return _behind(rollout, ids), reply


def _behind(rollout: Rollout, ids: Sequence[int]) -> Rollout:
    """The rollout with ids appended that the policy did not choose."""
    zeros = (0.0,) * len(ids)
    return replace(
        rollout,
        ids=(*rollout.ids, *ids),
        sampled=(*rollout.sampled, *(False,) * len(ids)),
        log_probabilities=rollout.log_probabilities + zeros,
        model_log_probabilities=rollout.model_log_probabilities + zeros,
    )


def _continued(before: Rollout, completion: Completion) -> Rollout:
    """The rollout with an engine's completion appended."""
    ids, drawn, model = completion.ids, completion.sampled_log_probabilities, completion.log_probabilities
    if completion.prompt_ids is None or ids is None or drawn is None or model is None:
        raise UnsupportedError("a rollout needs ids and the log-probabilities of what was sampled: sample plainly")
    sampled = completion.sampled or (True,) * len(ids)
    return Rollout(
        (*before.ids, *ids),
        (*before.sampled, *sampled),
        (*before.log_probabilities, *(value if chosen else 0.0 for value, chosen in zip(drawn, sampled, strict=True))),
        (*before.model_log_probabilities, *(v if chosen else 0.0 for v, chosen in zip(model, sampled, strict=True))),
        completion.text,
        completion.finish_reason,
        completion.policy_version or 0,
        completion.seed,
        before.reward,
        before.turns + 1,
    )


def reply_ids(renderer: ChatRenderer, reply: Sequence[Message], last: int) -> list[int]:
    """The ids that a template writes behind an answer that ended with the id `last`: the end of its turn, where that is
    another one, the messages, and what asks for the next answer."""
    end = renderer.turn_end
    if end is None:
        raise ValueError("the chat template ends no answer with a special token, so no reply can follow one")
    answer = Message("assistant", "answer")
    if called := [message for message in reply if message.role == "tool"]:
        function = {"name": called[0].name or "tool", "arguments": {}}
        answer = Message("assistant", "", ({"id": called[0].tool_call_id, "type": "function", "function": function},))
    before = [Message("user", "question"), answer]
    turns = renderer.render(before).ids.count(end)  # some write an answer in another way when a message follows it
    whole = renderer.render([*before, *reply], add_generation_prompt=True).ids
    index = [index for index, token in enumerate(whole) if token == end][turns - 1]
    return [*([] if last == end else [end]), *whole[index + 1 :]]


def seed_of(key: str, number: int, sample: int) -> int:
    """A seed in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(f"{key} {number} {sample}".encode()).digest()[:8]) >> 1
