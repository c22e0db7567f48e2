"""What the pages are made of: addresses, forms, code blocks, durations, and colours with enough contrast."""

import re
from importlib import resources
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.serve.pages.forms import local_path

# ---------------------------------------------------------------------------------------------------------------------
# Parts


PIECES = st.sampled_from(["/", "\\", "//", "evil.example", "\t", "\n", ":", "@", "a"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_no_path_leads_to_another_site(path):
    """As a browser resolves it: by RFC 3986, with backslashes as slashes, and without tabs and line breaks."""
    target = re.sub(r"[\t\r\n]", "", local_path(path)).replace("\\", "/")
    assert urlsplit(urljoin("http://here.example/log", target)).netloc == "here.example"


@given(st.dictionaries(st.sampled_from(["question", "model", "a b", "ü"]), st.text(st.characters(codec="utf-8"))))
def test_a_form_is_read_as_it_was_written(fields):
    import asyncio

    from starlette.requests import Request

    from lmworks.serve.pages.forms import read_form

    async def receive():
        return {"type": "http.request", "body": urlencode(fields).encode(), "more_body": False}

    headers = [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    assert asyncio.run(read_form(request)) == fields


# ---------------------------------------------------------------------------------------------------------------------
# The design's promises


def tokens() -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark mode."""
    text = (resources.files("lmworks.serve") / "static" / "style.css").read_text("utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in text.split("@media", 2)[:2])
    return light, dark


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) with the relative luminances of the two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent", "accent-strong") for ground in ("paper", "surface", "wash")),
    *((f"{tone}", f"{tone}-wash") for tone in ("good", "caution", "bad")),
    *((tone, "paper") for tone in ("good", "caution", "bad")),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("accent-strong", "accent-wash"),
    ("ink", "accent-wash"),
    ("muted", "accent-wash"),
    ("ink", "mark"),
    ("paper", "ink"),
    *(("ink", f"{tone}-wash") for tone in ("caution", "bad")),
]
CONTROLS = [("edge", "paper"), ("edge", "surface"), ("accent", "paper"), ("accent", "surface"), ("accent", "line")]


@for_each("mode", [0, 1])
def test_colours_contrast_enough(mode):
    """WCAG AA: 4.5 for text, 3 for the parts of controls."""
    colours = tokens()[mode]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    weak = [(pair, contrast(colours[pair[0]], colours[pair[1]])) for pair in TEXT]
    assert [found for found in weak if found[1] < 4.5] == []
    weak = [(pair, contrast(colours[pair[0]], colours[pair[1]])) for pair in CONTROLS]
    assert [found for found in weak if found[1] < 3] == []
