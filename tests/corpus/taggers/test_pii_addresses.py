"""Addresses: of machines, with the standard library as oracle; of mail and the web, in the company that they keep."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

from lmworks.corpus.taggers.pii.scan import find_personal_data

# ---------------------------------------------------------------------------------------------------------------------
# Of machines


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
    ["256.1.1.1", "1.2.3.4.5", "192.168.001.001", "1.2.3", "a[1::2]", "x[::2]", "std::string", "abc::def", "12:30:45",
     "2024:05:06", "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48", "00-1A-2B-3C-4D", "12001:db8::1"],
)  # fmt: skip
def test_what_is_no_machine(text):
    assert [find for find in finds(text, 0.0) if find[0] in ("ip", "ip_special", "mac")] == []


def test_versions_and_sections_score_less():
    found = scores("from 93.184.216.34, version 93.184.216.35 and 91.4.12.0 and § 3.1.2.4")
    assert found == {"93.184.216.34": 0.9, "93.184.216.35": 0.3, "91.4.12.0": 0.3, "3.1.2.4": 0.3}


@pytest.mark.parametrize(
    "text",
    ["#### {}. Pipelines\n\nSee {} again.", "- [{}.\u00a0Pipelines](#pipelines)", "Siehe Abschnitt\u00a0{} dazu.",
     "## 32.5.1 Pipelines\n\n{} Queries", "library-{}.tar.gz", "versions {} and later"],
)  # fmt: skip
def test_sections_and_versions_stay_and_addresses_in_their_place_go(text):
    assert finds(text.format(*["32.5.1.12"] * 2)) == []
    assert finds(text.format(*["93.184.216.34"] * 2)) != [] or "versions" in text


@pytest.mark.parametrize("mac", ["00:1A:2B:3C:4D:5E", "00-1A-2B-3C-4D-5E", "de:ad:be:ef:00:01"])
def test_addresses_of_devices(mac):
    assert finds(f"dev {mac}!") == [("mac", mac)]


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "00:00:5e:00:53:af", "00:00:00:00:00:00"])
def test_addresses_of_no_device_score_less(mac):
    assert scores(f"dev {mac}") == {mac: 0.1}


# ---------------------------------------------------------------------------------------------------------------------
# Of mail

letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "address"),
    [("Write to ann.b+c@mail.acme.org, please", "ann.b+c@mail.acme.org"), ("<a@b.co>", "a@b.co"),
     ("mailto:o'neil@acme.com?subject=x", "o'neil@acme.com"), ("'jo@acme.com'", "jo@acme.com"),
     ("ünal@bücher.de", "ünal@bücher.de"), ("联系foo@acme.cn。", "foo@acme.cn"),
     ("Ask jo@acme.com.This is the next sentence", "jo@acme.com"), ("jo@acme.co.uk.", "jo@acme.co.uk"),
     ("user=jo@acme.com&x", "jo@acme.com"), ("JO@ACME.COM", "JO@ACME.COM"),
     ("jo@xn--bcher-kva.example2.xn--p1ai", "jo@xn--bcher-kva.example2.xn--p1ai"),
     ("jo [at] acme [dot] org", "jo [at] acme [dot] org"), ("jo(at)mail.acme(dot)org!", "jo(at)mail.acme(dot)org"),
     ("jo (AT) acme.org", "jo (AT) acme.org")],
)  # fmt: skip
def test_mail_is_found_whole(text, address):
    assert finds(text) == [("email", address)]


@pytest.mark.parametrize(
    "text",
    ["icon@2x.png", "react@18.2.0", "@decorator.name", "meet @ noon", "a@b", "jo@-acme.com", "held (at) noon",
     "x" * 65 + "@acme.com", "foo@@acme", "jo@acme.c"],
)  # fmt: skip
def test_what_is_no_mail(text):
    assert finds(text, 0.0) == []


@pytest.mark.parametrize("domain", ["example.com", "mail.example.org", "host.test", "x.invalid", "printer.local"])
def test_domains_of_nobody_are_not_marked_by_themselves(domain):
    assert scores(f"jo@{domain}") == {f"jo@{domain}": 0.2}


def test_roles_score_less_than_people():
    found = scores("info@acme.com, jo@acme.com, git@acme.com:x")
    assert found["git@acme.com"] < 0.5 < found["info@acme.com"] < found["jo@acme.com"]


# ---------------------------------------------------------------------------------------------------------------------
# Of the web


@pytest.mark.parametrize(
    ("text", "address"),
    [("see http://x.org/a_(b).", "http://x.org/a_(b)"), ("(https://x.org/a?b=c#d)", "https://x.org/a?b=c#d"),
     ("[text](http://x.org/a)", "http://x.org/a"), ("<http://x.org/>", "http://x.org/"),
     ("HTTP://X.ORG/", "HTTP://X.ORG/"), ("www.acme.com, and", "www.acme.com"),
     ("http://müller.de/straße。", "http://müller.de/straße"), ("'ftp://x.org/a'", "ftp://x.org/a")],
)  # fmt: skip
def test_addresses_are_found_whole_and_are_not_marked_by_themselves(text, address):
    assert scores(text) == {address: 0.2}
    assert finds(text, 0.0) == [("url", address)]
    assert finds(text) == []


@pytest.mark.parametrize(
    "address",
    ["https://www.facebook.com/john.doe?x=1", "http://twitter.com/johndoe", "https://x.com/johndoe/",
     "https://www.linkedin.com/in/john-doe-123", "https://github.com/johndoe", "https://old.reddit.com/user/johndoe",
     "https://mastodon.social/@johndoe", "https://people.acme.edu/~johndoe/", "www.instagram.com/johndoe",
     "https://t.me/johndoe"],
)  # fmt: skip
def test_pages_of_people_are_marked(address):
    assert finds(f"That is {address}!") == [("profile", address)]


@pytest.mark.parametrize(
    "address",
    ["https://github.com/pytorch/pytorch", "https://www.facebook.com/sharer.php?u=x",
     "https://twitter.com/intent/tweet", "https://netflix.com/title", "https://unpkg.com/@babel/core",
     "https://x.com/"],
)  # fmt: skip
def test_pages_of_sites_are_not(address):
    assert finds(address) == []
    assert scores(address) == {address: 0.2}


def test_passwords_in_addresses_are_marked():
    assert finds("postgres://admin:hunter2x@db.acme.com/x") == [("password", "admin:hunter2x")]
    assert finds("https://user:password@host.org/x") == [("email", "password@host.org")]


@pytest.mark.parametrize(
    "text", ["http://", "://x.org", "foo://x.org", "nohttp://x.org", "awww.cute", "www.", "http:/x"]
)
def test_what_is_no_page(text):
    assert finds(text, 0.0) == []


def test_the_number_of_a_host_is_the_address_of_a_machine():
    assert finds("http://[2606:2800:220:1::1]:80/x") == [("ip", "2606:2800:220:1::1")]
    assert finds("http://93.184.216.34/x") == [("ip", "93.184.216.34")]
