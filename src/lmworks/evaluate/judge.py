"""A language model as a judge, read from its log-probabilities: no text is sampled, none is parsed.

A rubric asks one question about a row and allows a few verdicts. Each verdict is scored as the model's whole answer, up
to the token that ends it, and the probabilities are the softmax over the allowed ones: exact, the same every time, and
whatever else the model would rather write is no verdict. `value` is G-Eval's (Liu et al. 2023, section 2.3),
sum over s of p(s) s.

    judge = Judge(Engine(lmworks.load("smollm2-135m-instruct")), rubric("truthfulness"))
    judge.judgements([{"prompt": "What is under Denver Airport?", "response": "A city of lizards."}])

A pairwise rubric names {first} and {second} and is asked in both orders: p is the mean of both, seen from the first.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmworks.artefact import hash_json, read_json
from lmworks.config import from_mapping, unknown
from lmworks.evaluate.metric import Item, Metric, Need, Response, Value, prompt_text
from lmworks.generate.protocol import MOST_ALTERNATIVES as MOST
from lmworks.generate.protocol import EngineProtocol, Request, SamplingParameters, UnsupportedError
from lmworks.progress import Report, no_report
from lmworks.records import Message, Score, Unscored

if TYPE_CHECKING:
    from lmworks.model.checkpoint import Checkpoint

JUDGE = "judge.json"  # in the folder of a calibration
RUBRICS = Path(__file__).with_name("rubrics")
_MAY_BE_EMPTY = ("response", "first", "second")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_BATCH = 32  # rows between two reports of progress
_NO_PROBABILITIES = "the endpoint gives no log-probabilities: name one with `top_logprobs`, or use the local Engine"


@dataclass(frozen=True, slots=True)
class Rubric:
    """A question to a judge, and the answers that it may give.

    prompt        text with {fields} of a row: {response}, or {first} and {second} of a pair, and such as {prompt},
                  {reference}, {context}. It says which verdicts there are; what all rows share stands first.
    verdicts      the allowed answers, each with its value
    paraphrases   the same prompt in other words. They judge nothing: calibration measures how much wording matters.

    ValueError for what cannot be judged by.
    """

    name: str
    prompt: str
    verdicts: Mapping[str, float]
    paraphrases: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        texts, values = list(self.verdicts), self.values
        if any(not text or text != " ".join(text.split()) for text in texts):
            raise ValueError(f"verdicts are words without white space around them, got {texts}")
        if len(set(values)) < 2 or not np.isfinite(values).all():
            raise ValueError(f"a rubric needs verdicts of two different finite values at least, got {self.verdicts}")
        if both := next(((a, b) for a in texts for b in texts if a != b and b.startswith(a)), None):
            raise ValueError(
                f"the verdict {both[0]!r} is the beginning of {both[1]!r}, so that where an answer ends would decide "
                "between them: take others, such as letters (A, B, C) or a scale of single digits"
            )
        if ("response" in self.fields) == ({"first", "second"} <= self.fields):
            raise ValueError("the prompt of a rubric has the field {response}, or both of {first} and {second}")
        centred = np.sort(values - (values.max() + values.min()) / 2)
        if self.pairwise and (len(set(values)) < len(texts) or abs(centred + centred[::-1]).max() > 1e-9):
            raise ValueError("values of a pairwise rubric mirror each other, such as A = 1, tie = 0.5, B = 0")
        if any(set(_FIELD.findall(text)) != self.fields for text in self.paraphrases):
            raise ValueError(f"a paraphrase has other fields than the prompt: {', '.join(sorted(self.fields))}")

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(_FIELD.findall(self.prompt))

    @property
    def pairwise(self) -> bool:
        return "first" in self.fields

    @property
    def values(self) -> np.ndarray:
        """(verdicts,) float64"""
        return np.array(list(self.verdicts.values()), dtype=np.float64)

    @property
    def mirror(self) -> np.ndarray:
        """For each verdict on a pair, the place of that which says the same of the pair in the other order."""
        return abs(self.values.max() + self.values.min() - self.values[:, None] - self.values).argmin(axis=1)

    @property
    def hash(self) -> str:
        """Content hash of what judges: the prompt and the verdicts, in whatever order."""
        return hash_json({"prompt": self.prompt, "verdicts": {v: float(x) for v, x in self.verdicts.items()}})[:16]

    def render(self, row: Mapping[str, str]) -> str:
        """The prompt with the row's texts in it, in which nothing is a field."""
        return _FIELD.sub(lambda match: row[match[1]], self.prompt)

    def check(self, rows: Sequence[Mapping[str, str]]) -> None:
        """ValueError, with row and remedy, for one without a field that the prompt has."""
        for number, row in enumerate(rows, 1):
            for name in sorted(self.fields):
                if not isinstance(text := row.get(name), str) or not (text.strip() or name in _MAY_BE_EMPTY):
                    raise ValueError(
                        f"row {number} has {'an empty' if isinstance(text, str) else 'no text'} {name}, by which "
                        f"{self.name} is judged: fill it, drop the row, or take a rubric without {{{name}}}"
                    )


def rubric(source: str | Path) -> Rubric:
    """A rubric by the name of one that comes with lmworks, or from a TOML file with the fields of `Rubric`."""
    built_in = sorted(path.stem for path in RUBRICS.glob("*.toml"))
    path = RUBRICS / f"{source}.toml" if source in built_in else Path(source)
    if not path.is_file():
        raise LookupError(f"{unknown('rubric', str(source), built_in)}; or name a TOML file")
    return from_mapping(Rubric, tomllib.loads(path.read_text("utf-8")), [str(source)])


def measured_judge(text: str) -> "Judge":
    """The judge that MODEL:RUBRIC:CALIBRATION names, of which MODEL is as `open_engine` takes it. ValueError without
    the folder of its calibration, and for one that `calibrated` refuses."""
    from lmworks.generate.remote_engine import open_engine

    model, *rest = text.rsplit(":", 2)
    if len(rest) < 2 or not all((model, *rest)):
        raise ValueError(
            f"judge {text!r}: give MODEL:RUBRIC:FOLDER, with the folder that `lmworks judge calibrate` made"
        )
    return Judge(open_engine(model), rubric(rest[0]), calibration=rest[1])


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a row, or on a pair in both orders.

    value           sum of the values of the verdicts, weighted by their probabilities
    verdict         the most probable one, with the probability `confidence`
    probabilities   of the verdicts in the rubric's order; they sum to 1
    mass            probability under the model of any allowed verdict: the rest it would answer in other words
    consistent      whether both orders of a pair have the same verdict; None for a single response
    preference      by how much the pair's first place is preferred to its second whoever stands there, in values
    """

    value: float
    verdict: str
    confidence: float
    probabilities: tuple[float, ...]
    mass: float
    consistent: bool | None = None
    preference: float = 0.0


@dataclass(frozen=True)
class Judge:
    """A model with a rubric.

    checkpoint    whose tokenizer and chat template the prompts are rendered by; None: the engine's own. A model without
                  a template reads the prompt as plain text, and a line break ends its answer.
    calibration   the folder of its calibration, for a gate: ValueError for one that `calibrated` refuses

    An endpoint that cannot score continuations, or whose tokenizer is not known, is read by the most probable tokens at
    the first place of its answer; a verdict that is not among them has the probability 0. `UnsupportedError` where it
    gives none. ValueError for verdicts that begin with the same token: what follows it would decide.
    """

    engine: EngineProtocol
    rubric: Rubric
    checkpoint: "Checkpoint | None" = None
    calibration: str | Path | None = None
    progress: Report = field(default=no_report, repr=False)

    def __post_init__(self) -> None:
        if self.reader is not None:
            _ = self._continuations  # refuses verdicts before a row is read
        if self.calibration is not None:
            calibrated(self.calibration, self.rubric, self.fingerprint)

    @cached_property
    def reader(self) -> "Checkpoint | None":
        """Whose tokens are scored; None where the first place of an answer is read instead."""
        known = self.checkpoint or getattr(self.engine, "checkpoint", None)
        return known if self.engine.capabilities.score else None

    @cached_property
    def fingerprint(self) -> str:
        return model_fingerprint(self.engine)

    @property
    def signature(self) -> dict[str, Any]:
        template = hash_json(self.reader.chat_template)[:16] if self.reader else "the endpoint's"
        reading = "continuations" if self.reader else f"first place, {MOST} alternatives"
        return {"rubric": self.rubric.hash, "model": self.fingerprint, "template": template, "reading": reading}

    def judgements(self, rows: Sequence[Mapping[str, str]]) -> list[Judgement | Unscored]:
        """A judgement for each row, in order, of a pair from both orders; `Unscored` for a row that cannot be read,
        such as one that is longer than the model's context."""
        orders = [self._read(rows)]
        if self.rubric.pairwise:
            orders.append(self._read([{**row, "first": row["second"], "second": row["first"]} for row in rows]))
        return [self._judgement(read) for read in zip(*orders, strict=True)]

    def _judgement(self, orders: Sequence[np.ndarray | Unscored]) -> Judgement | Unscored:
        """From ln p of the verdicts in one order, or in both."""
        from scipy.special import softmax

        if unread := next((read for read in orders if isinstance(read, Unscored)), None):
            return unread
        texts, values, mirror = list(self.rubric.verdicts), self.rubric.values, self.rubric.mirror
        each = softmax(np.array(orders), axis=1)  # (orders, verdicts)
        mass = float(np.exp(np.array(orders)).sum(axis=1).mean())
        consistent, preference, p = None, 0.0, each[0]
        if len(each) == 2:
            consistent = bool(each[0].argmax() == mirror[each[1].argmax()])
            preference = float((each @ values).mean() - (values.max() + values.min()) / 2)
            p = (each[0] + each[1][mirror]) / 2
        best = int(p.argmax())
        return Judgement(float(p @ values), texts[best], float(p[best]), (*p.tolist(),), mass, consistent, preference)

    def _read(self, rows: Sequence[Mapping[str, str]]) -> list[np.ndarray | Unscored]:
        """For each row ln p of each verdict, (verdicts,)."""
        self.rubric.check(rows)
        read = self._scores if self.reader else self._first_places
        found: list[np.ndarray | Unscored] = []
        for start in range(0, len(rows), _BATCH):
            found += read([self.rubric.render(row) for row in rows[start : start + _BATCH]])
            self.progress(len(found), len(rows), "rows judged")
        return found

    def _scores(self, prompts: Sequence[str]) -> Iterator[np.ndarray | Unscored]:
        assert self.reader is not None
        shared, verdicts = self._continuations
        most = (self.engine.capabilities.context_length or 1 << 62) - max(map(len, verdicts))
        contexts = [(*_prompt(self.reader, prompt), *shared) for prompt in prompts]
        pairs = [(context, verdict) for context in contexts if len(context) <= most for verdict in verdicts]
        scores = iter(self.engine.score([c for c, _ in pairs], [v for _, v in pairs]))
        for context in contexts:
            if len(context) <= most:
                yield np.array([next(scores).total for _ in verdicts], dtype=np.float64)
            else:
                yield Unscored(f"{len(context)} tokens with the rubric, and the judge reads {most} at most")

    @cached_property
    def _continuations(self) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """White space that all verdicts begin with, which belongs to the context (as a factor of each of them it leaves
        the softmax as it is), and the rest of each, with the token that ends the answer."""
        assert self.reader is not None
        whole = [_answer(self.reader, text) for text in self.rubric.verdicts]
        decode = self.reader.required_tokenizer.decode
        shared = 0
        while len({ids[shared] for ids in whole}) == 1 and not decode(whole[0][: shared + 1]).strip():
            shared += 1
        begins: dict[int, str] = {}
        for text, ids in zip(self.rubric.verdicts, whole, strict=True):
            if (other := begins.setdefault(ids[shared], text)) != text:
                raise ValueError(
                    f"the verdicts {other!r} and {text!r} begin with the same token of this model, "
                    f"{decode([ids[shared]])!r}, so its continuation would decide: take verdicts that begin "
                    "differently, such as letters (A, B, C)"
                )
        return whole[0][:shared], [ids[shared:] for ids in whole]

    def _first_places(self, prompts: Sequence[str]) -> Iterator[np.ndarray | Unscored]:
        """From the alternatives at the first place: a token counts for the one verdict that it is a beginning of."""
        from lmworks.generate.remote_engine import NoLogProbabilitiesError

        sampling = SamplingParameters(max_tokens=1, alternatives=MOST)
        try:
            found = self.engine.generate([Request(messages=(Message("user", p),), sampling=sampling) for p in prompts])
        except NoLogProbabilitiesError as error:
            raise UnsupportedError(_NO_PROBABILITIES) from error
        for completion in found:
            if not completion.tokens or not completion.tokens[0].alternatives:
                raise UnsupportedError(_NO_PROBABILITIES)
            p = np.zeros(len(self.rubric.verdicts))
            for _, text, value in completion.tokens[0].alternatives:
                begun = [verdict.startswith(text.strip()) for verdict in self.rubric.verdicts]
                if sum(begun) == 1:
                    p[begun.index(True)] += np.exp(value)
            with np.errstate(divide="ignore"):
                yield np.log(p) if p.any() else Unscored("no verdict is among the first tokens that the endpoint names")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Findings about a judge of a rubric, both by their hashes. `useful`: it is better than the most frequent answer,
    beyond the uncertainty, and `verdict` says so in words. Above `threshold` its value says that a response is good."""

    model: str
    rubric: str
    rubric_name: str
    n: int
    useful: bool
    verdict: str
    threshold: float
    figures: Mapping[str, Score]
    clusters: int = 0  # of rows that are not independent


def calibrated(folder: str | Path | None, by: Rubric, model: "EngineProtocol | Checkpoint | str") -> Calibration:
    """The calibration of a judge, for those who act on its word: a gate, an experiment, a reward.

    ValueError, with the command to run, where there is none in the folder for this rubric and this model (an engine, a
    checkpoint, or a fingerprint), and where it was found to be no better than guessing.
    """
    command = f"`lmworks judge calibrate ROWS.jsonl --rubric {by.name} --model MODEL --out FOLDER` on labelled rows"
    path, fingerprint = Path(folder or "") / JUDGE, model_fingerprint(model)
    if folder is None or not path.is_file():
        missing = "give --calibration FOLDER" if folder is None else f"{folder} holds no {JUDGE}"
        raise ValueError(f"a judge decides nothing before it is calibrated ({missing}): first run {command}")
    found = from_mapping(Calibration, read_json(path), [str(path)])
    if (found.rubric, found.model) != (by.hash, fingerprint):
        which = f"model ({found.model[:12]}…, not {fingerprint[:24]}; `calibrated` takes an engine or a checkpoint)"
        other = "wording of a rubric" if found.rubric != by.hash else which
        raise ValueError(f"{folder} is the calibration of another {other}: run {command}")
    if not found.useful:
        raise ValueError(f"{folder}: this judge is {found.verdict}: take another model or rubric, and run {command}")
    return found


def model_fingerprint(model: "EngineProtocol | Checkpoint | str") -> str:
    """Hash of its weights and tokenizer, or of an endpoint's address and its name there; a text is one already."""
    if isinstance(model, str):
        return model
    own: Any = getattr(model, "fingerprint", None)
    if own is None:
        return hash_json([getattr(model, "url", ""), getattr(model, "model", "")])
    return str(own() if callable(own) else own)


def _prompt(reader: "Checkpoint", prompt: str) -> Sequence[int]:
    if reader.chat_template:
        return reader.chat.render([Message("user", prompt)], add_generation_prompt=True).ids
    return reader.required_tokenizer.encode(prompt.rstrip())


def _answer(reader: "Checkpoint", verdict: str) -> tuple[int, ...]:
    """The tokens of a verdict as the model's whole answer, with that which ends it."""
    if reader.chat_template:
        turn = reader.chat.render([Message("user", "question"), Message("assistant", verdict)])
        ids, stops = tuple(np.array(turn.ids)[np.array(turn.training_mask, dtype=bool)].tolist()), reader.chat.stop_ids
        return ids if ids[-1] in stops else (*ids, stops[0])
    before, whole = (reader.required_tokenizer.encode(text) for text in ("Answer:", f"Answer: {verdict}\n"))
    if whole[: len(before)] != before:
        raise ValueError(f"the tokenizer joins {verdict!r} with what stands before it: take another verdict")
    return tuple(whole[len(before) :])


def judge_metric(judge: Judge) -> Metric:
    """The value of the most probable verdict."""
    values = judge.rubric.verdicts
    return judgement_metric("judge", judge, lambda found: values[found.verdict], set(values.values()) <= {0.0, 1.0})


def g_eval(judge: Judge) -> Metric:
    """The expected value of the verdict, sum over s of p(s) s (Liu et al. 2023, section 2.3)."""
    return judgement_metric("g-eval", judge, lambda found: found.value)


def judgement_metric(name: str, judge: Judge, value: Callable[[Judgement], float], proportion: bool = False) -> Metric:
    """A number of each judgement."""
    columns: dict[str, Need] = {"reference": "references", "second": "references", "context": "contexts"}
    needs: tuple[Need, ...] = tuple({need: 0 for one, need in columns.items() if one in judge.rubric.fields})

    def measure(items: Sequence[Item], responses: Sequence[Response]) -> list[Value]:
        found = judge.judgements([item_row(*both) for both in zip(items, responses, strict=True)])
        return [each if isinstance(each, Unscored) else value(each) for each in found]

    return Metric(f"{name}: {judge.rubric.name}", measure, needs, proportion=proportion, signature=judge.signature)


def item_row(item: Item, response: Response) -> dict[str, str]:
    """The fields of an item and its response. A pairwise rubric compares the response with the first reference."""
    row = {name: text for name, text in item.fields.items() if isinstance(text, str)}
    row |= {"prompt": prompt_text(item.prompt), "response": response.text, "first": response.text}
    if item.references:
        row |= {"reference": item.references[0], "second": item.references[0]}
    return row | ({"context": "\n\n".join(item.contexts)} if item.contexts else {})
