"""Languages: what is done with an identifier by one that looks at scripts only, and py3langid on real sentences."""

import pytest

from kit.tables import for_each
from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.taggers.language import language, py3langid
from lmworks.corpus.taggers.tagger import Text

ENGLISH = "The harbour lay quiet when the first boats came back with their nets half empty, and nobody spoke of it."
RUSSIAN = "Гавань была тиха, когда первые лодки вернулись с полупустыми сетями, и никто не говорил об этом."


def by_script(text: str) -> tuple[str, float]:
    cyrillic = sum("а" <= character <= "я" for character in text.lower())
    latin = sum("a" <= character <= "z" for character in text.lower())
    return ("ru", 0.9) if cyrillic > latin else ("en", 0.8)


def test_a_paragraph_in_another_language_is_tagged() -> None:
    text = f"{ENGLISH}\n\n{RUSSIAN}\n\n{ENGLISH}\n\nда"  # the last one is too short to tell
    found = language(Text(text), by_script)
    start, own = text.index(RUSSIAN), 2 * len(ENGLISH)
    assert found.labels == {"language": "en"}
    assert found.spans == (TaggedSpan("language.ru", start, start + len(RUSSIAN), 0.9),)
    assert found.scores == {"language_probability": 0.8, "language_share": own / (own + len(RUSSIAN))}


def test_a_long_text_is_sampled_from_its_beginning_to_its_end() -> None:
    asked: list[str] = []
    before, body = (ENGLISH + " ") * 30, (RUSSIAN + " ") * 300
    found = language(Text(before + body), lambda text: asked.append(text) or by_script(text))
    assert found.labels == {"language": "ru"}
    assert len(asked) == 1 and 1_900 <= len(asked[0]) <= 2_010
    assert asked[0].startswith(before[:500]) and asked[0].endswith(body[-500:])


@for_each("text", ["", "ok", "12 + 34 = 46 | " * 50, "???\n\n!!!"])
def test_too_few_letters_are_undetermined(text: str) -> None:
    found = language(Text(text), by_script)
    assert (found.labels, found.scores, found.spans) == ({"language": "und"}, {}, ())


@pytest.mark.slow
@for_each(
    ("code", "text"),
    [
        *(("en", ENGLISH), ("ru", RUSSIAN)),
        ("fr", "Le port était calme quand les premiers bateaux sont rentrés, les filets à moitié vides."),
        ("zh", "第一批船只带着半空的渔网回来时，港口一片寂静，没有人谈论这件事。"),
        ("ar", "كان الميناء هادئا عندما عادت القوارب الأولى بشباكها نصف الفارغة ولم يتحدث أحد عن ذلك."),
        # A small language needs more evidence than a large one.
        *(("en", "do i get my pay on a monday"), ("en", "how do i say hi in thai")),
        ("pcm", "Everi human being, na free dem born am wey dem get di same dignity and di same rights"),
    ],
)
def test_py3langid_knows_real_sentences(code: str, text: str) -> None:
    found, probability = py3langid(text)
    assert found == code and 0 < probability <= 1
