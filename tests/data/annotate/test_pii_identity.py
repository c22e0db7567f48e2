"""National numbers: the examples that their descriptions use, and ranges that are never given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

from lmworks.data.annotate.pii import identity


@pytest.mark.parametrize(
    ("text", "rule", "number"),
    [
        ("it is 536-90-4399.", "ssn", "536-90-4399"),
        ("his SSN: 536904399", "ssn", "536904399"),
        ("social security number 536 90 4399", "ssn", "536 90 4399"),
        ("ITIN 912-90-3456", "ssn", "912-90-3456"),
        ("SIN 123-456-782", "national_id", "123-456-782"),
        ("CPF 39053344705", "national_id", "39053344705"),
        ("390.533.447-05", "national_id", "390.533.447-05"),
        ("Aadhaar 2341 2341 2346", "national_id", "2341 2341 2346"),
        ("880320-0016", "national_id", "880320-0016"),
        ("54362315-K", "national_id", "54362315-K"),
        ("X-2482300-W", "national_id", "X-2482300-W"),
        ("x2482300w", "national_id", "x2482300w"),
        ("36 574 261 809", "national_id", "36 574 261 809"),
        ("PESEL: 44051401359", "national_id", "44051401359"),
        ("BSN 111222333", "national_id", "111222333"),
        ("2 95 10 99 126 111 93", "national_id", "2 95 10 99 126 111 93"),
        ("295109912611193", "national_id", "295109912611193"),
        ("360426199101010071", "national_id", "360426199101010071"),
        ("RCCMNL83S18D969H", "national_id", "RCCMNL83S18D969H"),
        ("NI number AB 12 34 56 C", "national_id", "AB 12 34 56 C"),
        ("AB123456C", "national_id", "AB123456C"),
    ],
)
def test_numbers_of_the_descriptions_are_found(text, rule, number):
    assert finds(text) == [(rule, number)]


@pytest.mark.parametrize("digits", ["000123456", "666123456", "900123456", "123004567", "123450000", "078051120"])
def test_social_security_numbers_that_are_never_given(digits):
    assert not identity.is_ssn(digits)
    assert finds(f"SSN {digits[:3]}-{digits[3:5]}-{digits[5:]}") == []


@pytest.mark.parametrize(
    ("check", "number"),
    [
        (identity.is_sin, "123456782"),
        (identity.is_cpf, "11144477735"),
        (identity.is_aadhaar, "234123412346"),
        (identity.is_personnummer, "8803200016"),
        (identity.is_steuer_id, "36574261809"),
        (identity.is_pesel, "44051401359"),
        (identity.is_bsn, "111222333"),
        (identity.is_nir, "295109912611193"),
        (identity.is_resident_id, "360426199101010071"),
    ],
)
@given(data=st.data())
def test_a_wrong_digit_is_noticed(check, number, data):
    assert check(number)
    place = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from("0123456789").filter(lambda digit: digit != number[place]))
    assert not check(number[:place] + other + number[place + 1 :])


def test_eleven_equal_digits_are_nobody():
    assert not any(identity.is_cpf(digit * 11) for digit in "0123456789")


@pytest.mark.parametrize("number", ["54362315K", "X2482300W", "Y0000000Z", "00000000T"])
def test_letters_of_spain_depend_on_every_digit(number):
    assert identity.is_dni(number)
    start = 1 if number[0].isalpha() else 0
    for place in range(start, 8):
        for digit in "0123456789":
            changed = number[:place] + digit + number[place + 1 :]
            assert identity.is_dni(changed) == (changed == number)


@pytest.mark.parametrize("text", ["GB123456A", "QQ123456C", "AB123456E", "RCCMNL83S18D969I", "PO12345678"])
def test_letters_that_are_wrong(text):
    assert finds(text, 0.0) == []


def test_digits_in_a_row_need_a_word():
    assert scores("id 44051401359") == {"44051401359": 0.3}
    assert finds("id 536904399 and 111222333") == []
