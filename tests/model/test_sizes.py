"""The table of published sizes: our counts round to the published digits, or a note says by how much they differ.

Run as a script it prints the table.
"""

import re

import pytest

from lmworks.model import presets
from lmworks.model.model_costs import count_active_parameters, count_parameters
from lmworks.model.presets.sizes import SIZES

UNITS = {"": 1, "M": 10**6, "B": 10**9, "T": 10**12}


def published(text: str) -> tuple[float, float]:
    """The number, and half a unit of its last digit: "1.3B" is 1.3e9 and 0.05e9."""
    digits, decimals, unit = re.fullmatch(r"([\d,]+)(?:\.(\d+))?([MBT]?)", text).groups()
    places = len(decimals or "")
    value = float(digits.replace(",", "") + "." + (decimals or "0")) * UNITS[unit]
    return value, 0.5 * UNITS[unit] / 10**places


def test_published_numbers_are_read_with_their_last_digit():
    assert published("1.3B") == (1.3e9, 0.05e9)
    assert published("2,024M") == (2.024e9, 0.5e6)
    assert published("494,032,768") == (494_032_768, 0.5)


@pytest.mark.parametrize("name", SIZES)
def test_the_count_rounds_to_the_published_digits_or_a_note_says_how_it_differs(name):
    size = SIZES[name]
    value, half = published(size.parameters)
    if abs(size.counted() - value) > half:
        assert size.note.startswith(f"{size.counted() / value - 1:+.1%}"), f"{size.counted():,}, {size.note!r}"
    else:
        assert not re.match(r"[+-]\d", size.note), "the number agrees: the note is out of date"


def test_every_family_has_a_size():
    assert {size.preset for size in SIZES.values()} == set(presets.__all__)


@pytest.mark.parametrize(
    ("name", "active", "places"),
    [
        ("glam-64b-64e", 96.6, 1),  # Du et al. 2022, section 1
        ("mixtral-8x7b", 13, 0),  # Jiang et al. 2024, section 1
        ("mixtral-8x22b", 39, 0),  # the announcement
    ],
)
def test_parameters_that_a_token_meets_are_those_of_the_papers(name, active, places):
    assert round(count_active_parameters(SIZES[name].config) / 1e9, places) == active


def main() -> None:
    print("| size | published | counts | counted | all | source | note |\n|---|---:|---|---:|---:|---|---|")
    for name, size in SIZES.items():
        row = (name, size.parameters, size.counts, f"{size.counted():,}", f"{count_parameters(size.config):,}")
        print(f"| {' | '.join(row)} | {size.source} | {size.note} |")


if __name__ == "__main__":
    main()
