"""The sections of the report on vocabularies: `lmworks tokenizer report`."""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np

from lmworks.records import Score, Scored
from lmworks.report import Figure, Section, Table, dot_plot, heat_map, histogram, line_plot
from lmworks.tokenizer.fertility import MEASURES
from lmworks.tokenizer.pre_tokenizer import steps_of
from lmworks.tokenizer.reachable_tokens import KINDS, Kind
from lmworks.tokenizer.token_bytes import spelled_tokens
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.undertrained import SHARE, Undertrained
from lmworks.tokenizer.vocabulary_comparison import Comparison

RARE = 10  # a token that occurs less often than that in the texts says little there
EXAMPLES = 12
_SHARES = {name for name, (top, bottom, _) in MEASURES.items() if top not in ("size", "characters", "word_tokens")}


def sections(comparison: Comparison) -> tuple[Section, ...]:
    """Everything that was measured, in the order in which one would ask for it."""
    sections = [_compared(comparison), _length(comparison), _words(comparison), _losses(comparison), _use(comparison)]
    if comparison.reference is not None:
        sections.insert(2, _parity(comparison))
    return (*sections, _unreachable(comparison), *_undertrained(comparison))


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


def _length(comparison: Comparison) -> Section:
    return Section(
        "How long a text becomes",
        "Bytes per token say how much text fits into a context and how many steps it takes to generate it: twice the "
        "bytes are half the steps. They compare vocabularies on one text; languages compare by parity, since scripts "
        "differ in the bytes of a letter.",
        tables=(_table(comparison, "bytes per token"), _table(comparison, "characters per token")),
        figures=(_dots(comparison, "bytes per token"),),
    )


def _parity(comparison: Comparison) -> Section:
    reference, scores = comparison.reference, comparison.scores
    values = {
        text: {
            name: score.value
            for name in comparison.vocabularies
            if isinstance(score := scores[name, text].get("parity"), Scored)
        }
        for text in comparison.texts
    }
    drawn = {text: of_vocabularies for text, of_vocabularies in values.items() if of_vocabularies}
    caption = f"Tokens for each token of {reference}. 2.00: twice the price and half the context."
    figures = (Figure(heat_map(drawn, label=f"tokens per token of {reference}"), caption),) if drawn else ()
    return Section(
        f"Parity with {reference}",
        f"The same content in other languages, passage by passage: tokens for each token of {reference} (Petrov et al. "
        "2023). Whoever writes in a language with parity 3 pays three times as much for the same, waits three times as "
        "long, and has a third of the context. A vocabulary that leaves characters out, or makes whole words unknown, "
        "looks cheap here and is not.",
        tables=(_table(comparison, "parity"),),
        figures=figures,
    )


def _words(comparison: Comparison) -> Section:
    return Section(
        "How words are cut",
        "Fertility is the number of tokens that a word is cut into; where no spaces stand between words, tokens per "
        "character. Words kept whole are one token, which is not the unknown one.",
        tables=(_table(comparison, "fertility"), _table(comparison, "words kept whole")),
        figures=(_dots(comparison, "fertility"), _dots(comparison, "words kept whole")),
    )


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
        lines[name] = _thinned(used)
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


def _thinned(values: np.ndarray, points: int = 300) -> tuple[list[float], list[float]]:
    """Ranks and values at ranks that are evenly spread on a logarithmic axis."""
    ranks = np.unique(np.geomspace(1, max(len(values), 1), points).astype(int)) if len(values) else np.zeros(0, int)
    return ranks.tolist(), values[ranks - 1].tolist()


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
        if isinstance(score := values[measure], Scored):
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
