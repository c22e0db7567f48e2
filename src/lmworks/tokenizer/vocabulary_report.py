"""Several vocabularies measured on the same texts, and the report on them: `lmworks tokenizer report`."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lmworks.progress import Report, no_report
from lmworks.records import Score, Scored
from lmworks.report import Figure, Section, Table, dot_plot, histogram, line_plot
from lmworks.tokenizer.fertility import MEASURES, Counts, Text, count, parity, scores
from lmworks.tokenizer.pre_tokenizer import steps_of
from lmworks.tokenizer.reachable_tokens import (
    KINDS,
    SHARE,
    Kind,
    Reachability,
    Undertrained,
    reachability,
    undertrained,
)
from lmworks.tokenizer.token_bytes import spelled_tokens
from lmworks.tokenizer.tokenizer import Tokenizer

RARE = 10  # a token that occurs less often than that in the texts says little there
EXAMPLES = 12
_POINTS = 300  # of a line
# Title, text, measures that have tables and those of them that are drawn.
_MEASURED = (
    (
        "How long a text becomes",
        "Bytes per token say how much text fits into a context and how many steps it takes to generate it: twice the "
        "bytes are half the steps. They compare vocabularies on one text; languages compare by parity, since scripts "
        "differ in the bytes of a letter.",
        ("bytes per token", "characters per token"),
        ("bytes per token",),
    ),
    (
        "Parity with {reference}",
        "The same content in other languages, passage by passage: tokens for each token of {reference} (Petrov et al. "
        "2023). Whoever writes in a language with parity 3 pays three times as much for the same, waits three times as "
        "long, and has a third of the context. A vocabulary that leaves characters out, or makes whole words unknown, "
        "looks cheap here and is not.",
        ("parity",),
        ("parity",),
    ),
    (
        "How words are cut",
        "Fertility is the number of tokens that a word is cut into; where no spaces stand between words, tokens per "
        "character. Words kept whole are one token, which is not the unknown one.",
        ("fertility", "words kept whole"),
        ("fertility", "words kept whole"),
    ),
)
_SHARES = {name for name, (top, bottom, _) in MEASURES.items() if top not in ("size", "characters", "word_tokens")}


@dataclass(frozen=True)
class EmbeddingRows:
    """The rows of an embedding, (rows, width) floating point; `tied`: they make the logits, too."""

    values: np.ndarray
    tied: bool


@dataclass(frozen=True)
class Comparison:
    """Measures of vocabularies on texts; `counts` and what is derived from them by names of (vocabulary, text).

    reference       the text whose translations the others are.
    undertrained    for the vocabularies whose embedding was given; a string says why one could not be judged.
    """

    vocabularies: Mapping[str, Tokenizer]
    texts: Mapping[str, Text]
    reference: str | None
    counts: Mapping[tuple[str, str], Counts]
    reaches: Mapping[str, Reachability]
    undertrained: Mapping[str, Undertrained | str] = field(default_factory=dict)

    @cached_property
    def scores(self) -> dict[tuple[str, str], dict[str, Score]]:
        """The measures by their names, "parity" among them where there is a reference."""
        by_vocabulary_and_text = {}
        for (vocabulary, text), counts in self.counts.items():
            tokenizer = self.vocabularies[vocabulary]
            values = scores(counts, tokenizer, self.texts[text])
            if self.reference not in (None, text):
                assert self.reference is not None
                original = self.counts[vocabulary, self.reference]
                values["parity"] = parity(counts, original, tokenizer, self.texts[text], self.texts[self.reference])
            by_vocabulary_and_text[vocabulary, text] = values
        return by_vocabulary_and_text

    def uses(self, vocabulary: str) -> np.ndarray:
        """(ids,) int64: how often each id occurs in all texts together."""
        return np.sum([self.counts[vocabulary, text].uses for text in self.texts], axis=0)


def compare(
    vocabularies: Mapping[str, Tokenizer],
    texts: Mapping[str, Text],
    reference: str | None = None,
    embeddings: Mapping[str, EmbeddingRows] | None = None,
    progress: Report = no_report,
) -> Comparison:
    """Measures every vocabulary on every text; ValueError for no vocabulary, no text, an empty one, or a reference
    that is none of the texts. `progress` counts the characters of all texts under all vocabularies."""
    if not vocabularies or not texts:
        raise ValueError("a comparison needs a vocabulary and a text, at least")
    if empty := [name for name, text in texts.items() if not text.characters]:
        raise ValueError(f"no text in {', '.join(empty)}")
    if reference is not None and reference not in texts:
        raise ValueError(f"the reference {reference!r} is none of the texts: {', '.join(texts)}")
    total = len(vocabularies) * sum(text.characters for text in texts.values())
    done, counts = 0, {}
    for vocabulary, tokenizer in vocabularies.items():
        for name, text in texts.items():
            counts[vocabulary, name] = count(tokenizer, text)
            done += text.characters
            progress(done, total, "characters")
    reaches = {name: reachability(tokenizer) for name, tokenizer in vocabularies.items()}
    judged: dict[str, Undertrained | str] = {}
    for name, rows in (embeddings or {}).items():
        try:
            judged[name] = undertrained(rows.values, reaches[name], rows.tied)
        except ValueError as error:
            judged[name] = str(error)
    return Comparison(vocabularies, texts, reference, counts, reaches, judged)


# ---------------------------------------------------------------------------------------------------------------------
# Sections


def sections(comparison: Comparison) -> tuple[Section, ...]:
    """Everything that was measured, in the order in which one would ask for it."""
    measured = [
        Section(
            title.format(reference=comparison.reference),
            text.format(reference=comparison.reference),
            tables=tuple(_table(comparison, measure) for measure in measures),
            figures=tuple(_dots(comparison, measure) for measure in drawn),
        )
        for title, text, measures, drawn in _MEASURED
        if comparison.reference is not None or measures != ("parity",)
    ]
    details = (_losses(comparison), _use(comparison), _unreachable(comparison), *_undertrained(comparison))
    return (_compared(comparison), *measured, *details)


def _compared(comparison: Comparison) -> Section:
    vocabularies = [
        (name, _kind(tokenizer), tokenizer.vocabulary_size, len(tokenizer.special_ids), tokenizer.hash[:12])
        for name, tokenizer in comparison.vocabularies.items()
    ]
    first = next(iter(comparison.vocabularies))
    texts = []
    for name, text in comparison.texts.items():
        counts = comparison.counts[first, name]
        passages = f"{len(text.passages):,} {text.unit}{'s' if len(text.passages) != 1 else ''}"
        texts.append((name, passages, text.characters, int(counts.size.sum()), int(counts.words.sum())))
    return Section(
        "What was compared",
        "Every vocabulary encoded the same texts, without the tokens that frame a text. Intervals are 95 % intervals "
        "over the n passages of a text, because the tokens of one passage resemble each other. Of what was not found "
        "once, such as an unknown token, “0 (< 0.01 %)” says how frequent it may be nonetheless: Clopper and Pearson's "
        "bound over all tokens, lowered to fewer where there are few passages (Korn & Graubard 1998). A word is a run "
        "of letters and digits with their marks; in scripts that are written without spaces (Chinese, Japanese, Thai, "
        "…) each letter counts as a word.",
        tables=(
            Table(("vocabulary", "kind", "tokens", "special", "hash"), tuple(vocabularies), "Vocabularies"),
            Table(("text", "passages (n)", "characters", "bytes", "words"), tuple(texts), "Texts"),
        ),
    )


def _kind(tokenizer: Tokenizer) -> str:
    state = json.loads(tokenizer.backend.to_str())
    model, kind = state["model"], state["model"]["type"]
    if any(step["type"] == "ByteLevel" for step in steps_of(state["decoder"])):
        return f"byte-level {kind}"
    return f"{kind}, bytes for the rest" if model.get("byte_fallback") else kind


def _losses(comparison: Comparison) -> Section:
    names = ("unknown tokens", "parts of characters", "lost characters")
    scores = {name: [values[name] for values in comparison.scores.values()] for name in names}
    nothing = [name for name in names if not any(isinstance(s, Scored) and s.value for s in scores[name])]
    text = (
        "An unknown token stands for something that no id can say. Tokens that are parts of characters are the bytes "
        "that a vocabulary falls back to: nothing is lost, but the model has to spell. A lost character has no token."
    )
    text += f"\nNone in any text under any vocabulary: {', '.join(nothing)}." if nothing else ""
    tables = tuple(_table(comparison, name) for name in names if name not in nothing)
    return Section("What a vocabulary cannot say", text, tables=tables)


def _use(comparison: Comparison) -> Section:
    lines, rows, never = {}, [], []
    for name in comparison.vocabularies:
        uses, spelled = comparison.uses(name), spelled_tokens(comparison.vocabularies[name])
        reachable = comparison.reaches[name].ids("text", "in context", "part of a character")
        used = np.sort(uses[uses > 0])[::-1]
        # At ranks that are evenly spread on a logarithmic axis.
        ranks = np.unique(np.geomspace(1, max(len(used), 1), _POINTS).astype(int))[: len(used)]
        lines[name] = ranks.tolist(), used[ranks - 1].tolist()
        seen = int((uses[reachable] > 0).sum())
        rare = int((uses[reachable] < RARE).sum())
        rows.append((name, int(uses.sum()), len(reachable), seen, _percent(seen / max(len(reachable), 1)), rare))
        absent = [spelled[index] for index in reachable[uses[reachable] == 0]]
        words = [word for word in absent if sum(map(str.isalpha, word)) > 2 and word.startswith(("'", '"'))]
        never.append((name, len(absent), " ".join(words[:EXAMPLES])))
    counts = ("tokens of all texts", "ids that text can reach", "of these occur", "share", f"occur < {RARE} times")
    absent_columns = ("vocabulary", "never occur", "the first words among them, by id")
    return Section(
        "How much of the vocabulary is used",
        "Each id is a row of the embedding that has to be kept, moved and trained. An id that does not occur in texts "
        "like the training data stays as it was initialised. What occurs depends on how much text there is: the "
        "figures hold for these texts together.",
        tables=(
            Table(("vocabulary", *counts), tuple(rows), "Use"),
            Table(absent_columns, tuple(never), "Ids that never occur here"),
        ),
        figures=(
            Figure(
                line_plot(lines, x="rank of the token", y="occurrences", scale="log"),
                "Occurrences by rank, both logarithmic. A line that ends early leaves the rest of a vocabulary unused.",
            ),
        ),
    )


def _unreachable(comparison: Comparison) -> Section:
    tallies = {name: Counter(reach.kinds) for name, reach in comparison.reaches.items()}
    kinds: list[Kind] = [kind for kind in KINDS if any(tally[kind] for tally in tallies.values())]
    rows = tuple((kind, *(tally[kind] for tally in tallies.values())) for kind in kinds)
    examples = []
    for name, reach in comparison.reaches.items():
        spelled = spelled_tokens(comparison.vocabularies[name])
        for reason, _ in Counter(reach.reasons.values()).most_common():
            for index in [i for i, why in reach.reasons.items() if why == reason][: EXAMPLES // 2]:
                becomes = " ".join(spelled[piece] for piece in reach.becomes.get(index, ())[:8])
                examples.append((name, _unbroken(reason), index, spelled[index], becomes))
    tables = [Table(("kind", *tallies), rows, "Ids by what leads to them")]
    if examples:
        columns = ("vocabulary", "why", "id", "token", "its text becomes")
        tables.append(Table(columns, tuple(examples), f"Unreachable tokens, at most {EXAMPLES // 2} for each reason"))
    return Section(
        "Tokens that no text becomes",
        "The text of each token was encoded, alone and inside other text (Land & Bartolo 2024, section 3.1). For BPE "
        "“its merges lead elsewhere” is proof: a token that occurs in any word is also what its own letters merge to. "
        "Of other models, an unreachable token is one that no context that was tried has reached.\n"
        + "\n".join(f"{kind}: {KINDS[kind]}." for kind in kinds),
        tables=tuple(tables),
    )


def _undertrained(comparison: Comparison) -> Iterator[Section]:
    if not comparison.undertrained:
        return
    rows, figures, notes = [], [], []
    for name, judged in comparison.undertrained.items():
        if not isinstance(judged, Undertrained):
            notes.append(f"{name}: {judged}.")
            continue
        uses, spelled = comparison.uses(name), spelled_tokens(comparison.vocabularies[name])
        notes.append(f"{name}: {judged.method}; {len(judged.candidates):,} candidates.")
        for index in judged.candidates[: 2 * EXAMPLES]:
            rows.append((name, index, spelled[index], float(judged.indicator[index]), int(uses[index])))
        values = judged.indicator[np.isfinite(judged.indicator)]
        drawn = histogram(values.tolist(), x=judged.method, y="tokens", marks={f"lowest {SHARE:.0%}": judged.threshold})
        figures.append(Figure(drawn, f"{name}: the rows of all tokens. A heap apart on the left was not trained."))
    columns = ("vocabulary", "id", "token", "indicator", "occurrences in the texts")
    tables = (Table(columns, tuple(rows), "The most suspicious tokens that text can reach"),) if rows else ()
    yield Section(
        "Tokens that look under-trained",
        f"The {SHARE:.0%} of the tokens that text reaches whose rows of the embedding resemble untrained ones the most "
        "(Land & Bartolo 2024, section 3.2). These are candidates: only prompting a model with each proves one.\n"
        + "\n".join(notes),
        tables=tables,
        figures=tuple(figures),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Cells and figures


def _table(comparison: Comparison, measure: str) -> Table:
    """A row for each text (the reference has no parity with itself), a column for each vocabulary."""
    rows = tuple(
        (text, *(_cell(measure, comparison.scores[name, text][measure]) for name in comparison.vocabularies))
        for text in comparison.texts
        if measure in MEASURES or text != comparison.reference
    )
    meaning = MEASURES[measure][2] if measure in MEASURES else f"tokens for each token of {comparison.reference}"
    caption = f"{measure.capitalize()}: {meaning}; ± half the 95 % interval"
    return Table(("text", *comparison.vocabularies), rows, caption)


def _dots(comparison: Comparison, measure: str) -> Figure:
    points: dict[str, dict[str, tuple[float, float, float]]] = {name: {} for name in comparison.vocabularies}
    for (name, text), values in comparison.scores.items():
        if isinstance(score := values.get(measure), Scored):
            points[name][text] = (score.value, *score.interval)
    return Figure(dot_plot(points, x=measure), f"{measure.capitalize()} of each text, with 95 % intervals.")


def _cell(measure: str, score: Score) -> str:
    """`4.210 ± 0.030`, of a share in percent; or why there is none. Nothing in it breaks over lines.

    An interval that ends at 0 has two unequal halves: there its other end is said.
    """
    if not isinstance(score, Scored):
        return score.reason
    low, high = score.interval
    if measure not in _SHARES:
        words = f"{score.value:.3f} ± {(high - low) / 2:.3f}"
    elif low == 0:
        words = f"{_percent(score.value) if score.value else 0} (< {_percent(high)})"
    else:
        words = f"{_percent(score.value)} ± {_percent((high - low) / 2)}"
    return _unbroken(words)


def _unbroken(words: str) -> str:
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.2g} %"
