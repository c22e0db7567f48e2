"""Versions of prompts and their labels, in a folder.

NAME/HASH.toml        a version, as TOML; never changed
NAME/versions.jsonl   a `PromptVersion` a line: who added it, when, why, and from which version it was made
NAME/labels.jsonl     a `Promotion` a line (`evaluate/release/promotion.py`): who moved which label, when, why
labels.toml           what a move needs, a `LabelPolicy` by label
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmworks.artefact import append_row, lock, read_rows, write_text
from lmworks.config import read_toml, unknown
from lmworks.evaluate.release.promotion import (
    CANDIDATE,
    PRODUCTION,
    Gate,
    GateError,
    Promotion,
    acting,
    carriers,
    check_promotion,
    read_promotions,
)
from lmworks.prompt.config import Prompt
from lmworks.prompt.filled_prompt import check_slots
from lmworks.prompt.prompt_file import built_in, built_in_names, parse_prompt, prompt_hash, to_toml

PROMPTS = "prompts"  # in a workspace
_POLICY = "labels.toml"


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A version of a prompt; `parent` is the hash of the one that it was made from, "" of the first."""

    hash: str
    parent: str
    time: float
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """Conditions for a move of a label.

    test     A test that the version passed against the one that has the label.
    second   A second person: the first call proposes, the same call by somebody else moves.
    who      Names of those who may; null: everybody, []: nobody.
    """

    test: bool = False
    second: bool = False
    who: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Policies:
    labels: Mapping[str, LabelPolicy] = field(
        default_factory=lambda: {PRODUCTION: LabelPolicy(test=True), CANDIDATE: LabelPolicy()}
    )


@dataclass(frozen=True, slots=True)
class PromptStore:
    """The prompts below a folder. LookupError names what there is where a name, a version or a label is unknown."""

    folder: Path

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/versions.jsonl"))

    def versions(self, name: str) -> list[PromptVersion]:
        """The versions of a prompt, oldest first."""
        path = self.folder / name / "versions.jsonl"
        return read_rows(PromptVersion, path) if path.exists() else []

    def add(self, prompt: Prompt, reason: str, *, who: str = "", parent: str = "") -> PromptVersion:
        """Keep a version; one that is there already is given as it is. `parent` is the newest by default.

        ValueError without a reason, and for other slots than those of the prompt of lmworks that it replaces.
        """
        if not reason.strip():
            raise ValueError("a version of a prompt has a reason: say it with --reason")
        if prompt.name in built_in_names():
            check_slots(prompt, built_in(prompt.name).slots)  # which the code that asks it fills
        before, identifier = self.versions(prompt.name), prompt_hash(prompt)
        if found := next((one for one in before if one.hash == identifier), None):
            return found
        made = PromptVersion(identifier, parent, time.time(), acting(who), reason.strip())
        if before and not parent:
            made = replace(made, parent=before[-1].hash)
        write_text(self.folder / prompt.name / f"{identifier}.toml", to_toml(prompt))
        append_row(self.folder / prompt.name / "versions.jsonl", made)
        return made

    def hash_of(self, name: str, version: str = "") -> str:
        """The hash of a version: by a label, the beginning of its hash, or "" for the newest."""
        hashes = [one.hash for one in self.versions(name)]
        if not hashes:
            raise LookupError(f"{unknown('prompt', name, self.names())}: `lmworks prompt new FILE` keeps one")
        labels = self.labels(name)
        if not version or version in labels:
            return labels[version] if version else hashes[-1]
        found = [one for one in hashes if one.startswith(version)]
        if len(found) != 1:
            raise LookupError(f"{name}: {unknown('version', version, [*labels, *hashes])}")
        return found[0]

    def read(self, name: str, version: str = "") -> Prompt:
        identifier = self.hash_of(name, version)
        path = self.folder / name / f"{identifier}.toml"
        prompt = parse_prompt(path.read_text("utf-8"), str(path))
        if prompt_hash(prompt) != identifier:
            raise ValueError(f"{path} was changed since it was kept: versions never change, add a new one")
        return prompt

    def live(self, name: str) -> Prompt:
        """The prompt that is asked by this name: the version in production, or else the one that comes with lmworks."""
        return self.read(name, PRODUCTION) if PRODUCTION in self.labels(name) else built_in(name)

    # -----------------------------------------------------------------------------------------------------------------
    # Labels

    def history(self, name: str, label: str = PRODUCTION) -> list[Promotion]:
        """The moves of a label, oldest first."""
        return read_promotions(self._labels(name), label)

    def labels(self, name: str) -> dict[str, str]:
        """Label -> hash of the version that has it."""
        path = self._labels(name)
        moves = read_rows(Promotion, path) if path.exists() else []
        return {one.label: one.version for one in moves if one.kind != "proposed"}

    def policy(self, label: str) -> LabelPolicy:
        path = self.folder / _POLICY
        policies = read_toml(_Policies, path).labels
        if label not in policies:
            raise LookupError(f"{unknown('label', label, list(policies))}; {path} says which there are")
        return policies[label]

    def move(
        self, name: str, label: str, version: str, reason: str, *, who: str = "", gate: Gate | None = None
    ) -> Promotion:
        """Give a label to a version, or propose it where a second person is needed. GateError says what it lacks."""
        policy, who, wanted = self.policy(label), acting(who), self.hash_of(name, version)
        self._check_may(policy, label, who)
        check_promotion(f"{name} {wanted}", gate, reason)
        with lock(self.folder / name / "labels.lock"):  # so that nothing moves between the look and the entry
            before = self.labels(name).get(label, "")
            if before == wanted:
                raise GateError(f"{name} {wanted} has the label {label} already")
            if policy.test and before and gate is None:
                raise GateError(
                    f"{label} needs a test of {wanted} against {before}: run `lmworks prompt test TASK --prompt "
                    f"{name}:{wanted} --prompt {name}:{before} ...` first"
                )
            made = Promotion(wanted, before, time.time(), who, reason.strip(), gate=gate, label=label)
            if policy.second:
                standing = self.history(name, label)[-1:]
                if not standing or (standing[0].kind, standing[0].version) != ("proposed", wanted):
                    return self._append(name, replace(made, kind="proposed"))
                if standing[0].who == who:
                    raise GateError(f"{who} proposed it: {label} needs a second person, with --by")
                made = replace(made, proposer=standing[0].who)
            return self._append(name, made)

    def rollback(self, name: str, label: str = PRODUCTION, reason: str = "", *, who: str = "") -> Promotion:
        """Give a label back to the version that had it before; it needs no test, having had it once."""
        who = acting(who)
        self._check_may(self.policy(label), label, who)
        check_promotion(name, None, reason)
        with lock(self.folder / name / "labels.lock"):  # so that nothing moves between the look and the entry
            stack = carriers(self.history(name, label))
            if len(stack) < 2 or not stack[-2]:
                raise GateError(f"{name}: no earlier version had the label {label}")
            back = Promotion(stack[-2], stack[-1], time.time(), who, reason.strip(), "rolled back", label=label)
            return self._append(name, back)

    def _labels(self, name: str) -> Path:
        return self.folder / name / "labels.jsonl"

    @staticmethod
    def _check_may(policy: LabelPolicy, label: str, who: str) -> None:
        if policy.who is not None and who not in policy.who:
            names = ", ".join(policy.who) or "nobody"
            raise GateError(f"{who} may not move {label}, {names} may: change who in {_POLICY}, or ask one of them")

    def _append(self, name: str, made: Promotion) -> Promotion:
        append_row(self._labels(name), made)
        return made
