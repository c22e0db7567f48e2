"""Mistakes of a policy that would pass in silence: names that nothing has, steps that look at nothing, a wrong order.

What can be told of the policy alone is refused before any stage runs; what depends on the documents is either refused
before anything is decided (a name that no annotator gives) or told loudly (a step that finds nothing to look at).
"""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import combinations

from lmworks.config import ConfigError
from lmworks.corpus.attributes import AttributeTable, rules_of
from lmworks.corpus.filtering.filter_policy import LICENCES, Choice, Policy, Step
from lmworks.corpus.licence_expressions import (
    GROUPS,
    Licence,
    LicenceError,
    is_frequent,
    licences,
    parse,
    without_groups,
)
from lmworks.corpus.taggers.heuristics import PRESETS
from lmworks.report import Section

# What annotators of lmworks give, in whatever documents; classifiers and lists of words add names of their own, which
# are known when they are among the annotations.
MEASURES = frozenset(
    {
        *(rule.measure for preset in PRESETS.values() for rule in preset),
        *("c4_kept_line_share", "code_alphanumeric_share", "code_comment_share", "code_data_share"),
        *("code_docstring_share", "code_generated", "code_longest_line", "code_mean_line_length", "code_parses"),
        *("code_space_share", "code_vendored", "compression_ratio"),
        *("contamination", "filled_line_share", "keyword_share", "language_probability", "language_share"),
        *("link_density", "model_perplexity", "newlines_per_word", "ocr_error_rate", "perplexity", "pii_marks"),
        *("pii_share", "quality", "title_words", "token_character_share", "tokens", "top_keywords_share"),
    }
)
LABELS = frozenset({*LICENCES, "declared_language", "evaluation_item", "exact", "language"})
MARKS = frozenset(
    {
        *(f"c4.{name}" for name in ("citation", "few_words", "javascript", "long_word", "policy")),
        *(f"code.{name}" for name in ("banner", "data", "dead_code", "generated", "licence_header", "minified")),
        *(f"licence.{name}" for name in ("address", "name", "public_domain", "tag", "text")),
        *(f"mail.{name}" for name in ("disclaimer", "footer", "forward_header", "quote", "signature")),
        *(f"matter.{name}" for name in ("advertisements", "colophon", "contents", "copyright", "index", "licence")),
        *(f"pii.{name}" for name in ("card", "email", "entangled", "iban", "ip", "ip_special", "key", "mac")),
        *(f"pii.{name}" for name in ("national_id", "password", "phone", "profile", "ssn", "url")),
        *("c4.no_terminal_punctuation", "chat.bot", "contamination", "matter.producer", "matter.title_page"),
        "ocr.hopeless",
    }
)
_LANGUAGE = "language."  # marks of a paragraph in another language, of which there are as many as languages


class UnknownNameError(ValueError):
    """A policy goes by a measure, label or mark that no annotator gives; the message names the nearest one."""


# ---------------------------------------------------------------------------------------------------------------------
# The policy alone


def check_policy(policy: Policy) -> None:
    """ConfigError for a policy without steps, or one whose order lets documents go for the sake of one that is dropped
    afterwards."""
    if not policy.steps:
        raise ConfigError(("steps",), "the policy has none, so nothing would be decided: give it [[steps]]")
    for earlier, later in combinations(policy.steps, 2):
        if not _share_documents(earlier, later):
            continue
        if earlier.duplicates and _drops_by_itself(later):
            raise _wrong_order(earlier, later)
        if earlier.duplicates in ("paragraphs", "passages") and later.duplicates in ("exact", "near", "repositories"):
            raise _wrong_order(earlier, later)


def _drops_by_itself(step: Step) -> bool:
    """Whether what is known of a single document can make the step drop it."""
    return (
        bool(step.all_limits)
        or any(choice.allow or choice.deny or choice.unknown == "drop" for choice in step.labels.values())
        or any(found.action == "drop" for found in step.marks.values())
    )


def _share_documents(one: Step, other: Step) -> bool:
    """Whether a document may be looked at by both, as far as kinds and names of sources without globs can tell."""
    are_names = not any(sign in source for source in (*one.sources, *other.sources) for sign in "*?[")
    return not (
        (one.kinds and other.kinds and not {*one.kinds} & {*other.kinds})
        or (are_names and one.sources and other.sources and not {*one.sources} & {*other.sources})
    )


def _wrong_order(earlier: Step, later: Step) -> ConfigError:
    what = "places" if earlier.duplicates in ("paragraphs", "passages") else "documents"
    return ConfigError(
        ("steps", later.name),
        f"drops documents, and {earlier.name} before it takes {what} because others have the same "
        f"({earlier.duplicates}): of several twins all could go. Put {later.name} before {earlier.name}; the order is "
        "limits, labels and marks that drop, then repositories, exact and near, then paragraphs and passages",
    )


# ---------------------------------------------------------------------------------------------------------------------
# The policy and the annotations


def check_names(policy: Policy, tables: Sequence[AttributeTable]) -> None:
    """UnknownNameError for a measure, label or mark that neither the annotations have nor any annotator gives."""
    measures, labels, marks = {*MEASURES}, {*LABELS}, {*MARKS}
    for table in tables:
        measures.update(table.scores)
        labels.update(table.labels)
        marks.update(rules_of(table.spans))
    for step in policy.steps:
        for name in step.limits:
            if name not in measures:
                raise UnknownNameError(_unknown(step, "measure", name, measures))
        for name in step.labels:
            if name not in labels:
                raise UnknownNameError(_unknown(step, "label", name, labels))
        for glob in step.marks:
            if not (glob.startswith(_LANGUAGE) or any(fnmatchcase(rule, glob) for rule in marks)):
                raise UnknownNameError(_unknown(step, "mark", glob, marks))


def _unknown(step: Step, what: str, name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    advice = f'; did you mean "{near[0]}"?' if near else "."
    return (
        f'the step {step.name} goes by the {what} "{name}", which no annotator gives and no document has{advice} '
        "A classifier or a list of words of your own has to be named in data.annotate, so that it is measured"
    )


def nothing_found(policy: Policy, tables: Sequence[AttributeTable], beside: Collection[str] = ()) -> list[str]:
    """Of each step what it names and no document has: what it was to decide, it does not. `beside` are the rules of
    what was found in titles and metadata, which no table has."""
    documents, measures, marks = set[tuple[str, str, str | None]](), set[str](), {*beside}
    words = {name: set[str]() for step in policy.steps for name in step.labels}
    for table in tables:
        languages = table.labels.get("language") or [None] * len(table)
        documents.update(zip(table.sources, table.kinds, languages, strict=True))
        measures.update(table.scores)
        marks.update(rules_of(table.spans))
        for name, found in words.items():
            found.update(word for word in table.labels.get(name, ()) if word is not None)
    told: list[str] = []
    for step in policy.steps:
        told += [f"The step {step.name} {each}" for each in _of_scope(step, documents)]
        told += [
            f'The step {step.name} has a limit for "{name}", which no document was measured for: it decides nothing'
            for name in step.limits
            if name not in measures
        ]
        told += [
            f'The step {step.name} speaks of the mark "{glob}", which no document holds'
            for glob in step.marks
            if not any(fnmatchcase(rule, glob) for rule in marks)
        ]
        for name, choice in step.labels.items():
            told += [f"The step {step.name} {each}" for each in _of_label(name, choice, words[name])]
    return told


def _of_scope(step: Step, documents: Collection[tuple[str, str, str | None]]) -> Iterator[str]:
    if not any(step.looks_at(*each) for each in documents):
        yield "looks at no document: none has its sources, kinds and languages"
    sources = {source for source, _, _ in documents}
    if missing := [glob for glob in step.sources if not any(fnmatchcase(source, glob) for source in sources)]:
        yield f"is for the sources {', '.join(missing)}, which there are not; there are {_some(sources)}"
    languages = {language for _, _, language in documents if language is not None}
    if missing := [language for language in step.languages if language not in languages]:
        yield f"is for the languages {', '.join(missing)}, which no document is in; there are {_some(languages)}"


def _of_label(name: str, choice: Choice, words: Collection[str]) -> Iterator[str]:
    if not words:
        yield f'goes by the label "{name}", which no document has'
    elif name in LICENCES:
        found = {licence.name.casefold() for word in words for licence in _licences(word)}
        for entry in (*choice.allow, *choice.deny):
            if entry not in GROUPS and not _is_known(entry, found):
                yield f'names the licence "{entry}", which is unknown and no document has: is it spelt right?'
    elif choice.allow and not {*words} & {*choice.allow}:
        yield f"allows as {name} only {', '.join(choice.allow)}, which no document has; there are {_some(words)}"


def _is_known(entry: str, found: Collection[str]) -> bool:
    """Whether it is a frequent licence, or one of the documents has it, or as a glob any of both fits it."""
    if any(sign in entry for sign in "*?["):
        members = (*found, *(each.casefold() for each in without_groups(tuple(GROUPS))))
        return any(fnmatchcase(each, entry.casefold()) for each in members)
    return any(is_frequent(each) or each.name.casefold() in found for each in _licences(entry))


def _licences(text: str) -> tuple[Licence, ...]:
    try:
        return licences(parse(text))
    except LicenceError:
        return ()


def _some(names: Collection[str]) -> str:
    told = sorted(names)
    return ", ".join(told[:10]) + (", …" if len(told) > 10 else "") if told else "none"


def policy_section(told: Sequence[str]) -> tuple[Section, ...]:
    """For the report and the terminal, where there is something to tell."""
    if not told:
        return ()
    text = (
        f"{len(told):,} of what the policy names no document has; the head of this report lists them. A misspelt name "
        "and a measure that was not taken look like this."
    )
    return (Section("Steps without effect", text, alarms=tuple(f"{each}." for each in told)),)
