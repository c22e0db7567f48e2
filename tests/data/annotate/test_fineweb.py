"""FineWeb's measures: an example by hand, and definitions in plain Python."""

from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.fineweb import fineweb
from lmworks.data.annotation import Text

ENDS = ["The end.", "The end. ", 'He said "no."', "终于。", "नमस्ते।"]
LINES = st.sampled_from(["", "  ", "Menu", "x" * 30, "x" * 31, *ENDS])


def test_an_example_by_hand() -> None:
    text = "Menu\nMenu\n\nThis line is a bit longer than the others.\nEnd?"
    assert fineweb(Text(text)).measures == {
        "terminal_line_share": 2 / 4,
        "short_line_share": 3 / 4,
        "fineweb_duplicate_character_share": 4 / (len(text) - 4),
        "newlines_per_word": 4 / 12,
        "newlines_per_token": 4 / 14,
    }


@given(st.lists(LINES))
def test_measures_are_their_definitions(lines: list[str]) -> None:
    text = "\n".join(lines)
    measures = fineweb(Text(text)).measures
    filled = [line for line in lines if line.strip()]
    if not filled:
        assert measures == {}
        return
    assert measures["terminal_line_share"] == sum(line.endswith((".", "。", "।")) for line in filled) / len(filled)
    assert measures["short_line_share"] == sum(len(line) < 31 for line in filled) / len(filled)
    again = [line for place, line in enumerate(filled) if line in filled[:place]]
    share = sum(map(len, again)) / len(text.replace("\n", ""))
    assert measures["fineweb_duplicate_character_share"] == share
    assert measures["newlines_per_token"] == text.count("\n") / len(Text(text).tokens)
