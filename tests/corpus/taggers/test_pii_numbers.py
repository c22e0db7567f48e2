"""Numbers of people: published examples are found, what merely looks like them is not, every wrong digit is noticed."""

from hypothesis import given
from hypothesis import strategies as st
from pii_texts import finds

from kit.tables import for_each
from lmworks.corpus.taggers.pii import numbers

# Of the literature on the methods; an IMEI (GSM 02.16).
PUBLISHED = {
    numbers.luhn: "79927398713 4111111111111111 490154203237518",
    numbers.verhoeff: "2363 234123412346",
    numbers.modulo_11_10: "36574261809 794623 002006673085",
}


@for_each("check", PUBLISHED)
def test_published_numbers_pass(check):
    assert all(map(check, PUBLISHED[check].split()))


@given(st.text("0123456789", min_size=1, max_size=24))
def test_luhn_is_its_definition(number):
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value // 10 + value % 10
    assert numbers.luhn(number) == (total % 10 == 0)


@for_each("check", [numbers.luhn, numbers.verhoeff, numbers.modulo_11_10])
@given(stem=st.text("0123456789", min_size=2, max_size=18), data=st.data())
def test_every_wrong_digit_is_noticed(check, stem, data):
    (number,) = (stem + digit for digit in "0123456789" if check(stem + digit))
    place = data.draw(st.integers(0, len(stem) - 1))
    other = data.draw(st.sampled_from("0123456789").filter(lambda digit: digit != number[place]))
    assert not check(number[:place] + other + number[place + 1 :])


CARDS = [  # Stripe's and Authorize.net's documentation of tests
    "4242424242424242", "4012888888881881", "4000056655665556", "5555555555554444", "2223003122003222",
    "5200828282828210", "5105105105105100", "378282246310005", "371449635398431", "6011111111111117",
    "6011000990139424", "6011981111111113", "3056930009020004", "36227206271667", "30569309025904", "38520000023237",
    "6555900000604105", "3566002020360505", "3530111333300000", "6200000000000005", "6200000000000047",
    "6205500000000000004", "370000000000002", "6011000000000012", "4007000000027", "38000000000006",
]  # fmt: skip


@for_each("number", CARDS)
def test_published_numbers_are_cards(number):
    assert finds(f"the card {number}.") == [("card", number)]


@for_each(
    "text",  # a wrong check digit, too long, no network, within words and numbers, other groups
    ["4111111111111112", "41111111111111111111111", "8111111111111112", "x4111111111111111", "4111111111111111x",
     "0.4111111111111111", "4111.1111.1111.1111", "411 11111 11111 111"],
)  # fmt: skip
def test_what_is_no_card(text):
    assert [find for find in finds(text, 0.0) if find[0] == "card"] == []


REGISTRY = """
AD12 0001 2030 2003 5910 0100|AE07 0331 2345 6789 0123 456|AL47 2121 1009 0000 0002 3569 8741|AT61 1904 3002 3457 3201
AZ21 NABZ 0000 0000 1370 1000 1944|BA39 1290 0794 0102 8494|BE68 5390 0754 7034|BG80 BNBG 9661 1020 3456 78
BH67 BMAG 0000 1299 1234 56|BI42 1000 0100 0100 0033 2045 181|BR18 0036 0305 0000 1000 9795 493C 1
BY13 NBRB 3600 9000 0000 2Z00 AB00|CH93 0076 2011 6238 5295 7|CR05 0152 0200 1026 2840 66
CY17 0020 0128 0000 0012 0052 7600|CZ65 0800 0000 1920 0014 5399|DE89 3704 0044 0532 0130 00|DK50 0040 0440 1162 43
DO28 BAGR 0000 0001 2124 5361 1324|EE38 2200 2210 2014 5685|EG38 0019 0005 0000 0000 2631 8000 2
ES91 2100 0418 4502 0005 1332|FI21 1234 5600 0007 85|FO62 6460 0001 6316 34|FR14 2004 1010 0505 0001 3M02 606
GB29 NWBK 6016 1331 9268 19|GE29 NB00 0000 0101 9049 17|GI75 NWBK 0000 0000 7099 453|GL89 6471 0001 0002 06
GR16 0110 1250 0000 0001 2300 695|GT82 TRAJ 0102 0000 0012 1002 9690|HR12 1001 0051 8630 0016 0
HU42 1177 3016 1111 1018 0000 0000|IE29 AIBK 9311 5212 3456 78|IL62 0108 0000 0009 9999 999
IQ98 NBIQ 8501 2345 6789 012|IS14 0159 2600 7654 5510 7303 39|IT60 X054 2811 1010 0000 0123 456
JO94 CBJO 0010 0000 0000 0131 0003 02|KW81 CBKU 0000 0000 0000 1234 5601 01|KZ86 125K ZT50 0410 0100
LB62 0999 0000 0001 0019 0122 9114|LC55 HEMM 0001 0001 0012 0012 0002 3015|LI21 0881 0000 2324 013A A
LT12 1000 0111 0100 1000|LU28 0019 4006 4475 0000|LV80 BANK 0000 4351 9500 1|MC58 1122 2000 0101 2345 6789 030
MD24 AG00 0225 1000 1310 4168|ME25 5050 0001 2345 6789 51|MK07 2501 2000 0058 984|MR13 0002 0001 0100 0012 3456 753
MT84 MALT 0110 0001 2345 MTLC AST0 01S|MU17 BOMM 0101 1010 3030 0200 000M UR|NL91 ABNA 0417 1643 00|NO93 8601 1117 947
PK36 SCBL 0000 0011 2345 6702|PL61 1090 1014 0000 0712 1981 2874|PS92 PALS 0000 0000 0400 1234 5670 2
PT50 0002 0123 1234 5678 9015 4|QA58 DOHB 0000 1234 5678 90AB CDEF G|RO49 AAAA 1B31 0075 9384 0000
RS35 2600 0560 1001 6113 79|SA03 8000 0000 6080 1016 7519|SC18 SSCB 1101 0000 0000 0000 1497 USD
SE45 5000 0000 0583 9825 7466|SI56 2633 0001 2039 086|SK31 1200 0000 1987 4263 7541|SM86 U032 2509 8000 0000 0270 100
ST23 0001 0001 0051 8453 1014 6|SV62 CENR 0000 0000 0000 0070 0025|TL38 0080 0123 4567 8910 157
TN59 1000 6035 1835 9847 8831|TR33 0006 1005 1978 6457 8413 26|UA21 3223 1300 0002 6007 2335 6600 1
VA59 0011 2300 0012 3456 78|VG96 VPVG 0000 0123 4567 8901|XK05 1212 0123 4567 8906
"""
EXAMPLES = [example for line in REGISTRY.split("\n") for example in line.split("|") if example]


@for_each("example", EXAMPLES)
def test_the_example_of_each_country_is_found_however_written(example):
    for written in (example, example.replace(" ", ""), example.lower(), example.replace(" ", "\u00a0")):
        assert finds(f"Pay to {written}, please") == [("iban", written)]


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_wrong_character_is_noticed(example, data):
    compact = example.replace(" ", "")
    assert numbers.is_iban(compact)
    place = data.draw(st.integers(2, len(compact) - 1))
    alphabet = "0123456789" if compact[place].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    other = data.draw(st.sampled_from(alphabet).filter(lambda character: character != compact[place]))
    assert not numbers.is_iban(compact[:place] + other + compact[place + 1 :])


STATES = {
    "234123412346": numbers.is_aadhaar, "36574261809": numbers.is_steuer_id, "295109912611193": numbers.is_nir,
    "54362315K": numbers.is_dni, "X2482300W": numbers.is_dni, "00000000T": numbers.is_dni,
}  # fmt: skip


@for_each("number", STATES)
def test_every_wrong_digit_of_a_state_is_noticed(number):
    for place, digit in enumerate(number):
        for other in "0123456789" if digit.isdigit() else digit:
            assert STATES[number](number[:place] + other + number[place + 1 :]) == (other == digit)
