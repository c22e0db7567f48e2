"""Labels that must be known: a policy with `unknown = "refuse"` fails the build before anything is written."""

from collections.abc import Iterator, Sequence

from lmworks.data.annotation_table import AnnotationTable
from lmworks.data.cleaning.local import Judged
from lmworks.data.cleaning.policy import Policy, Step

_TOLD = 10  # documents that the message names


class RefusedError(ValueError):
    """Documents of which a policy demands to know something that nothing says; the message names them and the fix."""


def check_refused(policy: Policy, tables: Sequence[AnnotationTable], judged: Sequence[Sequence[Judged]]) -> None:
    """RefusedError where a document comes to a step that refuses those without a label which it does not have. One that
    an earlier step drops never comes there. `judged`: of each shard what each step says."""
    for number, step in enumerate(policy.steps):
        for label in (name for name, choice in step.labels.items() if choice.unknown == "refuse"):
            if found := list(_without(label, number, step, tables, judged)):
                raise RefusedError(_told(step, label, found))


def _without(
    label: str, number: int, step: Step, tables: Sequence[AnnotationTable], judged: Sequence[Sequence[Judged]]
) -> Iterator[str]:
    for table, steps in zip(tables, judged, strict=True):
        values = table.labels.get(label)
        for place in sorted(steps[number].reasons):
            is_refused = any(reason.rule == label for reason in steps[number].reasons[place])
            is_refused = is_refused and (values is None or values[place] is None)
            if is_refused and not any(place in earlier.reasons for earlier in steps[:number]):
                yield table.uris[place]


def _told(step: Step, label: str, found: Sequence[str]) -> str:
    names = ", ".join(found[:_TOLD]) + (", …" if len(found) > _TOLD else "")
    fix = "say in data.read what the licence of their source is" if label.startswith("licence") else "have it measured"
    return (
        f"the step {step.name} refuses documents of unknown {label.replace('_', ' ')}, of which there are "
        f'{len(found):,}: {names}. Nothing was written: {fix}, or set unknown="drop" and they are left out'
    )
