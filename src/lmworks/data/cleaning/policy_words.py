"""A policy in words, for people who read a data card and no TOML."""

from collections.abc import Iterator

from lmworks.data.annotate.heuristics import PRESETS
from lmworks.data.cleaning.policy import Limit, Policy, Step

_DUPLICATES = {
    "exact": "drops all but one of documents with equal texts",
    "near": "drops documents whose word shingles have a Jaccard similarity of {similarity:g} or more with those of one "
    "that stays",
    "repositories": "drops repositories that are copies of one that stays (similarity {similarity:g} or more)",
    "paragraphs": "cuts paragraphs that stand elsewhere, but for one place",
    "passages": "cuts passages that stand elsewhere, but for one place",
}


def step_in_words(step: Step) -> str:
    """What a step does, each of its rules separated by a semicolon."""
    return "; ".join(_rules(step))


def scope_in_words(step: Step) -> str:
    """Which documents a step looks at."""
    parts = [
        f"{name} {', '.join(wanted)}"
        for name, wanted in (("source", step.sources), ("kind", step.kinds), ("language", step.languages))
        if wanted
    ]
    return "; ".join(parts) or "all"


def limit_in_words(limit: Limit) -> str:
    parts = []
    if limit.at_least is not None:
        parts.append(f"at least {limit.at_least:,.6g}")
    if limit.at_most is not None:
        parts.append(f"at most {limit.at_most:,.6g}")
    return " and ".join(parts)


def gates(policy: Policy) -> set[str]:
    """What the steps decide by: `language`, `licence`, `personal data`, `contamination`, `duplicates`, `quality`."""
    found: set[str] = set()
    for step in policy.steps:
        limits = step.all_limits
        found |= {"language" for name in step.labels if name == "language"}
        found |= {"licence" for name in step.labels if name.startswith("licence")}
        found |= {"personal data" for glob in step.marks if glob.startswith(("pii", "*"))}
        found |= {"contamination" for name in (*limits, *step.marks) if name == "contamination"}
        found |= {"duplicates"} if step.duplicates else set()
        found |= {"quality"} if any(name != "contamination" for name in limits) else set()
    return found


def _rules(step: Step) -> Iterator[str]:
    limits = step.all_limits
    if limits:
        told = ", ".join(f"{name} {limit_in_words(limit)}" for name, limit in limits.items())
        source = f" (preset {step.preset}: {PRESETS[step.preset][0].source.split(',')[0]})" if step.preset else ""
        yield f"keeps documents with {told}{source}"
    for name, choice in step.labels.items():
        word = name.replace("_", " ")
        if choice.allow:
            yield f"keeps only the {word} {', '.join(choice.allow)}"
        if choice.deny:
            yield f"drops the {word} {', '.join(choice.deny)}"
        yield {"keep": f"keeps documents of unknown {word}", "drop": f"drops documents of unknown {word}"}.get(
            choice.unknown, f"cleans nothing while a document of unknown {word} is there"
        )
    for glob, action in step.marks.items():
        sure = f" with a score of {action.at_least:g} or more" if action.at_least else ""
        yield {
            "cut": f"cuts what is marked {glob}{sure}",
            "redact": f"writes its type in place of what is marked {glob}{sure}",
            "drop": f"drops documents with a place marked {glob}{sure}",
        }[action.action]
    if step.duplicates:
        yield _DUPLICATES[step.duplicates].format(similarity=step.similarity)
