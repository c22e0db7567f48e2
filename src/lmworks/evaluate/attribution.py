"""Attribution of an answer to its contexts: by how much they raise its log-probability under a language model.

    attribute(engine, items, responses, by_passage=True)[0].passages  # nats that the answer owes to each passage alone

ln p(answer | contexts, prompt) - ln p(answer | prompt), token by token, so that it can be read for any sentence. The
model need not be the one that answered. Near 0 or below: the model would say the same without having read them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lmworks.evaluate.faithfulness import passages_of, statements_of
from lmworks.evaluate.likelihood import own_tokens, signature_of
from lmworks.evaluate.metric import Item, Metric, Response, Value, prompt_text
from lmworks.generate.protocol import EngineProtocol
from lmworks.generate.scoring import document_start
from lmworks.records import Unscored


@dataclass(frozen=True, slots=True)
class Attribution:
    """Nats that contexts add to each token of an answer.

    statements  the answer's sentences, as ranges of it
    tokens      characters `[start, end)` of the answer, and the gain of their token given what stands before it
    passages    ln p(answer | all) - ln p(answer | all but this one), for each passage; empty where it was not asked for
    """

    statements: tuple[tuple[int, int], ...]
    tokens: tuple[tuple[int, int, float], ...]
    passages: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        return math.fsum(gain for _, _, gain in self.tokens)

    def per_token(self, start: int, end: int) -> float:
        """Mean gain of the tokens that end in `[start, end)`, since a token may begin with the space before a word;
        ValueError where none does."""
        gains = [gain for _, last, gain in self.tokens if start < last <= end]
        if not gains:
            raise ValueError(f"no token ends in [{start}, {end})")
        return math.fsum(gains) / len(gains)


def attribute(
    model: EngineProtocol, items: Sequence[Item], responses: Sequence[Response], *, by_passage: bool = False
) -> list[Attribution | Unscored]:
    """The attribution of each answer; `by_passage` scores it once more without each passage.

    UnsupportedError for an engine without scores or tokens; an answer that does not fit into the context is Unscored.
    """
    checkpoint, most = own_tokens(model)
    tokenizer = checkpoint.required_tokenizer
    found: list[Attribution | Unscored] = []
    for item, response in zip(items, responses, strict=True):
        if isinstance(ranges := statements_of(item, response), Unscored):
            found.append(ranges)
            continue
        passages = [text for text, _ in passages_of(item, response)]
        ids, offsets = tokenizer.encode_with_offsets(response.text)
        left = [passages[:one] + passages[one + 1 :] for one in range(len(passages))] if by_passage else []
        texts = ["\n\n".join(filter(None, (*given, prompt_text(item.prompt)))) for given in (passages, [], *left)]
        contexts = [[document_start(tokenizer), *(tokenizer.encode(f"{text}\n\n") if text else ())] for text in texts]
        if len(contexts[0]) + len(ids) > most:
            found.append(Unscored(f"{len(contexts[0])} + {len(ids)} tokens, and the model takes {most}"))
            continue
        whole, alone, *without = model.score(contexts, [ids] * len(contexts))
        gains = np.subtract(whole.log_probabilities, alone.log_probabilities).tolist()
        tokens = tuple((start, end, gain) for (start, end), gain in zip(offsets, gains, strict=True))
        found.append(Attribution(tuple(ranges), tokens, tuple(whole.total - one.total for one in without)))
    return found


def per_statement(found: Attribution) -> float:
    """Attribution per token of each statement of an answer, averaged over its statements."""
    return float(np.mean([found.per_token(*place) for place in found.statements]))


def _metric(name: str, value: Callable[[Attribution], float], model: EngineProtocol) -> Metric:
    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        return [one if isinstance(one, Unscored) else value(one) for one in attribute(model, items, responses)]

    return Metric(name, measure, signature=signature_of(model))


attribution = partial(_metric, "attribution", lambda one: one.total)  # ln p(answer | contexts) - ln p(answer), in nats
by_statement = partial(_metric, "statement-attribution", per_statement)
