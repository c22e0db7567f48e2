"""Card numbers: those that payment services publish for tests, and what merely looks like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

from lmworks.data.annotate.pii.cards import card_score

PUBLISHED = [  # Stripe's and Authorize.net's documentation of tests
    "4242424242424242", "4012888888881881", "4000056655665556", "5555555555554444", "2223003122003222",
    "5200828282828210", "5105105105105100", "378282246310005", "371449635398431", "6011111111111117",
    "6011000990139424", "6011981111111113", "3056930009020004", "36227206271667", "30569309025904", "38520000023237",
    "6555900000604105", "3566002020360505", "3530111333300000", "6200000000000005", "6200000000000047",
    "6205500000000000004", "370000000000002", "6011000000000012", "4007000000027", "38000000000006",
]  # fmt: skip


@pytest.mark.parametrize("number", PUBLISHED)
def test_published_numbers_are_cards(number):
    assert finds(f"the card {number}.") == [("card", number)]


@pytest.mark.parametrize(
    "written",
    [
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "3782 822463 10005",
        "3056 930902 5904",
        "4111\u00a01111\u00a01111\u00a01111",
    ],
)
def test_groups_are_one_number(written):
    assert finds(f"no. 2 {written} 12/27") == [("card", written)]
    assert finds(f"{written} 123") == [("card", written)]


def test_what_stands_in_front_may_be_a_group_too():
    assert finds("1234 4111 1111 1111 1111") == [("card", "4111 1111 1111 1111")]


def test_a_row_of_a_table_scores_less():
    row = "4111 1111 1111 1111 2024 2025"
    assert scores(row) == {"4111 1111 1111 1111": 0.5}
    assert scores(f"Visa: {row}") == {"4111 1111 1111 1111": 0.95}


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "41111111111111111111111",  # too long
        "8111111111111112",  # no network
        "x4111111111111111",
        "4111111111111111x",
        "0.4111111111111111",
        "4111.1111.1111.1111",
        "411 11111 11111 111",
    ],
)
def test_what_is_no_card(text):
    assert [find for find in finds(text, 0.0) if find[0] == "card"] == []


def test_a_number_of_no_network_is_a_card_where_the_text_says_so():
    for number in ("8111111111111112", "8111 1111 1111 1112"):
        assert scores(f"my credit card {number} is lost") == {number: 0.6}
        assert scores(f"the number {number} is lost").get(number, 0.0) == 0
    assert scores("my credit card 8111111111111113 is lost").get("8111111111111113", 0.0) == 0


@given(st.sampled_from(PUBLISHED), st.data())
def test_a_wrong_digit_is_no_card(number, data):
    place = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from("0123456789").filter(lambda digit: digit != number[place]))
    assert card_score(number) > 0
    assert card_score(number[:place] + other + number[place + 1 :]) == 0
