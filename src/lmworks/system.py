"""A built system, opened for use: `lmworks.open(workspace).ask("...")`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lmworks.artefact import CURRENT, StageContext, StageResult, hash_json, read_manifest
from lmworks.evaluate import suite
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.metric import Response
from lmworks.generate.protocol import SamplingParameters
from lmworks.ground.answer_record import to_interaction
from lmworks.ground.grounded_answer import Answerer, load_answerer
from lmworks.ground.phase_timer import Listener
from lmworks.ground.written_answer import GROUNDED, open_writer
from lmworks.model.download import digest_of_model
from lmworks.monitor.log import Log
from lmworks.prompt.prompt_file import prompt_hash
from lmworks.prompt.prompt_store import PROMPTS, PromptStore
from lmworks.records import QUERY_ENCODER, Answer, Interaction, TextOrMessages
from lmworks.stages import ANSWERER
from lmworks.versions import PRODUCTION, read_version
from lmworks.workspace import VERSION, Current, artefact_of, content_hashes, open_log

_EVIDENCE = ("cited", "abstained")  # verdicts on what an answer cites, and would cite if it had more confidence
SETTINGS = ("threshold", "writing")  # of how a system answers, which an arm of an experiment may change
ROUTE = "assistant"  # the name under which the log keeps answers from documents


class System:
    """A built system: its documents, index, models and calibration. Opened by `lmworks.open`.

    It belongs to the thread that opened it.
    """

    def __init__(self, workspace: Path, current: Current, answerer: Answerer, lineage: dict[str, str]) -> None:
        self.workspace = workspace
        self.current = current
        self.answerer = answerer
        self.lineage = lineage

    @cached_property
    def log(self) -> Log:
        """The log in which `ask` keeps interactions; opened when it is first needed."""
        return open_log(self.workspace, self.current.log)

    def take_up(self, current: Current) -> None:
        """Go on with the same build, of which more is made now; `lineage` names it from the next answer on."""
        self.current, self.lineage = current, {**self.lineage, **content_hashes(self.workspace, current)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that an answer is made from: artefacts and models."""
        return hash_json(self.lineage)

    def ask(self, question: str, say: Listener | None = None) -> Answer:
        """Answer from the documents, with citations, or abstain. It is logged: `lmworks lineage ID` explains it.

        Where a language model writes the answer, `say` gets each piece of it once it is verified.

        Raises ValueError for an empty question, ContextLengthError for one that the encoder would cut.
        """
        log = self.log  # a log that cannot be written is an error before the work, not after it
        answer, interaction = self.respond(question, say=say)
        log.record(interaction).result()
        return answer

    def respond(
        self,
        question: str,
        *,
        identifier: str = "",
        began: float | None = None,
        listener: Listener | None = None,
        say: Listener | None = None,
        queued: float | None = None,
        earlier: Sequence[str] = (),
        settings: Mapping[str, Any] = {},
        **about: Any,
    ) -> tuple[Answer, Interaction]:
        """An answer and the interaction to log, which is left to the caller.

        `identifier` names both (default: a fresh one); `began` is when the question came, in seconds since the epoch;
        `settings` of an arm are `threshold`, the confidence from which it answers, and `writing`, whether a model does.
        `about` are further fields of the `Interaction`, such as its conversation. For the others see
        `Answerer.respond`.
        """
        began = time.time() if began is None else began
        self.answerer.finder.encoder.count_uncut([question.encode("utf-8", "replace").decode()], "query")
        lineage = {**self.lineage, **({"settings": hash_json(settings)} if settings else {})}
        answerer, calibration = self.answerer, self.answerer.calibration
        if settings:
            calibration = replace(calibration, threshold=float(settings.get("threshold", calibration.threshold)))
            writer = answerer.writer if settings.get("writing", True) else None
            answerer = Answerer(answerer.finder, calibration, writer)
        answer, evidence = answerer.respond(
            question, lineage=lineage, listener=listener, say=say, queued=queued, earlier=earlier
        )
        answer = replace(answer, id=identifier) if identifier else answer
        tokenizer = self.answerer.finder.encoder.tokenizer  # in whose tokens the budget of a search is counted too
        index = self.lineage[next(name for name, use in self.current.uses.items() if use == "retrieve.index")]
        interaction = to_interaction(
            answer,
            evidence.passages,
            evidence.query_embedding,
            time=began,
            route=ROUTE,
            count_tokens=lambda text: len(tokenizer.encode(text)),
            index=index,
            earlier=earlier,
        )
        asked = prompt_hash(writer.prompts(GROUNDED)) if (writer := self.answerer.writer) else ""
        return answer, replace(interaction, prompt=asked, **about)


def open(workspace: str | Path, version: str = PRODUCTION) -> System:  # noqa: A001 - the public name is lmworks.open
    """Open what is live in a workspace, or another `version` of it, as `versions.read_version` names them.

    Raises FileNotFoundError, naming the command to run, when nothing is built there or the recipe built no answerer.
    """
    workspace = Path(workspace)
    current = read_version(workspace, version)
    index, calibration = (artefact_of(workspace, current, use) for use in ("retrieve.index", ANSWERER))
    lineage = content_hashes(workspace, current)
    for folder in (index, calibration):
        lineage |= {f"model:{role}": digest for role, digest in read_manifest(folder).models.items()}
    answerer = load_answerer(index, calibration, current.models)
    lineage[QUERY_ENCODER] = answerer.finder.encoder.fingerprint
    prompts = PromptStore(workspace / PROMPTS)
    if writer := open_writer(current.writing, current.models, answerer.finder.engines, prompts.live):
        answerer.writer, lineage["model:writer"] = writer, writer.fingerprint
        lineage["writing"] = hash_json(current.writing)
        if "verifier" in current.models:
            lineage["model:verifier"] = digest_of_model(Path(current.models["verifier"]))
    if current.version:
        lineage[VERSION] = current.version
    return System(workspace, current, answerer, lineage)


def evaluate_suite(config: SuiteConfig, context: StageContext) -> StageResult:
    """The stage `evaluate.suite`: the tasks of a suite, asked of a model, or of a system where that is a workspace."""
    path = Path(context.models.get("model", ""))
    if config.endpoint or not (path / CURRENT).is_file():
        return suite.evaluate(config, context)
    tasks = suite.read(config, context.base, suite.data_of(config, context))
    system = open(path)

    def answer(question: str, earlier: Sequence[str] = ()) -> Response:
        answered, event = system.respond(question, earlier=earlier)
        if answered.failure:  # quotes in the place of what is to be measured
            raise RuntimeError(f"the model that writes the answers failed at {question!r}: {answered.failure}")
        cited, proposed = ([one.evidence for one in answered.verdicts if one.verdict == kind] for kind in _EVIDENCE)
        return Response(
            answered.text,
            citations=tuple(cited),
            proposed=tuple(proposed),
            retrieved=event.retrieved,
            confidence=answered.confidence,
            abstained=answered.abstained,
        )

    def respond(prompts: Sequence[TextOrMessages], _: SamplingParameters) -> list[Response]:
        asked = [[one] if isinstance(one, str) else [m.content for m in one if m.role == "user"] for one in prompts]
        return [answer(questions[-1], questions[:-1]) for questions in asked]

    answers = suite.system_responses(tasks, answer)
    return suite.run(config, context, tasks, answers, {"system": system.fingerprint}, respond)
