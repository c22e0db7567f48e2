"""A prompt with values in its slots: messages, and which characters of them are which part.

    filled = fill_prompt(prompt, {"question": "Where is my parcel?"}, count=count, passages=[{"text": "..."}])
    engine.generate([filled.request()])

Values are data. Each is put in once, into the content of one message: braces in it are no slot, and the chat renderer
(`tokenizer/chat.py`) lets no content become a turn or a special token.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lmworks.evaluate.passage_selection import fitting, unlike
from lmworks.generate.protocol import ContextLengthError, Request, SamplingParameters
from lmworks.prompt.config import SLOT, Context, Prompt, Value
from lmworks.prompt.few_shot import Encode, choose_examples
from lmworks.prompt.prompt_file import prompt_hash
from lmworks.records import Message, PromptSpan

if TYPE_CHECKING:
    from lmworks.model.checkpoint import Checkpoint

CountTokens = Callable[[str], int]
Passage = Mapping[str, str]  # the columns of a context's template, `text` among them; the most relevant first


@dataclass(frozen=True, slots=True)
class FilledPrompt:
    """Messages of a prompt, `spans` of its parts in them, the places of the passages as they are `shown`, and why each
    other one was left out.

    `tokens` are those of each part, encoded by itself; empty where nothing counted them.
    """

    prompt: Prompt
    hash: str
    messages: tuple[Message, ...]
    spans: tuple[PromptSpan, ...]
    shown: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    tokens: Mapping[str, int] | None = None

    def request(self, *, enforced: bool = True, seed: int | None = None) -> Request:
        """The request to an engine; unless `enforced`, its answer may have any form."""
        own = {one.name: getattr(self.prompt.sampling, one.name) for one in fields(self.prompt.sampling)}
        form = self.prompt.format if enforced else None
        constraint = None if form is None else form.constraint
        return Request(messages=self.messages, sampling=SamplingParameters(**own, constraint=constraint, seed=seed))


def fill_prompt(
    prompt: Prompt,
    values: Mapping[str, Value],
    passages: Sequence[Passage] = (),
    *,
    earlier: Sequence[Message] = (),
    count: CountTokens | None = None,
    encode: Encode | None = None,
) -> FilledPrompt:
    """Fill a prompt. `earlier` turns stand between the examples and the input.

    `count` says how many tokens a text has: budgets need it. `encode` gives vectors of texts, (n, width), rows of
    length 1: examples that are chosen by similarity need it. ValueError names the slot that is unknown, missing or of
    another type, the column that a passage lacks, and what is to be given.
    """
    said = slot_texts(prompt, values)
    if (prompt.context.tokens or prompt.examples.tokens) and count is None:
        raise ValueError(f"{prompt.name} has a budget of tokens: name the model whose tokens count")
    turns = _Turns()
    system = [(part, _put(prompt.templates[part], said)) for part in ("instruction", "format", "guard")]
    turns.add("system", [(part, text) for part, text in system if text.strip()])
    question = _put(prompt.input, said)
    for row in choose_examples(prompt, question, count, encode):
        shown = slot_texts(prompt, {**values, **{name: row[name] for name in row if name in prompt.slots}})
        turns.add("user", [("examples", _put(prompt.input, shown))])
        turns.add("assistant", [("examples", str(row["answer"]))])
    for message in earlier:
        turns.messages.append(message)
    shown, left_out = choose_passages(prompt.context, passages, count)
    rows = [{**passages[place], "number": str(number)} for number, place in enumerate(shown, 1)]
    context = "\n\n".join(_put(prompt.context.template, row) for row in rows)
    turns.add("user", [*([("context", context)] if rows else []), ("input", question)])
    tokens: dict[str, int] | None = None
    if count is not None:
        tokens = {}
        for one in turns.spans:
            text = turns.messages[one.message].content[one.start : one.end]
            tokens[one.part] = tokens.get(one.part, 0) + count(text)
    made = tuple(turns.messages), tuple(turns.spans)
    return FilledPrompt(prompt, prompt_hash(prompt), *made, tuple(shown), tuple(left_out), tokens)


def token_counter(checkpoint: "Checkpoint") -> CountTokens:
    tokenizer = checkpoint.required_tokenizer
    return lambda text: len(tokenizer.encode(text))


def check_length(filled: FilledPrompt, checkpoint: "Checkpoint", most: int | None = None) -> None:
    """ContextLengthError for a prompt that leaves no room for its answer in the model's context, or in `most`."""
    most = most or checkpoint.config.context_length
    size = len(checkpoint.chat.render(filled.messages, add_generation_prompt=True).ids)
    if size + filled.prompt.sampling.max_tokens > most:
        parts = ", ".join(f"{part} {tokens}" for part, tokens in (filled.tokens or {}).items())
        raise ContextLengthError(
            f"{filled.prompt.name} has {size} tokens ({parts}) and an answer of up to "
            f"{filled.prompt.sampling.max_tokens}, and the context is {most}: lower the budgets of context and "
            "examples, or sampling.max_tokens"
        )


class _Turns:
    """Messages that grow, each of parts with an empty line between them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.spans: list[PromptSpan] = []

    def add(self, role: str, parts: Sequence[tuple[str, str]]) -> None:
        content = ""
        for part, text in parts:
            content += "\n\n" if content else ""
            self.spans.append(PromptSpan(part, len(self.messages), len(content), len(content) + len(text)))
            content += text
        if parts:
            self.messages.append(Message(role, content))  # type: ignore[arg-type]


def slot_texts(prompt: Prompt, values: Mapping[str, Value]) -> dict[str, str]:
    """The text of each slot; ValueError for an unknown, missing or wrong value, with the slot's name."""
    check_slots(prompt, values)
    given = {name: values.get(name, slot.default) for name, slot in prompt.slots.items()}
    return {name: prompt.slots[name].text(name, value) for name, value in given.items()}


def check_slots(prompt: Prompt, names: Iterable[str]) -> None:
    """ValueError for names that are no slots of the prompt, and for slots without a default that are not named."""
    names = set(names)
    there = ", ".join(sorted(prompt.slots)) or "none"
    if unknown := sorted(names - set(prompt.slots)):
        raise ValueError(f"{prompt.name} has no slot {unknown[0]}; its slots: {there}")
    if missing := sorted(name for name, slot in prompt.slots.items() if slot.default is None and name not in names):
        raise ValueError(f"the slot {missing[0]} of {prompt.name} has no value: give it, or a default in [slots]")


def _put(template: str, said: Mapping[str, str]) -> str:
    return SLOT.sub(lambda found: said[found[1]], template)


def choose_passages(
    context: Context, passages: Sequence[Passage], count: CountTokens | None
) -> tuple[list[int], list[str]]:
    """The places of the passages that are shown, in their order, and why each other one is not.

    ValueError where there are passages and no template, or a passage lacks a column of it.
    """
    if passages and not context.template:
        raise ValueError("the prompt shows no passages: write [context] template")
    columns = set(SLOT.findall(context.template)) - {"number"}
    for place, passage in enumerate(passages, 1):
        if lacking := sorted(columns - set(passage)):
            raise ValueError(f"passage {place} has no column {lacking[0]}, which [context] template shows")
    kept = list(range(len(passages)))
    left_out = []
    if context.duplicates:
        kept = unlike([passage.get("text", "") for passage in passages], context.duplicates)
        left_out = [f"passage {place + 1}: like a better one" for place in range(len(passages)) if place not in kept]
    if context.tokens and count is not None:
        sizes = [count(_put(context.template, {**passages[place], "number": "1"})) for place in kept]
        chosen = [kept[one] for one in fitting(sizes, context.tokens)]
        left_out += [
            f"passage {place + 1}: no room in {context.tokens} tokens" for place in kept if place not in chosen
        ]
        kept = chosen
    if context.order == "edges":
        kept = [*kept[::2], *reversed(kept[1::2])]
    return (kept[::-1] if context.order == "best last" else kept), left_out
