"""Published thresholds as data: for each measure the lowest and highest value with which a document stays, and where
that is published. In the order in which datatrove 0.10.1 looks, so that first reasons can be compared.

The presets `datatrove_…` give its verdicts where its measures or numbers are not those of the papers: what differs is
told by the annotators. Of repetition it has the thresholds of the paper.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Preset = Literal[
    "gopher", "gopher_repetition", "c4", "fineweb", "datatrove_gopher", "datatrove_c4", "datatrove_fineweb"
]


class Published(NamedTuple):
    """`measure` below `at_least` or above `at_most` drops a document."""

    measure: str
    at_least: float | None
    at_most: float | None
    source: str


_RULES = "Rae et al. 2021, appendix A.1.1"
_TABLE = "Rae et al. 2021, table A1"
_C4 = "Raffel et al., section 2.2"
_FINEWEB = "Penedo et al. 2024, section 3.6"
_DATATROVE = "datatrove 0.10.1"

GOPHER = (
    Published("words", 50, 100_000, _RULES),
    Published("mean_word_length", 3, 10, _RULES),
    Published("hash_word_ratio", None, 0.1, _RULES),
    Published("ellipsis_word_ratio", None, 0.1, _RULES),
    Published("bullet_line_share", None, 0.9, _RULES),
    Published("ellipsis_line_share", None, 0.3, _RULES),
    Published("alphabetic_word_share", 0.8, None, _RULES),
    Published("stop_words", 2, None, _RULES),
)

GOPHER_REPETITION = (
    Published("duplicate_paragraph_share", None, 0.30, _TABLE),
    Published("duplicate_paragraph_character_share", None, 0.20, _TABLE),
    Published("duplicate_line_share", None, 0.30, _TABLE),
    Published("duplicate_line_character_share", None, 0.20, _TABLE),
    Published("top_2_gram_character_share", None, 0.20, _TABLE),
    Published("top_3_gram_character_share", None, 0.18, _TABLE),
    Published("top_4_gram_character_share", None, 0.16, _TABLE),
    Published("duplicate_5_gram_character_share", None, 0.15, _TABLE),
    Published("duplicate_6_gram_character_share", None, 0.14, _TABLE),
    Published("duplicate_7_gram_character_share", None, 0.13, _TABLE),
    Published("duplicate_8_gram_character_share", None, 0.12, _TABLE),
    Published("duplicate_9_gram_character_share", None, 0.11, _TABLE),
    Published("duplicate_10_gram_character_share", None, 0.10, _TABLE),
)

# Five sentences go with lines of three words, as in the paper's first version; JMLR's three with `C4(fewest_words=5)`.
C4 = (
    Published("lorem_ipsum", None, 0, _C4),
    Published("curly_brackets", None, 0, _C4),
    Published("c4_kept_sentences", 5, None, f"{_C4}, of the first version (2019)"),
)

# The paper drops a document that lies at a threshold as well; here, as in its code, only one that lies beyond.
FINEWEB = (
    Published("terminal_line_share", 0.12, None, _FINEWEB),
    Published("short_line_share", None, 0.67, _FINEWEB),
    Published("fineweb_duplicate_character_share", None, 0.1, _FINEWEB),
    Published("newlines_per_token", None, 0.3, f"{_DATATROVE}; the paper does not name it"),
)

_OF_TOKENS = {
    "hash_word_ratio": "hash_token_ratio",
    "ellipsis_word_ratio": "ellipsis_token_ratio",
    "alphabetic_word_share": "alphabetic_token_share",
}
DATATROVE_GOPHER = tuple(
    rule._replace(measure=_OF_TOKENS.get(rule.measure, rule.measure), source=_DATATROVE) for rule in GOPHER
)

DATATROVE_C4 = (
    Published("c4_kept_lorem_ipsum", None, 0, _DATATROVE),
    Published("c4_kept_curly_brackets", None, 0, _DATATROVE),
    Published("c4_kept_sentences", 5, None, _DATATROVE),
)

DATATROVE_FINEWEB = (
    Published("terminal_line_share", 0.12, None, _DATATROVE),
    Published("short_line_share", None, 0.67, _DATATROVE),
    Published("fineweb_duplicate_character_share", None, 0.01, f"{_DATATROVE}; the paper says 0.1"),
    Published("newlines_per_token", None, 0.3, _DATATROVE),
)

PRESETS: Mapping[Preset, tuple[Published, ...]] = {
    "gopher": GOPHER,
    "gopher_repetition": GOPHER_REPETITION,
    "c4": C4,
    "fineweb": FINEWEB,
    "datatrove_gopher": DATATROVE_GOPHER,
    "datatrove_c4": DATATROVE_C4,
    "datatrove_fineweb": DATATROVE_FINEWEB,
}
