"""Mistakes of a policy that would pass in silence: a wrong order, names that nothing has, steps that look at nothing.

What is wrong whatever the documents are is refused before any stage runs; what depends on them is either refused
before anything is written (a name that no tagger gives, a label that must be known) or reported (a step without
effect).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import chain, combinations

from lmworks.config import ConfigError
from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.dedup.kept_duplicates import RankedCorpus
from lmworks.corpus.filtering.decide import Decisions
from lmworks.corpus.filtering.filter_policy import LICENCES, Policy, Step
from lmworks.corpus.languages import MEASURED
from lmworks.corpus.taggers.pii.metadata import field_of
from lmworks.corpus.taggers.tagger import emitted

_NAMED = 10  # documents in a message


def check_policy(policy: Policy) -> None:
    """ConfigError for a policy whose order lets documents go for the sake of one that is dropped afterwards."""
    for earlier, later in combinations(policy.steps, 2):
        choices = any(choice.allow or choice.deny or choice.unknown == "drop" for choice in later.labels.values())
        spans = any(found.action == "drop" for found in later.marks.values())
        places = earlier.duplicates in ("paragraphs", "passages")
        after_places = places and later.duplicates in ("exact", "near", "repositories")
        # Whether both may look at one document, as far as kinds and names of sources without globs can tell.
        are_names = not any(sign in source for source in (*earlier.sources, *later.sources) for sign in "*?[")
        scopes = [(earlier.kinds, later.kinds), *([(earlier.sources, later.sources)] if are_names else [])]
        apart = any(first and second and not {*first} & {*second} for first, second in scopes)
        if earlier.duplicates and (later.all_limits or choices or spans or after_places) and not apart:
            raise ConfigError(
                ("steps", later.name),
                f"drops documents, and {earlier.name} before it takes {'places' if places else 'documents'} because "
                f"others have the same ({earlier.duplicates}): of several duplicates all could go. Put {later.name} "
                f"before {earlier.name}; the order is limits, labels and marks that drop, then repositories, exact and "
                "near, then paragraphs and passages",
            )


# ---------------------------------------------------------------------------------------------------------------------
# The policy and the documents


@dataclass(frozen=True, slots=True)
class Names:
    """The words of each label that a policy goes by, and the scores, rules of spans and sources that documents have."""

    labels: dict[str, set[str]] = field(default_factory=dict)
    scores: set[str] = field(default_factory=set)
    spans: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)

    def add(self, table: AttributeTable) -> None:
        self.scores.update(table.scores)
        self.spans.update((field_of(rule) or ("", rule))[1] for rule in table.spans.rules())
        self.sources.update(table.sources)
        for name, words in table.labels.items():
            self.labels.setdefault(name, set()).update(word for word in set(words) if word is not None)


def missing_names(step: Step, found: Names, known: Collection[str] = ()) -> Iterator[str]:
    """Sentences about each name of a step that no document has: what it was to decide by that, it does not.

    ValueError for a score, label or rule of spans that no tagger gives either, of lmworks or of those `known`.
    """
    labels = {name for name, words in found.labels.items() if words}
    for what, names, there in (
        ("score", step.limits, found.scores),
        ("label", step.labels, labels),
        ("span", step.marks, found.spans),
        ("source", step.sources, found.sources),
        ("language", step.languages, found.labels.get(MEASURED, set())),
    ):
        for name in names:
            if any(fnmatchcase(each, name) for each in there):
                continue
            all_known = (*chain(*emitted().values()), *known)
            given = {each.removeprefix(f"{what}.") for each in all_known if each.startswith(f"{what}.")}
            if given and not any(fnmatchcase(each, name) or fnmatchcase(name, each) for each in given):
                near = get_close_matches(name, sorted(given | there), n=1, cutoff=0.5)
                rules = [f"{name}.*"] if any(each.startswith(f"{name}.") for each in given) else near
                advice = f'; did you mean "{rules[0]}"?' if rules else "."
                raise ValueError(
                    f'the step {step.name} goes by the {what} "{name}", which no tagger gives and no document has'
                    f"{advice} A classifier, a list of words or a tagger of your own is named in corpus.tag"
                )
            yield f'The step {step.name} goes by the {what} "{name}", which no document has'


def check_refused(policy: Policy, documents: RankedCorpus, decisions: Sequence[Sequence[Decisions]]) -> None:
    """ValueError where a document comes to a step that refuses those without a label which it does not have. One that
    an earlier step drops never comes there. `decisions` are of each shard those of each step."""
    for number, step in enumerate(policy.steps):
        for label in (name for name, choice in step.labels.items() if choice.unknown == "refuse"):
            refused = [
                documents.uris[start + place]
                for start, steps in zip(map(int, documents.starts), decisions, strict=False)
                for place, reasons in sorted(steps[number].reasons.items())
                if any(reason.rule == label and reason.label is None for reason in reasons)
                and not any(place in earlier.reasons for earlier in steps[:number])
            ]
            if refused:
                named = ", ".join(refused[:_NAMED]) + ", …" * (len(refused) > _NAMED)
                said = "say in corpus.read what the licence of their source is"
                fix = said if label in LICENCES else "have it measured"
                raise ValueError(
                    f"the step {step.name} refuses documents of unknown {label.replace('_', ' ')}, of which there are "
                    f'{len(refused):,}: {named}. Nothing was written: {fix}, or set unknown="drop" and they '
                    "are left out"
                )
