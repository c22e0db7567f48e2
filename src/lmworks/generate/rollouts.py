"""Rollouts: completions sampled for training, as token ids with all that an update needs to know of their sampling."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lmworks.generate.protocol import Completion, EngineProtocol, FinishReason, Request, SamplingParameters
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
) -> list[list[Rollout]]:
    """`samples` completions of each prompt (its ids), all in the engine together.

    Each has a seed of its own that follows from `key` (such as the run's seed and its step), the number of the prompt
    and the number of the sample, so that a run that goes on draws the same again. UnsupportedError for an engine that
    gives no ids or no log-probabilities.
    """
    engine.capabilities.require("token_ids")
    engine.capabilities.require("sampled_log_probabilities")
    requests = [
        Request(tuple(ids), sampling=replace(sampling, seed=seed_of(key, number, sample)), adapter=adapter)
        for number, ids in enumerate(prompts)
        for sample in range(samples)
    ]
    found = [rollout_of(completion) for completion in engine.generate(requests)]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def rollout_of(completion: Completion) -> Rollout:
    """One turn, from what an engine gave."""
    prompt, ids = completion.prompt_ids, completion.ids
    drawn, own = completion.sampled_log_probabilities, completion.log_probabilities
    assert prompt is not None and ids is not None and drawn is not None and own is not None
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
    """A conversation under way; the lists are those of `Rollout`."""

    messages: list[Message]
    ids: list[int]
    sampled: list[bool] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    model_log_probabilities: list[float] = field(default_factory=list)
    last: Rollout | None = None
    finish_reason: FinishReason = "stop"
    reward: float | None = None
    turns: int = 0
    done: bool = False

    def append(self, ids: Sequence[int]) -> None:
        """Ids that the policy did not choose."""
        self.ids += ids
        self.sampled += [False] * len(ids)
        self.log_probabilities += [0.0] * len(ids)
        self.model_log_probabilities += [0.0] * len(ids)


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
) -> list[list[Rollout]]:
    """`samples` episodes of each conversation: completions, and between them the environment's replies.

    A reply stands behind the ids that were sampled as the chat template writes it; what was sampled stays as it is. An
    episode ends when the environment says so or says nothing, behind `most_turns` completions, and with
    `finish_reason` "length" where a completion or the next reply has no room in `length` tokens. Seeds are as in
    `roll_out`, one for each turn. ValueError for a template that does not end an answer with a special token.
    """
    episodes = []
    for messages in conversations:
        ids = renderer.render(messages, True, tools).ids
        for _ in range(samples):
            episodes.append(_Episode([*messages], []))
            episodes[-1].append(ids)
    for turn in range(most_turns):
        going = [number for number, episode in enumerate(episodes) if not episode.done]
        requests = []
        for number in going:
            room = min(sampling.max_tokens, length - len(episodes[number].ids))
            seed = seed_of(f"{key} turn {turn}", *divmod(number, samples))
            requests.append(
                Request(tuple(episodes[number].ids), (), replace(sampling, seed=seed, max_tokens=room), adapter=adapter)
            )
        for number, completion in zip(going, engine.generate(requests) if requests else (), strict=True):
            final = turn == most_turns - 1
            _take_turn(episodes[number], rollout_of(completion), environment, renderer, 0 if final else length)
    found = [_rollout(episode) for episode in episodes]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def _take_turn(episode: _Episode, said: Rollout, environment: Environment, renderer: ChatRenderer, length: int) -> None:
    """`length`: of the episode with its next reply; 0: this was its last turn."""
    start = len(episode.ids)
    episode.ids += said.ids[start:]
    episode.sampled += said.sampled[start:]
    episode.log_probabilities += said.log_probabilities[start:]
    episode.model_log_probabilities += said.model_log_probabilities[start:]
    episode.last, episode.turns, episode.finish_reason = said, episode.turns + 1, said.finish_reason
    reply, reward, over = environment(episode.messages, said.text)
    if reward is not None:
        episode.reward = (episode.reward or 0.0) + reward
    episode.done = over or not reply or not length or said.finish_reason != "stop"
    if episode.done:
        return
    ids = reply_ids(renderer, reply, episode.ids[-1])
    if len(episode.ids) + len(ids) >= length:
        episode.done, episode.finish_reason = True, "length"
        return
    episode.append(ids)
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


def _rollout(episode: _Episode) -> Rollout:
    assert episode.last is not None
    return replace(
        episode.last,
        ids=tuple(episode.ids),
        sampled=tuple(episode.sampled),
        log_probabilities=tuple(episode.log_probabilities),
        model_log_probabilities=tuple(episode.model_log_probabilities),
        finish_reason=episode.finish_reason,
        reward=episode.reward,
        turns=episode.turns,
    )


def seed_of(key: str, number: int, sample: int) -> int:
    """A seed in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(f"{key} {number} {sample}".encode()).digest()[:8]) >> 1
