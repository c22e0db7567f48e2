"""Published thresholds: every measure is one that annotators give, prose passes, and what a rule is after does not."""

import pytest

from lmworks.corpus.taggers.heuristics import PRESETS, Preset, c4, fineweb, gopher
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Text

PROSE = """The harbour lay quiet when the first boats came back with nets half empty. Nobody on the quay spoke of it.
Two winters ago the same crews had filled every crate before noon, and buyers from the city had waited with lorries.

An old man mended a sail beside the ice house. He said that fish follow cold water, which now stays further out to sea.
Younger people have begun to leave; some of them find work in the wind farms that stand on the horizon like pale reeds.

What will become of the village is hard to say. It has been poor before, and it has always found something to sell."""


def measures(text: str) -> dict[str, float]:
    seen = Text(text, language="en")
    return {**gopher(seen).scores, **repetition(seen).scores, **c4(seen).scores, **fineweb(seen).scores}


def broken(preset: Preset, text: str) -> list[str]:
    found = measures(text)
    return [
        name
        for name, low, high in PRESETS[preset]
        if (low is not None and found[name] < low) or (high is not None and found[name] > high)
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_prose_passes(preset: Preset) -> None:
    assert broken(preset, PROSE) == []


@pytest.mark.parametrize(
    ("preset", "text", "measure"),
    [("gopher", "The cat and the dog sat.", "words"),
     ("gopher", "# the a to b of # and # that # be # " * 20, "hash_word_ratio"),
     ("gopher", "\n".join(f"- {line}" for line in PROSE.split("\n") if line), "bullet_line_share"),
     ("gopher", PROSE.replace(".\n", "...\n"), "ellipsis_line_share"),
     ("gopher", PROSE + " 12 34 | 56 =" * 40, "alphabetic_word_share"),
     ("gopher", "kurz war der Weg, lang die Nacht, kalt das Haus. " * 8, "stop_words"),
     ("gopher_repetition", f"{PROSE}\n\n{PROSE}", "duplicate_line_share"),
     ("gopher_repetition", f"{PROSE} " + "buy now " * 30, "top_2_gram_character_share"),
     ("c4", PROSE.replace("An old man", "{An old man}"), "curly_brackets"),
     ("c4", PROSE + "\nLorem ipsum", "lorem_ipsum"), ("c4", PROSE.replace(".", ""), "c4_kept_sentences"),
     ("fineweb", PROSE.replace(".", ","), "terminal_line_share"),
     ("fineweb", PROSE.replace(" ", "\n"), "short_line_share"),
     ("fineweb", f"{PROSE}\n{PROSE}", "fineweb_duplicate_character_share"),
     ("fineweb", PROSE.replace(" ", "\n"), "newlines_per_token")],
)  # fmt: skip
def test_what_a_rule_is_after_breaks_it(preset: Preset, text: str, measure: str) -> None:
    assert measure in broken(preset, text)


def test_datatrove_differs_only_where_it_is_said() -> None:
    commented = "\n".join(f"The # number of {number} sailors is that, remembers everybody." for number in range(30))
    assert broken("gopher", commented) == ["hash_word_ratio"]
    assert broken("datatrove_gopher", commented) == ["alphabetic_token_share"]
    assert broken("datatrove_fineweb", PROSE + "\n" + PROSE[:22] + "\n" + PROSE[:22]) == [
        "fineweb_duplicate_character_share"
    ]
    assert broken("fineweb", PROSE + "\n" + PROSE[:22] + "\n" + PROSE[:22]) == []
    assert broken("datatrove_c4", PROSE + "\nvar x = {") == []
