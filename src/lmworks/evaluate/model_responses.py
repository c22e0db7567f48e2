"""The responses of a model to the examples of a task: token ids, then ln p of given texts, or generations.

A context and its continuation are encoded as one text, which is cut behind the tokens of the context alone; spaces at
the end of the context belong to the continuation, whose first word they begin; what stands behind no context is read
behind BOS, or EOS where there is no BOS (lm-evaluation-harness's rules).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from lmworks.evaluate.metric import Response
from lmworks.evaluate.task import Example, Task
from lmworks.generate.perplexity import rolling_windows
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters
from lmworks.generate.scoring import document_start
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import TextOrMessages
from lmworks.tokenizer.tokenizer import Tokenizer

Pair = tuple[Sequence[int], Sequence[int]]  # ids of a context and of its continuation
AT_ONCE = 64  # examples


def encoded(task: Task, examples: Sequence[Example], checkpoint: Checkpoint, length: int) -> list[list[Pair]]:
    """Pairs of each example to score, or the prompt of a generation and nothing behind it.

    ValueError, with the row and the remedy, for more than `length` tokens, and for a choice that adds none to its
    context.
    """
    tokenizer = checkpoint.required_tokenizer
    if task.request == "rolling":
        texts = tokenizer.encode_batch([example.continuations[0] for example in examples])
        window = min(length, checkpoint.config.context_length - 1)  # behind one token
        return [list(rolling_windows(ids, _start(tokenizer), window)) for ids in texts]
    contexts = _context_ids(task, examples, checkpoint)
    if task.request == "generation":
        made: list[list[Pair]] = [[(contexts[example.contexts[0]], ())] for example in examples]
    else:
        texts = [pair for example in examples for pair in zip(example.contexts, example.continuations, strict=True)]
        joined = [after if isinstance(before, tuple) else before + after for before, after in texts]
        wholes = iter(tokenizer.encode_batch(joined))
        # a chat's template ends in special tokens, so that its continuation was encoded alone
        begins = {one: 0 if isinstance(one, tuple) else len(ids) for one, ids in contexts.items()}
        cut = [[(contexts[one], next(wholes)[begins[one] :]) for one in example.contexts] for example in examples]
        made = [[(before or (_start(tokenizer),), after) for before, after in pairs] for pairs in cut]
    for example, pairs in zip(examples, made, strict=True):
        where = f"{task.name}, row {example.item.id}"
        size = max(len(before) + (len(after) or task.max_tokens) for before, after in pairs)
        if size > length:
            raise ValueError(f"{where}: {size} tokens, and the model takes {length}: lower --shots or max_tokens")
        if task.request == "choices" and not all(after for _, after in pairs):
            raise ValueError(f"{where}: a choice adds no token to its context: change the delimiter or the choice")
    return made


def _context_ids(
    task: Task, examples: Sequence[Example], checkpoint: Checkpoint
) -> dict[TextOrMessages, Sequence[int]]:
    contexts = list(dict.fromkeys(context for example in examples for context in example.contexts))
    chats = [one for one in contexts if not isinstance(one, str)]
    texts = [one for one in contexts if isinstance(one, str)]
    kept = texts if task.request == "generation" else [text.rstrip() for text in texts]
    tokenizer = checkpoint.required_tokenizer
    ids: dict[TextOrMessages, Sequence[int]] = dict(zip(texts, tokenizer.encode_batch(kept), strict=True))
    return ids | {one: checkpoint.chat.render(one, add_generation_prompt=True).ids for one in chats}


def _start(tokenizer: Tokenizer) -> int:
    first = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    return document_start(tokenizer) if first is None else first


def model_responses(
    engine: EngineProtocol, task: Task, asked: Sequence[Example], ids: Mapping[str, Sequence[Pair]]
) -> Iterator[tuple[int, Response]]:
    """(place, response), those that begin with the same tokens after each other; `ids` by the item's id."""
    pairs = [ids[example.item.id] for example in asked]
    order = sorted(range(len(asked)), key=lambda place: tuple(pairs[place][0][0]))
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        if task.request == "generation":
            prompts = [Request(tuple(pairs[place][0][0])) for place in places]
            yield from zip(places, _generations(engine, task, prompts), strict=True)
            continue
        contexts, continuations = zip(*(pair for place in places for pair in pairs[place]), strict=True)
        scores = iter(engine.score(contexts, continuations))
        for place in places:
            own = [next(scores) for _ in pairs[place]]
            if task.request == "rolling":
                tokens = tuple(value for score in own for value in score.log_probabilities)
                yield place, Response(asked[place].continuations[0], log_probabilities=tokens)
            else:
                totals = tuple(score.total for score in own)
                yield place, Response(asked[place].item.choices[totals.index(max(totals))], choices=totals)


def text_generations(engine: EngineProtocol, task: Task, asked: Sequence[Example]) -> Iterator[tuple[int, Response]]:
    """(place, response) of an endpoint, whose tokenizer and chat template are its own."""
    for start in range(0, len(asked), AT_ONCE):
        contexts = [example.contexts[0] for example in asked[start : start + AT_ONCE]]
        prompts = [Request(text=one) if isinstance(one, str) else Request(messages=one) for one in contexts]
        yield from enumerate(_generations(engine, task, prompts), start)


def _generations(engine: EngineProtocol, task: Task, prompts: Sequence[Request]) -> Iterator[Response]:
    """The greedy completion of each prompt, with the samples that the task asks for."""
    greedy = SamplingParameters(task.max_tokens, stop=task.stop, seed=0)
    drawn = replace(greedy, temperature=task.temperature, top_p=task.top_p)
    ways = [greedy, *(replace(drawn, seed=number) for number in range(1, task.samples + 1))]
    completions = iter(engine.generate([replace(prompt, sampling=way) for prompt in prompts for way in ways]))
    for _ in prompts:
        one, *more = islice(completions, len(ways))
        yield Response(one.text, tuple(each.text for each in more), one.log_probabilities or ())
