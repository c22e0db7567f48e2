"""Chromium, and a page that fails its test for any error, any refusal of the policy, any request off this machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need the program chromium")
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WATCH_POLICY = "addEventListener('securitypolicyviolation', e => console.error('refused: ' + e.violatedDirective))"


@contextmanager
def launched() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: "playwright.Browser", url: str) -> Iterator[tuple["playwright.Page", list[str]]]:
    """The page and the list of what it did wrong, from which a test may take what it brought about itself."""
    context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900}, service_workers="block")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.add_init_script(WATCH_POLICY)
    wrong: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: None if _inside(sent.url) else wrong.append(sent.url))
    yield page, wrong
    context.close()
    assert wrong == []


def _inside(url: str) -> bool:
    return urlsplit(url).hostname == "127.0.0.1" or url.startswith(("data:", "blob:"))
