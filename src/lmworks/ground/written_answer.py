"""Statements that a language model writes from numbered passages, each verified before it is said.

    passages    the most relevant ones that were found, numbered
    lines       a statement each, which ends in citations `[n]`; what it quotes is copied. Where the engine takes a
                constraint nothing else can be written; where it takes none, a line that breaks the rules is removed
    verdicts    each sentence of a statement must follow from what it cites, or else from another of the passages; and
                the statement and its evidence must answer the question, whatever a passage commands the model
    again       what does not is named to the model once, which may write others in its place

Attributed answers, as Bohnet et al. (2022, "Attributed question answering") and Gao et al. (2023, "Enabling large
language models to generate text with citations") measure them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmworks.adapt.adapter import load
from lmworks.artefact import hash_json
from lmworks.evaluate.metric import Verifier
from lmworks.evaluate.passage_selection import shingle_overlap
from lmworks.generate.constraint import CitedText, Constraint, Regex, locate
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.protocol import (
    ContextLengthError,
    Delta,
    EngineProtocol,
    Request,
    SamplingParameters,
    UnsupportedError,
)
from lmworks.generate.remote_engine import RemoteEngine
from lmworks.ground.answer_record import REMOVED
from lmworks.ground.config import WritingConfig
from lmworks.ground.phase_timer import Listener, Phases
from lmworks.ground.verification import Verification, verify_text
from lmworks.model.download import base_of_adapter, digest_of_model
from lmworks.model.model_costs import count_parameters
from lmworks.prompt.config import Prompt
from lmworks.prompt.filled_prompt import fill_prompt
from lmworks.prompt.prompt_file import built_in
from lmworks.records import Message, Retrieved, Span, Verdict
from lmworks.tokenizer.sentence_splitter import sentence_ranges

FAILURES = (RuntimeError, ValueError, OSError)  # of engines and endpoints: those of a network, too long a prompt
LARGE = 1_000_000_000  # parameters from which a model writes: what smaller ones write is mostly removed
LEAST_BITS = 2  # that a parameter takes in a file
REFUSAL = "I don't know."
GROUNDED, AGAIN = "grounded-answer", "grounded-answer-again"  # prompts
# P(a statement answers), a logistic regression on the reranker's logit, and where 98 % of the answers pass: fitted on
# questions of people with their answering sentences and foreign ones (docs/grounding.md#answers-written-by-a-model)
SLOPE, OFFSET, LEAST = 1.11, 2.29, 0.28
BEHIND = 3.5  # logits that evidence may stand behind the passages' best sentence: where 98 % of the answers do
LONGEST = 300  # characters of a sentence, before its citation
REPEATED = 0.6  # word-shingle overlap from which a statement repeats one before it
RERANKER = "minilm-reranker"  # it comes with lmworks; another one's logits would need another regression
_MARK = re.compile(r"\s*\[(\d+)\]")
_SENTENCE = re.compile(r"([.!?](?: \[\d+\])+|(?: \[\d+\])+[.!?]) +(?=[^\s\[])")
_LISTED = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+(?!\[)")
_FENCE = re.compile(r"<(?=\s*/?\s*passage)", re.IGNORECASE)  # around a passage in `GROUNDED`
_LINE = r'[^\[\]"\n]*[^\[\]"\s]( \[({numbers})\])+\.?'


@dataclass(frozen=True, slots=True)
class Statement:
    """A line without its marks, and the numbers that it cites, counted from 1: none where it breaks the rules.

    `quoted`: all that stands in quotation marks stands in a passage that it cites.
    """

    text: str
    numbers: tuple[int, ...]
    quoted: bool


def read_statement(line: str, passages: Sequence[str]) -> Statement:
    """Read a line in the form of `CitedText`, strictly: a model that no constraint held may have written anything."""
    line = _LISTED.sub("", line.strip(), count=1)
    text = re.sub(r"\s+(?=[.!?]$)", "", _MARK.sub("", line).strip())
    numbers = tuple(dict.fromkeys(map(int, _MARK.findall(line))))
    sound = text and "```" not in text and re.search(r"\[\d+\]\.?$", line)
    if not sound or not all(1 <= number <= len(passages) for number in numbers):
        return Statement(text, (), quoted=False)
    cited = [passages[number - 1] for number in numbers]
    _, *parts = re.split('["“”„‟«»]', text)
    quoted = len(parts) % 2 == 0 and all(any(any(locate(quote, passage)) for passage in cited) for quote in parts[::2])
    return Statement(f"{text}{'.' * text[-1].isalnum()}", numbers, quoted)


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that was found, the headings above it, and how relevant its best sentence is."""

    passage: Retrieved
    heading: str
    relevance: float


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes answers; `engine` gives the language model, made when it is first asked for, `prompts` the prompts
    `GROUNDED` and `AGAIN`.

    `logits` are a reranker's, of texts that may answer a question. Without a verifier, a statement counts as supported
    that its passages make likelier to the model itself.
    """

    config: WritingConfig
    engine: Callable[[], EngineProtocol]
    verifier: Verifier | None
    logits: Callable[[str, Sequence[str]], np.ndarray]
    fingerprint: str
    prompts: Callable[[str], Prompt] = built_in

    def write(
        self, question: str, sources: Sequence[Source], phases: Phases, say: Listener | None = None
    ) -> tuple[tuple[Verdict, ...], str]:
        """The verdicts on what was written, in its order; those that are "cited" are the answer, one a line. Then the
        failure that ended the writing, "" where it came to its end.

        `say` hears each line of the answer once it is verified; they join to its text.
        """
        read = sorted(sources, key=lambda source: -source.relevance)[: self.config.passages]
        sentences = [src.passage.text[start:end] for src in read for start, end in sentence_ranges(src.passage.text)]
        best = max(self.logits(question, sentences), default=-np.inf)
        verdicts: list[Verdict] = []
        history: list[Message] = []  # of the first attempt
        lines = self.config.statements
        try:
            for _ in range(2):
                written: list[str] = []
                removed: list[str] = []
                phases.begin("write")
                for line in self._lines(question, read, history, lines):
                    written.append(line)
                    if line.replace("’", "'").startswith(REFUSAL[:-1]):
                        break
                    phases.begin("verify")
                    verdict = self._judged(question, line, read, verdicts, best)
                    verdicts.append(verdict)
                    if verdict.verdict == "cited" and say:
                        say(answer_lines(verdicts)[-1])
                    elif verdict.verdict in REMOVED:
                        removed.append(verdict.text)
                    phases.begin("write")
                if not removed:
                    break
                lines = len(removed)
                values = {"removed": "\n".join(f"- {text}" for text in removed), "lines": lines, "refusal": REFUSAL}
                objection = fill_prompt(self.prompts(AGAIN), values).messages
                history = [Message("assistant", "\n".join(written)), *objection]
        except FAILURES as error:
            if not history or not isinstance(error, ContextLengthError):  # else there is no room for a second attempt
                return tuple(verdicts), f"{type(error).__name__}: {error}"
        return tuple(verdicts), ""

    def _lines(self, question: str, read: list[Source], history: Sequence[Message], lines: int) -> Iterator[str]:
        """Lines as they become complete. Passages that the model has no room for are taken off the end of `read`."""
        prompt, values = self.prompts(GROUNDED), {"question": question, "lines": lines, "refusal": REFUSAL}
        while True:
            rows = [{"heading": _fenced(source.heading), "text": _fenced(source.passage.text)} for source in read]
            filled = fill_prompt(prompt, values, rows)
            read[:] = [read[index] for index in filled.shown]
            try:
                texts = tuple(source.passage.text for source in read)
                return whole_lines(self._stream((*filled.messages, *history), texts, lines))
            except ContextLengthError:
                if history or len(read) == 1:
                    raise
                read.pop()

    def _stream(self, messages: tuple[Message, ...], texts: tuple[str, ...], lines: int) -> Iterator[Delta]:
        """Under the strictest constraint that the engine takes."""
        line = _LINE.format(numbers="|".join(str(number + 1) for number in range(len(texts))))
        wider = Regex(rf"{line}(\n{line}){{0,{lines - 1}}}|I don't know\.")
        for constraint in (CitedText(texts, lines, longest=LONGEST, refusal=REFUSAL), wider):
            with suppress(UnsupportedError):
                return self._begun(messages, constraint)
        return self._begun(messages, None)

    def _begun(self, messages: tuple[Message, ...], constraint: Constraint | None) -> Iterator[Delta]:
        sampling = SamplingParameters(max_tokens=self.config.max_tokens, constraint=constraint)
        return self.engine().stream(Request(messages=messages, sampling=sampling))

    def _judged(
        self, question: str, line: str, read: Sequence[Source], before: Sequence[Verdict], best: float
    ) -> Verdict:
        """A statement is cited when it answers and every sentence of it is supported: by what it cites, or else by the
        others. That evidence answers too, by a logit near the `best`: what repeats the question answers nothing."""
        statement = read_statement(line, [source.passage.text for source in read])
        cited = [read[number - 1] for number in statement.numbers]
        first = (cited or read)[0]
        evidence, uri = replace(first.passage.span, end=first.passage.span.start), first.passage.uri
        (logit,) = self.logits(question, [statement.text])
        answers = _probability(logit)
        verdict = Verdict(statement.text, "generated", evidence, uri, answers, None, "unsupported")
        known = set(re.findall(r"\w+", question.lower()))
        if cited and known.issuperset(re.findall(r"\w+", statement.text.lower())):
            return verdict  # it says the question again
        if any(shingle_overlap(statement.text, earlier.text) >= REPEATED for earlier in before):
            return replace(verdict, verdict="repeated")
        if not cited or not statement.quoted:
            return replace(verdict, verdict="not a quote") if cited else verdict
        checks = self._checked(question, statement.text, cited)
        uncited = [source for source in read if source not in cited]
        if uncited and not _hold(checks):
            again = self._checked(question, statement.text, uncited)
            checks = again if _hold(again) else checks
        supporting = next((check.evidence for check in checks if check.evidence is not None), evidence)
        source = next((source for source in read if source.passage.span.overlap(supporting)), first)
        supports = [check.support for check in checks if check.support is not None]
        spans = [check.evidence for check in checks if check.evidence is not None]
        evident = [_sentences_at(src.passage, span) for span in spans for src in read if src.passage.span.overlap(span)]
        evidence_logit = max(self.logits(question, evident), default=-np.inf)
        if all(check.reason == "quoted" for check in checks):  # a few words answer as well as their sentence
            answers = max(answers, _probability(evidence_logit))
        answering = answers >= LEAST and evidence_logit >= best - BEHIND
        return replace(
            verdict,
            evidence=supporting,
            uri=source.passage.uri,
            relevance=answers,
            support=min(supports, default=None),
            verdict="unsupported" if not _hold(checks) else "cited" if answering else "not an answer",
        )

    def _checked(self, question: str, text: str, sources: Sequence[Source]) -> list[Verification]:
        passages = [(source.passage.text, source.passage.span) for source in sources]
        model = None if self.verifier else self.engine()
        return [verification for _, verification in verify_text(text, passages, self.verifier, model, question)]


def _hold(checks: Sequence[Verification]) -> bool:
    return all(check.verdict == "supported" for check in checks)


def _probability(logit: float) -> float:
    return float(1 / (1 + np.exp(-OFFSET - SLOPE * logit)))


def _sentences_at(passage: Retrieved, span: Span) -> str:
    """The sentences of a passage that a span touches: a quote of some words answers no better than its sentence."""
    first, last = span.start - passage.span.start, span.end - passage.span.start
    touched = [sentence for sentence in sentence_ranges(passage.text) if sentence[0] < last and first < sentence[1]]
    return passage.text[touched[0][0] : touched[-1][1]] if touched else ""


def _fenced(text: str) -> str:
    """A text that closes no fence of the prompt and opens none."""
    return _FENCE.sub("‹", text)


def answer_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """The lines of an answer that was written, each with its mark, and all but the first after a line break."""
    cited = [verdict for verdict in verdicts if verdict.verdict == "cited"]
    return [f"{chr(10) if number > 1 else ''}{claim.text} [{number}]" for number, claim in enumerate(cited, start=1)]


def whole_lines(deltas: Iterator[Delta]) -> Iterator[str]:
    """Lines as they become complete; one of several cited sentences is as many lines."""
    unfinished = ""
    for delta in deltas:
        *lines, unfinished = _SENTENCE.sub(r"\1\n", f"{unfinished}{delta.text}").split("\n")
        yield from filter(str.strip, lines)
    if unfinished.strip():
        yield unfinished


# ---------------------------------------------------------------------------------------------------------------------


class Engines(dict[str, EngineProtocol]):
    """Engines by the paths of their models, each opened when it is first asked for: one for all that use a model."""

    def __missing__(self, path: str) -> EngineProtocol:
        from lmworks.generate.engine import Engine  # and what it needs: most answers are quotes

        self[path] = engine = Engine(load(path), slots=1, device="auto")
        return engine


def open_writer(
    config: WritingConfig,
    models: Mapping[str, str],
    engines: Engines,
    prompts: Callable[[str], Prompt] = built_in,
) -> Writer | None:
    """The writer of a recipe's models by role; None where the configuration says that none writes.

    Raises ValueError for an endpoint without a verifier, and for a recipe without an assistant that is to write always.
    """
    if config.write == "never":
        return None
    verifier = CrossEncoder(load(models["verifier"])) if "verifier" in models else None
    if config.endpoint:
        if verifier is None:
            raise ValueError('what an endpoint writes needs a verifier: [models] verifier = "minilm-verifier"')
        logits = CrossEncoder(load(RERANKER)).relevance
        remote = RemoteEngine(config.endpoint, config.model, config.api_key(), config.extensions)
        return Writer(config, lambda: remote, verifier, logits, hash_json([config.endpoint, config.model]), prompts)
    path = models.get("assistant")
    if config.write == "always" and path is None:
        raise ValueError('writing.write = "always" needs a language model: [models] assistant = "..."')
    if path is None or (config.write == "auto" and not is_large(Path(path))):
        return None
    logits = CrossEncoder(load(RERANKER)).relevance
    return Writer(config, lambda: engines[path], verifier, logits, digest_of_model(Path(path)), prompts)


def is_large(path: Path) -> bool:
    """Whether a model has `LARGE` parameters; it is not opened where its files are too small for them."""
    files = [path] if path.is_file() else path.rglob("*")
    if base_of_adapter(path) is None and sum(file.stat().st_size for file in files) * 8 < LARGE * LEAST_BITS:
        return False
    return count_parameters(load(path).config) >= LARGE
