"""Addresses of e-mail in the company that they keep in texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Write to ann.b+c@mail.acme.org, please", "ann.b+c@mail.acme.org"),
        ("<a@b.co>", "a@b.co"),
        ("mailto:o'neil@acme.com?subject=x", "o'neil@acme.com"),
        ("'jo@acme.com'", "jo@acme.com"),
        ("ünal@bücher.de", "ünal@bücher.de"),
        ("联系foo@acme.cn。", "foo@acme.cn"),
        ("Ask jo@acme.com.This is the next sentence", "jo@acme.com"),
        ("jo@acme.co.uk.", "jo@acme.co.uk"),
        ("user=jo@acme.com&x", "jo@acme.com"),
        ("JO@ACME.COM", "JO@ACME.COM"),
        ("jo@xn--bcher-kva.example2.xn--p1ai", "jo@xn--bcher-kva.example2.xn--p1ai"),
        ("jo [at] acme [dot] org", "jo [at] acme [dot] org"),
        ("jo(at)mail.acme(dot)org!", "jo(at)mail.acme(dot)org"),
        ("jo (AT) acme.org", "jo (AT) acme.org"),
    ],
)
def test_addresses_are_found_whole(text, address):
    assert finds(text) == [("email", address)]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png",
        "react@18.2.0",
        "@decorator.name",
        "meet @ noon",
        "a@b",
        "jo@-acme.com",
        "held (at) noon",
        "x" * 65 + "@acme.com",
        "foo@@acme",
        "jo@acme.c",
    ],
)
def test_what_is_no_address(text):
    assert finds(text, 0.0) == []


@pytest.mark.parametrize("domain", ["example.com", "mail.example.org", "host.test", "x.invalid", "printer.local"])
def test_domains_of_nobody_are_not_marked_by_themselves(domain):
    assert scores(f"jo@{domain}") == {f"jo@{domain}": 0.2}


def test_roles_score_less_than_people():
    found = scores("info@acme.com, jo@acme.com, git@acme.com:x")
    assert found["git@acme.com"] < 0.5 < found["info@acme.com"] < found["jo@acme.com"]


@given(letters, letters, st.sampled_from(["com", "org", "de", "museum"]))
def test_plain_addresses_are_found_anywhere(name, host, top):
    address = f"{name}@{host}.{top}"
    assert address in scores(f"See {address}; and so on")
