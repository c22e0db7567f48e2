"""An example of each country, written for callers from abroad, as `phonenumbers` (libphonenumber) writes it."""

import phonenumbers
import pytest
from pii_finds import finds

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
FORMATS = (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164)


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("region", REGIONS)
def test_the_example_of_each_country_is_found_whole(region, written):
    example = phonenumbers.example_number(region)
    assert example is not None
    number = phonenumbers.format_number(example, written)
    found = finds(f"reach us: {number}, any time", 0.0)
    assert found == [("phone", number)]
