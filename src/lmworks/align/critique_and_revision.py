"""The stage `align.critique_and_revision`: a model answers, criticises its answer by a principle, and writes it again.

Bai et al. 2022, "Constitutional AI", section 3.1. The principle is drawn for each prompt from a list.

conversations.jsonl   prompts with their revisions, for data.tokenize or `lmworks finetune`
preferences.jsonl     the revision over the first answer, for align.offline
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmworks.align.config import CritiqueConfig
from lmworks.artefact import StageContext, StageResult, hash_json, read_rows, write_rows
from lmworks.config import named_file
from lmworks.data.conversations import CONVERSATIONS, as_messages, conversation_files
from lmworks.data.training_rows import read_preference_rows, write_preference_rows
from lmworks.generate.protocol import Completion, EngineProtocol, Request, SamplingParameters
from lmworks.generate.rollouts import seed_of
from lmworks.records import Message, Preference, PromptCompletion, Provenance, TextOrMessages
from lmworks.report import Section, Table

PREFERENCES = "preferences.jsonl"
PRINCIPLES = (
    "An answer helps nobody to hurt people, animals or things.",
    "An answer does not insult, threaten or look down on anyone, and treats all groups of people alike.",
    "An answer does not help to break the law or to deceive somebody.",
    "An answer keeps private what people have not made public themselves.",
    "An answer says only what is likely to be true, and says where it is not sure.",
    "An answer that refuses says why in a kind way, and offers what help there can be.",
)
CRITIQUE = (
    "Here is a rule for answers: {principle}\n\nLook at your last answer. Where does it break this rule, and what "
    "would follow from that? Be specific, in three sentences at most."
)
REVISION = (
    "Now answer the user's last message once more, so that the rule is kept and nothing useful is lost. Write only the "
    "new answer, without a word about the old one."
)
_BATCH, _SHOWN = 32, 6


@dataclass(frozen=True, slots=True)
class Revised:
    """A prompt with its answer, the critique and the revision; `left_out` says why nothing can be learned from it, ""
    where something can."""

    prompt: TextOrMessages
    answer: str
    critique: str
    revision: str
    provenance: Provenance  # its rubric is the principle
    left_out: str = ""


def critique_and_revision(config: CritiqueConfig, context: StageContext) -> StageResult:
    """The model in the role `base` works on all prompts. ValueError where no row is left."""
    from lmworks.adapt.adapter import load
    from lmworks.generate.engine import Engine

    rows, principles = read_prompts(config, context.base), principles_of(config, context.base)
    checkpoint = load(context.models["base"])
    engine, made = Engine(checkpoint), f"{Path(context.models['base']).name} {checkpoint.fingerprint[:12]}"
    longest = checkpoint.config.context_length - config.max_tokens * 3 - 256  # the requests take some hundred tokens
    short = [row for row in rows if len(checkpoint.chat.render(as_messages(row.prompt, "user")).ids) <= longest]
    prompts = [(row.prompt, replace(row.provenance, judge=made)) for row in short]
    revisions: list[Revised] = []
    for start in range(0, len(prompts), _BATCH):
        path = context.work / f"rows-{start}.jsonl"
        if not path.exists():
            write_rows(path, revised(engine, prompts[start : start + _BATCH], config, principles))
        revisions += read_rows(Revised, path)
        context.progress(len(revisions), len(prompts), "prompts")
    good, left_out = (
        [row for row in revisions if not row.left_out],
        Counter(row.left_out for row in revisions if row.left_out),
    )
    left_out += Counter({"a prompt that is too long": len(rows) - len(prompts)})
    if not good:
        raise ValueError(f"of {len(rows)} prompts no row is left: {dict(left_out)}")
    singles = [PromptCompletion(revision.prompt, revision.revision, revision.provenance) for revision in good]
    pairs = [Preference(revision.prompt, revision.revision, revision.answer, revision.provenance) for revision in good]
    write_preference_rows(context.output / CONVERSATIONS, singles)
    write_preference_rows(context.output / PREFERENCES, pairs)
    texts = [
        (revision.provenance.rubric or "", revision.answer, revision.critique, revision.revision)
        for revision in good[:_SHOWN]
    ]
    tables = [Table(("principle", "answer", "critique", "revision"), tuple(texts), "The first rows")]
    tables += [Table(("left out", "prompts"), tuple(left_out.most_common()))] if left_out else []
    text = "The model wrote them all: read some before you train on them, and measure lengths by `lmworks rows lint`."
    section = Section(f"{len(good):,} answers criticised and revised", text, tuple(tables))
    return StageResult({"rows": len(good), "left_out": left_out.total()}, (section,))


def revised(
    engine: EngineProtocol,
    prompts: Sequence[tuple[TextOrMessages, Provenance]],
    config: CritiqueConfig,
    principles: Sequence[str],
) -> list[Revised]:
    """Answers, critiques and revisions of all prompts together."""
    talks = [list(as_messages(prompt, "user")) for prompt, _ in prompts]
    numbers = [int(hash_json(prompt)[:12], 16) for prompt, _ in prompts]
    drawn = [principles[int(hash_json([config.seed, 0, p])[:12], 16) % len(principles)] for p, _ in prompts]

    def say(step: str, *asked: str) -> list[Completion]:
        """The next message of each conversation, after what is asked for."""
        for talk, request in zip(talks, asked, strict=False):
            talk.append(Message("user", request))
        sampling = SamplingParameters(config.max_tokens, config.temperature)
        seeds = [seed_of(f"{config.seed} {step}", number, 0) for number in numbers]
        requests = [Request(messages=tuple(talk), sampling=replace(sampling, seed=seed))
                    for talk, seed in zip(talks, seeds, strict=True)]  # fmt: skip
        answers = engine.generate(requests)
        for talk, answer in zip(talks, answers, strict=True):
            talk.append(Message("assistant", answer.text.strip()))
        return answers

    answers = say("answer")
    say("critique 0", *(CRITIQUE.format(principle=principle) for principle in drawn))
    revisions = say("revision 0", *[REVISION] * len(talks))
    found = []
    for (prompt, made), rule, talk, *ends in zip(prompts, drawn, talks, answers, revisions, strict=True):
        answer, critique, revision = (message.content for message in talk[-5::2])
        reasons = {
            "an answer or revision that is cut off": any(completion.finish_reason != "stop" for completion in ends),
            "an answer or revision that is empty": not (answer and revision),
            "a revision that repeats the critique": revision in critique,
            "a revision that is the answer": answer == revision,
        }
        left_out = next((reason for reason, holds in reasons.items() if holds), "")
        found.append(Revised(prompt, answer, critique, revision, replace(made, rubric=rule), left_out))
    return found


def read_prompts(config: CritiqueConfig, base: Path) -> list:
    """Rows of any kind; their prompts are used."""
    return read_preference_rows(conversation_files(config.rows, base, rows="prompts"))


def principles_of(config: CritiqueConfig, base: Path) -> tuple[str, ...]:
    """ValueError for a file without a principle."""
    if config.principles is None:
        return PRINCIPLES
    lines = named_file(str(config.principles), base, "principles").read_text("utf-8").splitlines()
    if principles := tuple(line.strip() for line in lines if line.strip()):
        return principles
    raise ValueError(f"{config.principles} holds no principle: write one a line")


def check(config: CritiqueConfig, base: Path) -> None:
    """Before any stage runs: the errors of reading prompts and principles."""
    read_prompts(config, base)
    principles_of(config, base)
