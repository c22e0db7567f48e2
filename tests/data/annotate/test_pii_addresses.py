"""Addresses of machines, with the standard library's reading of them as oracle."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

from lmworks.data.annotate.pii.scan import find_personal_data


def version_like(address: ipaddress.IPv4Address) -> bool:
    return address.packed[3] == 0 or max(address.packed) < 10


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_found_as_what_it_is(address):
    (mark,) = find_personal_data(f"from {address} at noon", 0.0)
    assert (mark.start, mark.end) == (5, 5 + len(str(address)))
    own = not address.is_global or address.is_multicast
    assert mark.rule == ("pii.ip_special" if own else "pii.ip")
    assert (mark.score > 0.5) == (not own and not version_like(address))


@given(st.ip_addresses(v=4), st.integers(1, 32))
def test_the_prefix_of_a_network_is_nobody_s(address, length):
    (mark,) = find_personal_data(f"from {address}/{length} at noon", 0.0)
    network = ipaddress.ip_interface(f"{address}/{length}").network
    if length < 32 and network.network_address == address:
        assert mark.score < 0.5
    else:
        assert mark == find_personal_data(f"from {address} at noon", 0.0)[0]


@given(st.integers(0x2001, 0x2BFF), st.integers(1, 0xFFFF), st.integers(1, 2**64 - 1))
def test_an_address_without_a_host_is_a_network_s(first, second, host):
    network = ipaddress.IPv6Address(first << 112 | second << 96)
    for address in (network, ipaddress.IPv6Address(int(network) | host)):
        found = [mark for mark in find_personal_data(f"from {address} at noon", 0.0) if mark.rule == "pii.ip"]
        assert all((mark.score < 0.5) == (address == network) for mark in found)


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_found_as_what_it_is(address):
    written = str(address)
    found = [mark for mark in find_personal_data(f"from {written} at noon", 0.0) if mark.rule.startswith("pii.ip")]
    telling = any(len(group) >= 3 and not group.isalpha() for group in written.split(":"))
    if written.count(":") >= 3 or (telling and not written.startswith("::")):
        (mark,) = found
        assert (mark.start, mark.end) == (5, 5 + len(written))
        meant = address.ipv4_mapped or address
        own = not meant.is_global or meant.is_multicast
        assert mark.rule == ("pii.ip_special" if own else "pii.ip")
    else:
        assert found == []  # `1::2` is code


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.20", "127.0.0.1", "192.0.2.1", "203.0.113.9", "2001:db8::1"]
)
def test_private_and_documentation_ranges_are_apart(address):
    assert finds(address) == []
    assert finds(address, 0.0) == [("ip_special", address)]


@pytest.mark.parametrize(
    "text",
    [
        "256.1.1.1",
        "1.2.3.4.5",
        "192.168.001.001",
        "1.2.3",
        "a[1::2]",
        "x[::2]",
        "std::string",
        "abc::def",
        "12:30:45",
        "2024:05:06",
        "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
        "00-1A-2B-3C-4D",
        "12001:db8::1",
    ],
)
def test_what_is_no_address(text):
    assert [find for find in finds(text, 0.0) if find[0] in ("ip", "ip_special", "mac")] == []


def test_versions_and_sections_score_less():
    found = scores("from 93.184.216.34, version 93.184.216.35 and 91.4.12.0 and § 3.1.2.4")
    assert found == {"93.184.216.34": 0.9, "93.184.216.35": 0.3, "91.4.12.0": 0.3, "3.1.2.4": 0.3}


@pytest.mark.parametrize(
    "text",
    [
        "#### {}. Pipelines\n\nSee {} again.",
        "- [{}.\u00a0Pipelines](#pipelines)",
        "Siehe Abschnitt\u00a0{} dazu.",
        "## 32.5.1 Pipelines\n\n{} Queries",
        "library-{}.tar.gz",
        "versions {} and later",
    ],
)
def test_sections_and_versions_stay_and_addresses_in_their_place_go(text):
    assert finds(text.format(*["32.5.1.12"] * 2)) == []
    assert finds(text.format(*["93.184.216.34"] * 2)) != [] or "versions" in text


@pytest.mark.parametrize("mac", ["00:1A:2B:3C:4D:5E", "00-1A-2B-3C-4D-5E", "de:ad:be:ef:00:01"])
def test_addresses_of_devices(mac):
    assert finds(f"dev {mac}!") == [("mac", mac)]


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "00:00:5e:00:53:af", "00:00:00:00:00:00"])
def test_addresses_of_no_device_score_less(mac):
    assert scores(f"dev {mac}") == {mac: 0.1}
