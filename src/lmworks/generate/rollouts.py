"""Rollouts: completions sampled for training, as token ids with all that an update needs to know of their sampling."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from lmworks.tokenizer.tool_calls import Tool

# The conversation before a completion, the completion → reply messages, a reward or None, whether the episode is over
Environment = Callable[[Sequence[Message], str], tuple[Sequence[Message], float | None, bool]]


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


def roll_out(
    engine: EngineProtocol,
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: SamplingParameters,
    key: str,
    adapter: str = "",
    numbers: Sequence[int] | None = None,
) -> list[list[Rollout]]:
    """`samples` completions of each prompt (its ids), all in the engine together.

    Each has a seed of its own that follows from `key` (such as the run's seed and its step), the number of the prompt
    (its place among `prompts`, or of `numbers`) and the number of the sample, so that a run that goes on draws the same
    again. UnsupportedError for an engine that gives no ids or no log-probabilities.
    """
    engine.capabilities.require("token_ids")
    engine.capabilities.require("sampled_log_probabilities")
    requests = [
        Request(tuple(ids), sampling=replace(sampling, seed=seed_of(key, number, sample)), adapter=adapter)
        for number, ids in zip(numbers or range(len(prompts)), prompts, strict=True)
        for sample in range(samples)
    ]
    found = [rollout_of(completion) for completion in engine.generate(requests)]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def rollout_of(completion: Completion) -> Rollout:
    """One turn, from what an engine gave."""
    prompt, ids = completion.prompt_ids, completion.ids
    drawn, own = completion.sampled_log_probabilities, completion.log_probabilities
    if prompt is None or ids is None or drawn is None or own is None:
        raise UnsupportedError("a rollout needs ids and the log-probabilities of what was sampled: sample plainly")
    sampled = completion.sampled or (True,) * len(ids)
    unsampled = (0.0,) * len(prompt)
    return Rollout(
        (*prompt, *ids),
        (*(False,) * len(prompt), *sampled),
        (*unsampled, *(value if chosen else 0.0 for value, chosen in zip(drawn, sampled, strict=True))),
        (*unsampled, *(value if chosen else 0.0 for value, chosen in zip(own, sampled, strict=True))),
        completion.text,
        completion.finish_reason,
        completion.policy_version or 0,
        completion.seed,
    )


@dataclass
class _Episode:
    """A conversation under way, and its rollout so far."""

    messages: list[Message]
    rollout: Rollout
    done: bool = False


def roll_out_turns(
    engine: EngineProtocol,
    conversations: Sequence[Sequence[Message]],
    samples: int,
    sampling: SamplingParameters,
    key: str,
    environment: Environment,
    renderer: ChatRenderer,
    length: int,
    most_turns: int = 8,
    tools: Sequence[Tool] = (),
    adapter: str = "",
    numbers: Sequence[int] | None = None,
) -> list[list[Rollout]]:
    """`samples` episodes of each conversation: completions, and between them the environment's replies.

    A reply stands behind the ids that were sampled as the chat template writes it; what was sampled stays as it is. An
    episode ends when the environment says so or says nothing, behind `most_turns` completions, and with
    `finish_reason` "length" where a completion or the next reply has no room in `length` tokens. Seeds are as in
    `roll_out`, one for each turn. ValueError for a template that does not end an answer with a special token.
    """
    nothing = Rollout((), (), (), (), "", "stop", 0, 0, turns=0)
    starts = [(messages, _behind(nothing, renderer.render(messages, True, tools).ids)) for messages in conversations]
    episodes = [_Episode([*messages], start) for messages, start in starts for _ in range(samples)]
    places = [(place, sample) for place in numbers or range(len(starts)) for sample in range(samples)]
    for turn in range(most_turns):
        going = {number: episode for number, episode in enumerate(episodes) if not episode.done}
        requests = []
        for number, episode in going.items():
            room = min(sampling.max_tokens, length - len(episode.rollout.ids))
            drawn = replace(sampling, seed=seed_of(f"{key} turn {turn}", *places[number]), max_tokens=room)
            requests.append(Request(episode.rollout.ids, sampling=drawn, adapter=adapter))
        for episode, completion in zip(going.values(), engine.generate(requests), strict=True):
            most = length if turn < most_turns - 1 else 0
            _take_turn(episode, rollout_of(completion), environment, renderer, most)
    return [[each.rollout for each in episodes[n : n + samples]] for n in range(0, len(episodes), samples)]


def _behind(rollout: Rollout, ids: Sequence[int]) -> Rollout:
    """With ids behind it that the policy did not choose."""
    zeros = (0.0,) * len(ids)
    return replace(
        rollout,
        ids=(*rollout.ids, *ids),
        sampled=(*rollout.sampled, *(False,) * len(ids)),
        log_probabilities=rollout.log_probabilities + zeros,
        model_log_probabilities=rollout.model_log_probabilities + zeros,
    )


def _take_turn(episode: _Episode, said: Rollout, environment: Environment, renderer: ChatRenderer, length: int) -> None:
    """`length`: of the episode with its next reply; 0: this was its last turn."""
    before = episode.rollout
    start = len(before.ids)
    reply, reward, over = environment(episode.messages, said.text)
    episode.rollout = replace(
        said,
        sampled=before.sampled + said.sampled[start:],
        log_probabilities=before.log_probabilities + said.log_probabilities[start:],
        model_log_probabilities=before.model_log_probabilities + said.model_log_probabilities[start:],
        reward=before.reward if reward is None else (before.reward or 0.0) + reward,
        turns=before.turns + 1,
    )
    episode.done = over or not reply or not length or said.finish_reason != "stop"
    if episode.done:
        return
    ids = reply_ids(renderer, reply, said.ids[-1])
    if len(said.ids) + len(ids) >= length:
        episode.done, episode.rollout = True, replace(episode.rollout, finish_reason="length")
        return
    episode.rollout = _behind(episode.rollout, ids)
    episode.messages += [Message("assistant", said.text), *reply]


def reply_ids(renderer: ChatRenderer, reply: Sequence[Message], last: int) -> list[int]:
    """The ids that a template writes behind an answer that ended with the id `last`: the end of its turn, where that is
    another one, the messages, and what asks for the next answer."""
    end = renderer.turn_end
    if end is None:
        raise ValueError("the chat template ends no answer with a special token, so that no reply can stand behind one")
    answer = Message("assistant", "answer")
    if called := [message for message in reply if message.role == "tool"]:
        function = {"name": called[0].name or "tool", "arguments": {}}
        answer = Message("assistant", "", ({"id": called[0].tool_call_id, "type": "function", "function": function},))
    before = [Message("user", "question"), answer]
    turns = renderer.render(before).ids.count(end)  # some write an answer in another way when a message follows it
    whole = renderer.render([*before, *reply], add_generation_prompt=True).ids
    place = [place for place, token in enumerate(whole) if token == end][turns - 1]
    return [*([] if last == end else [end]), *whole[place + 1 :]]


def seed_of(key: str, number: int, sample: int) -> int:
    """A seed in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(f"{key} {number} {sample}".encode()).digest()[:8]) >> 1
