"""Why a cleaning ends without documents: labels that must be known (a policy with `unknown = "refuse"` fails the build
before anything is written), and steps that take everything (which the report tells: who wrote them needs it most then).
"""

from collections.abc import Iterator, Sequence

from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.filtering.decide import Judged
from lmworks.corpus.filtering.filter_policy import Policy, Step
from lmworks.corpus.filtering.flows import Flow, Tally, tally
from lmworks.report import Section

_TOLD = 10  # documents that the message names


class RefusedError(ValueError):
    """Documents of which a policy demands to know something that nothing says; the message names them and the fix."""


def check_refused(policy: Policy, tables: Sequence[AttributeTable], judged: Sequence[Sequence[Judged]]) -> None:
    """RefusedError where a document comes to a step that refuses those without a label which it does not have. One that
    an earlier step drops never comes there. `judged`: of each shard what each step says."""
    for number, step in enumerate(policy.steps):
        for label in (name for name, choice in step.labels.items() if choice.unknown == "refuse"):
            if found := list(_without(label, number, step, tables, judged)):
                raise RefusedError(_told(step, label, found))


def _without(
    label: str, number: int, step: Step, tables: Sequence[AttributeTable], judged: Sequence[Sequence[Judged]]
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


def all_gone_section(flows: Sequence[Flow], names: Sequence[str]) -> tuple[Section, ...]:
    """For the report and the terminal where no document is left: how many each step dropped, by the first rule against
    each; `names` are the steps in their order. Nothing where one is left."""
    of_steps = tally(flows, lambda flow: flow.step)
    if of_steps.get(names[-1], Tally()).left.documents:
        return ()
    dropped = tally((flow for flow in flows if flow.verdict == "dropped"), lambda flow: (flow.step, flow.rule))
    steps = []
    for name in names:
        rules = [(rule, found.dropped.documents) for (step, rule), found in dropped.items() if step == name]
        if rules:
            ranked = sorted(rules, key=lambda each: (-each[1], each[0]))
            told = ", ".join(f"{rule} {count:,}" for rule, count in ranked[:_TOLD])
            steps.append(f"{name} dropped {sum(count for _, count in rules):,} ({told}{', …' * (len(ranked) > _TOLD)})")
    text = (
        "Stages that read from this one refuse it. Give the step that takes too much looser limits, or documents that "
        "it is not for a step of other `sources` or `kinds`; `lmworks data why DOCUMENT` tells what became of one."
    )
    return (Section("No document is left", text, alarms=(f"No document is left: {'; '.join(steps)}.",)),)
