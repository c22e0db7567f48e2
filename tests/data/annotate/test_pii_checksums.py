"""Check digits against the examples of those who publish them, and what each check promises to notice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.data.annotate.pii.checksums import luhn, modulo_11_2, modulo_11_10, verhoeff, weighted_sum

digits = st.text("0123456789", min_size=1, max_size=24)


@pytest.mark.parametrize(
    ("check", "number"),
    [
        (luhn, "79927398713"),  # of the literature on the method
        (luhn, "4111111111111111"),
        (luhn, "490154203237518"),  # an IMEI, GSM 02.16
        (verhoeff, "2363"),  # 236 and its digit, of the literature
        (verhoeff, "234123412346"),
        (modulo_11_2, "07940"),
        (modulo_11_2, "079X"),
        (modulo_11_2, "000000021825009" + "7"),  # an ORCID, which are ISO 7064 MOD 11-2
        (modulo_11_10, "36574261809"),
        (modulo_11_10, "794623"),
        (modulo_11_10, "002006673085"),
    ],
)
def test_published_numbers_pass(check, number):
    assert check(number)


@given(digits)
def test_luhn_is_its_definition(number):
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value // 10 + value % 10
    assert luhn(number) == (total % 10 == 0)


@pytest.mark.parametrize("check", [luhn, verhoeff, modulo_11_10, modulo_11_2])
@given(stem=st.text("0123456789", min_size=2, max_size=18), data=st.data())
def test_every_wrong_digit_is_noticed(check, stem, data):
    """Each of the four has one check digit for a stem (modulo 11-2 sometimes only X), and notices any single error."""
    passing = [digit for digit in "0123456789X"[: 11 if check is modulo_11_2 else 10] if check(stem + digit)]
    assert len(passing) == 1
    number = stem + passing[0]
    place = data.draw(st.integers(0, len(stem) - 1))
    other = data.draw(st.sampled_from("0123456789").filter(lambda digit: digit != number[place]))
    assert not check(number[:place] + other + number[place + 1 :])


@given(stem=st.text("0123456789", min_size=2, max_size=18), data=st.data())
def test_verhoeff_notices_every_swap_of_neighbours(stem, data):
    number = next(stem + digit for digit in "0123456789" if verhoeff(stem + digit))
    place = data.draw(st.integers(0, len(stem) - 1))
    swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assert verhoeff(swapped) == (swapped == number)


def test_a_weighted_sum_ends_with_the_weights():
    assert weighted_sum("123", (10, 1)) == 12
