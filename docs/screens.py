"""Takes the pictures in docs/screens/ from a running server: each page in light and dark, wide and narrow.

    lmworks serve --workspace .lmworks/assistant
    python docs/screens.py http://127.0.0.1:8000

Needs Chromium, playwright and Pillow, and asks the server three questions.
"""

import io
import json
import shutil
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).with_name("screens")
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
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


def compared(base: str, question: str) -> str:
    """The path of the page that shows what the assistant and the language model answer to one question."""
    fields = {"question": question, "first": "assistant", "second": language_model(base)}
    with urllib.request.urlopen(f"{base}/compare/ask", urllib.parse.urlencode(fields).encode()) as answer:
        return urllib.parse.urlsplit(answer.url).path


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
    paths = {
        "chat": "/chat/lru-cache",
        "documents": "/documents?q=context+manager",
        "document": f"/documents/{cited['document']}?start={cited['start']}&end={cited['end']}#cite",
        "log": "/log",
        "interaction": f"/log/{written['interaction']}",
        "evaluation": "/evaluation",
        "compare": compared(base, QUESTION),
        "system": "/system",
    }
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        for scheme in ("light", "dark"):
            for width, (across, down) in SIZES.items():
                page = browser.new_page(viewport={"width": across, "height": down}, color_scheme=scheme)
                for name, path in paths.items():
                    page.goto(base + path)
                    if name == "log" and width == "wide":
                        page.locator("#log tbody tr").nth(1).click()
                    take(page, f"{name}-{scheme}-{width}")
                page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
