"""Telephone numbers in the forms that people write, and numbers that are none."""

import phonenumbers
import pytest
from pii_finds import finds, scores


@pytest.mark.parametrize(
    "number",
    ["+41 44 668 18 00", "+41 (0)44 668 18 00", "(+41) 44 668 18 00", "+41446681800", "+1 201-555-0723",
     "+1 (201) 555 0723", "+44 20 7946 0018", "+49-30-901820", "+683 7012", "(212) 736-5000", "212-736-5000",
     "212.736.5000", "1-800-466-4411", "(898)666-3621x0135", "212-736-5000 ext. 12", "0044 20 7946 0018",
     "001-253-366-9781", "(08) 8747 6301", "01.84.17.61.18", "0341 8387176", "079 0442 1744"],
)  # fmt: skip
def test_numbers_are_found_by_their_form(number):
    assert finds(f"See {number}. 20 people came") == [("phone", number)]
    assert finds(f"({number})") == [("phone", number)]


@pytest.mark.parametrize("number", ["450 0840", "374 780 163", "28-64-66-98", "3660170548", "21 253 109 8211"])
@pytest.mark.parametrize(
    "sentence", ["Call me at {}!", "You reach us at {}.", "Phone:\n{}\n", "Tel. {}", "{} (office)"]
)
def test_numbers_without_a_form_are_found_by_a_word(number, sentence):
    assert finds(sentence.format(number)) == [("phone", number)]
    assert finds(f"There were {number} of them") == []


@pytest.mark.parametrize("sentence", ["Invoice {}", "order no. {}", "Part number: {} is out", "ISBN {}"])
def test_numbers_of_things_score_less(sentence):
    assert scores(sentence.format("0341 8387176")).get("0341 8387176", 0.0) < 0.5
    assert finds(sentence.format("+41 44 668 18 00")) == [("phone", "+41 44 668 18 00")]


def test_several_numbers_in_a_row():
    assert finds("212-736-5000 212-736-5001") == [("phone", "212-736-5000"), ("phone", "212-736-5001")]
    assert finds("+41446681800+41446681801") == [("phone", "+41446681800"), ("phone", "+41446681801")]
    assert finds("+41 44 668 18 00 / +41 44 668 18 01") == [
        ("phone", "+41 44 668 18 00"),
        ("phone", "+41 44 668 18 01"),
    ]


@pytest.mark.parametrize(
    "text",
    ["call on 2024-05-06 or 06.05.2024", "call in 2019-2020", "call 12345678901234567890", "pi is 3.14159265358979",
     "0.05123456789", "1 2 3 4 5 6 7 8 9", "call 1234567.89 now", "call A1234567", "call 1234567th",
     "dial $ 1 234 567", "+999 1234 5678", "+1 234", "x+12", "ISBN 0-306-40615-2", "978-3-16-148410-0",
     "05/06/2019 10:30", "1987 45 612 3"],
)  # fmt: skip
def test_what_is_no_number(text):
    assert finds(text) == []


def test_numbers_of_films_score_less():
    assert scores("212-555-0123") == {"212-555-0123": 0.2}
    assert scores("+1 212 555 0123") == {"+1 212 555 0123": 0.2}


@pytest.mark.parametrize("written", [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164])
@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_example_of_each_country_is_found_whole(region, written):
    example = phonenumbers.example_number(region)
    assert example is not None
    number = phonenumbers.format_number(example, written)
    assert finds(f"reach us: {number}, any time", 0.0) == [("phone", number)]
