"""Addresses of machines, with the standard library as oracle."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.pii.scan import find_personal_data


def version_like(address: ipaddress.IPv4Address) -> bool:
    return address.packed[3] == 0 or max(address.packed) < 10


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_found_as_what_it_is(address):
    (span,) = find_personal_data(f"from {address} at noon", 0.0)
    assert (span.start, span.end) == (5, 5 + len(str(address)))
    own = not address.is_global or address.is_multicast
    assert span.rule == ("pii.ip_special" if own else "pii.ip")
    assert (span.score > 0.5) == (not own and not version_like(address))


@given(st.ip_addresses(v=4), st.integers(1, 32))
def test_the_prefix_of_a_network_is_nobody_s(address, length):
    (span,) = find_personal_data(f"from {address}/{length} at noon", 0.0)
    network = ipaddress.ip_interface(f"{address}/{length}").network
    if length < 32 and network.network_address == address:
        assert span.score < 0.5
    else:
        assert span == find_personal_data(f"from {address} at noon", 0.0)[0]


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_found_as_what_it_is(address):
    written = str(address)
    found = [span for span in find_personal_data(f"from {written} at noon", 0.0) if span.rule.startswith("pii.ip")]
    telling = any(len(group) >= 3 and not group.isalpha() for group in written.split(":"))
    if written.count(":") >= 3 or (telling and not written.startswith("::")):
        (span,) = found
        assert (span.start, span.end) == (5, 5 + len(written))
        meant = address.ipv4_mapped or address
        own = not meant.is_global or meant.is_multicast
        assert span.rule == ("pii.ip_special" if own else "pii.ip")
    else:
        assert found == []  # `1::2` is code
