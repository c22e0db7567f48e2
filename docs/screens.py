"""Takes the pictures in docs/screens/ from a running server: every section, a document and an interaction.

    lmworks serve --workspace .lmworks/assistant
    python docs/screens.py http://127.0.0.1:8000

Needs Chromium, playwright and Pillow, and asks the server two questions. Run it before each release.
"""

import io
import json
import shutil
import sys
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).with_name("screens")
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
COLOURS = 128  # of the palette: a picture stays below 80 kB
QUESTION = "What does functools.lru_cache do?"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def ask(base: str, model: str, question: str, conversation: str) -> dict:
    """The field `lmworks` of an answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "metadata": {"conversation": conversation},
        "max_tokens": 60,
        "temperature": 0.2,
        "seed": 1,
    }
    request = urllib.request.Request(
        f"{base}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["lmworks"]


def language_model(base: str) -> str:
    with urllib.request.urlopen(f"{base}/v1/models") as answer:
        return next(model["id"] for model in json.load(answer)["data"] if model["kind"] == "language")


def take(page: Page, name: str) -> None:
    page.wait_for_timeout(400)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


def main(base: str) -> None:
    grounded = ask(base, "assistant", QUESTION, "lru-cache")
    written = ask(base, language_model(base), "Name three colours.", "colours")
    cited = grounded["citations"][0]
    for old in FOLDER.glob("*.png"):
        old.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.goto(base + "/chat/lru-cache")
        sections = [str(link.get_attribute("href")) for link in page.locator("nav.sections a").all()]
        paths = {path.strip("/"): path for path in sections if path != "/"} | {
            "chat": "/chat/lru-cache",
            "document": f"/documents/{cited['document']}?start={cited['start']}&end={cited['end']}#cite",
            "interaction": f"/log/{written['interaction']}",
        }
        for name, path in paths.items():
            page.goto(base + path)
            take(page, name)
        page = browser.new_page(viewport=NARROW, color_scheme="dark")
        page.goto(base + paths["chat"])
        take(page, "chat-dark-narrow")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
