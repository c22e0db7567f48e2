"""Personal data as tests compare it, and texts for properties: finds of every family, and what looks like them."""

from hypothesis import strategies as st

from lmworks.corpus.taggers.pii.scan import find_personal_data

PIECES = (
    "jo@acme.com", "jo [at] acme [dot] org", "info@example.org", "@", "[at]", "a@b.", "+41 44 668 18 00", "+1", "(0)",
    "212-736-5000", "(212) 736-5000 x12", "450 0840", "call ", "Tel. ", "4111 1111 1111 1111", "5105105105105100",
    "3782 822463 10005", "4 ", "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "DE89", "93.184.216.34",
    "10.0.0.1", "1.2.3.", "2606:2800:220:1::1", "fe80::", ":", "::", "00:1A:2B:3C:4D:5E", "00-1A-", "536-90-4399",
    "SSN ", "390.533.447-05", "54362315K", "AB 12 34 56 C", "RCCMNL83S18D969H", "360426199101010071",
    "https://x.com/johndoe", "http://", "www.", "https://u:Passw0rt9@acme.com/?q=", "/@jo", "password=", "token: ",
    "'api_key': ", '"hunter2!x"', "Bearer ", "AKIAIOSFODNN7ABCDEF", "ghp_" + "a1B2" * 9, "sk-", "_a1", "SG.",
    "eyJ0eXAi0iJKV1QiLA0K", ".eyJpc3MiOiJqb2UiLA0K", "-----BEGIN PRIVATE KEY-----\n", "MC4CAQAwBQYDK2VwBCIEINTuctv5E\n",
    "-----END PRIVATE KEY-----",
    " ", "\n", "\n\n", ". ", ", ", "-", "/", "<", ">", "(", ")", "+", "x", "0", "12", "é",
    "的",
)  # fmt: skip

texts = st.lists(
    st.sampled_from(PIECES) | st.text(max_size=4) | st.text("0123456789 .-()+/", max_size=12), max_size=14
).map("".join)


def finds(text: str, at_least: float = 0.5) -> list[tuple[str, str]]:
    """Rules without `pii.`, and what they found, in the order of the text."""
    spans = find_personal_data(text, at_least)
    return [(span.rule.removeprefix("pii."), text[span.start : span.end]) for span in spans]
