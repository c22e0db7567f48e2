"""Web addresses, and those that are personal."""

import pytest
from pii_finds import finds, scores


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("see http://x.org/a_(b).", "http://x.org/a_(b)"),
        ("(https://x.org/a?b=c#d)", "https://x.org/a?b=c#d"),
        ("[text](http://x.org/a)", "http://x.org/a"),
        ("<http://x.org/>", "http://x.org/"),
        ("HTTP://X.ORG/", "HTTP://X.ORG/"),
        ("www.acme.com, and", "www.acme.com"),
        ("http://müller.de/straße。", "http://müller.de/straße"),
        ("'ftp://x.org/a'", "ftp://x.org/a"),
    ],
)
def test_addresses_are_found_whole_and_are_not_marked_by_themselves(text, address):
    assert scores(text) == {address: 0.2}
    assert finds(text, 0.0) == [("url", address)]
    assert finds(text) == []


@pytest.mark.parametrize(
    "address",
    [
        "https://www.facebook.com/john.doe?x=1",
        "http://twitter.com/johndoe",
        "https://x.com/johndoe/",
        "https://www.linkedin.com/in/john-doe-123",
        "https://github.com/johndoe",
        "https://old.reddit.com/user/johndoe",
        "https://mastodon.social/@johndoe",
        "https://people.acme.edu/~johndoe/",
        "www.instagram.com/johndoe",
        "https://t.me/johndoe",
    ],
)
def test_pages_of_people_are_marked(address):
    assert finds(f"That is {address}!") == [("profile", address)]


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/pytorch/pytorch",
        "https://www.facebook.com/sharer.php?u=x",
        "https://twitter.com/intent/tweet",
        "https://netflix.com/title",
        "https://unpkg.com/@babel/core",
        "https://x.com/",
    ],
)
def test_pages_of_sites_are_not(address):
    assert finds(address) == []
    assert scores(address) == {address: 0.2}


def test_passwords_in_addresses_are_marked():
    assert finds("postgres://admin:hunter2x@db.acme.com/x") == [("password", "admin:hunter2x")]
    assert finds("https://user:password@host.org/x") == [("email", "password@host.org")]


@pytest.mark.parametrize(
    "text", ["http://", "://x.org", "foo://x.org", "nohttp://x.org", "awww.cute", "www.", "http:/x"]
)
def test_what_is_no_address(text):
    assert finds(text, 0.0) == []


def test_the_number_of_a_host_is_the_address_of_a_machine():
    assert finds("http://[2606:2800:220:1::1]:80/x") == [("ip", "2606:2800:220:1::1")]
    assert finds("http://93.184.216.34/x") == [("ip", "93.184.216.34")]
