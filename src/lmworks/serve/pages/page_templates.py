"""Templates into pages: one environment that escapes everything, the filters, and the frame every page shares."""

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.types import Receive, Scope, Send

from lmworks.ground.conformal_risk_control import certainty_phrase, certainty_sentence
from lmworks.monitor.filter import in_quotes
from lmworks.report import table_html
from lmworks.serve.remaining_stages import unfinished_notice
from lmworks.serve.service import Service

SECTIONS = (
    ("chat", "/", "Chat"),
    ("overview", "/overview", "Overview"),
    ("documents", "/documents", "Documents"),
    ("log", "/log", "Log"),
    ("review", "/review", "Review"),
    ("experiments", "/experiments", "Experiments"),
    ("drift", "/drift", "Drift"),
    ("alarms", "/alarms", "Alarms"),
    ("evaluation", "/evaluation", "Evaluation"),
    ("prompts", "/prompts", "Prompts"),
    ("compare", "/compare", "Compare"),
    ("rank", "/rank", "Rank"),
    ("system", "/system", "System"),
)

# An SVG or a report of our own may carry a style sheet; opened by itself it can do nothing else.
FIGURE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

# Control characters and lone surrogates, which a browser would drop or change
_UNSHOWABLE = re.compile("[\0-\x08\x0b\x0d-\x1f\x7f-\x9f\ud800-\udfff]")
_CLIPPED = 1 << 16  # characters of a text that is clipped; the others are not looked at


def page(
    service: Service, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A whole page: `template` extends base.html, whose frame shows the system's name and state."""
    shared = {
        "system_name": system_name(service),
        "state": service.state,
        "unfinished": unfinished_notice(service.current, service.remaining),
    }
    return fragment(template, status, headers, **shared, **context)


def fragment(
    template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A template rendered by itself; characters that HTML cannot hold are shown as U+FFFD."""
    return _Rendered(template, context, status, dict(headers or {}))


class _Rendered(HTMLResponse):
    """A template that is rendered while it is sent, on a thread: answers of megabytes hold nobody else up."""

    def __init__(self, template: str, context: dict[str, Any], status: int, headers: dict[str, str]) -> None:
        super().__init__("", status, headers)
        self._template, self._context = template, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body = await asyncio.to_thread(self._rendered)
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)

    def _rendered(self) -> bytes | memoryview:
        text = environment().get_template(self._template).render(self._context)
        return self.render(_UNSHOWABLE.sub("\ufffd", text))


def error_page(service: Service, status: int, heading: str, text: str, retry: str = "", back: str = "") -> HTMLResponse:
    """A page that says what went wrong and what to do next; `retry` is the path that may work later, or that of the
    page `back` to choose something else on."""
    context = {"status_code": status, "heading": heading, "text": text, "retry": retry, "back": back}
    return page(service, "error.html", status, **context)


def system_name(service: Service) -> str:
    """The recipe's name, or the name of the first model where no recipe was built."""
    if service.current is not None:
        return service.current.recipe
    return next((model.name for model in service.models), "")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Escapes everything; a name that the context lacks is an error, never an empty string."""
    jinja = Environment(
        loader=PackageLoader("lmworks.serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals |= {"static": static, "sections": SECTIONS, "zip": zip}
    jinja.filters |= {
        "relative": relative,
        "iso": iso,
        "seconds": seconds,
        "count": count,
        "counted": counted,
        "short": short,
        "clip": clip,
        "table": lambda table: Markup(table_html(table)),
        "segment": segment,
        "in_quotes": in_quotes,
        "certainty_phrase": certainty_phrase,
        "certainty_sentence": certainty_sentence,
    }
    return jinja


@lru_cache
def static(name: str) -> str:
    """The address of a static file, which changes with the file's content, so that browsers never show an old one.

    A script keeps its plain address: scripts import each other by it, and one module must not be loaded twice.
    """
    if name.endswith(".js"):
        return f"/static/{name}"
    content = (resources.files("lmworks.serve") / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:10]}"


# ---------------------------------------------------------------------------------------------------------------------
# Filters


def relative(moment: float, now: float | None = None) -> str:
    """Seconds since the epoch as "just now", "5 min ago", "3 h ago", "2 days ago", then the date (UTC)."""
    past = (time.time() if now is None else now) - moment
    if past < 45:
        return "just now"
    if past < 45 * 60:
        return f"{max(1, round(past / 60))} min ago"
    if past < 22 * 3600:
        return f"{max(1, round(past / 3600))} h ago"
    days = max(1, round(past / 86400))
    if days < 7:
        return "yesterday" if days == 1 else f"{days} days ago"
    return datetime.fromtimestamp(moment, UTC).strftime("%-d %b %Y")


def iso(moment: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(value: float) -> str:
    """A duration in the unit that suits it: µs, ms, s, min, h or days."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


def count(value: int) -> str:
    """A whole number with thin spaces between its thousands."""
    return f"{value:,}".replace(",", "\u202f")


def counted(value: int, noun: str) -> str:
    """A number of things: "1 token", "2 tokens"."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def short(digest: str) -> str:
    """The first twelve characters of a hash."""
    return digest[:12]


def segment(text: str) -> str:
    """Text as one segment of a path, whatever it holds."""
    return quote(text, safe="", errors="replace")


def clip(text: str, length: int = 120) -> str:
    """At most `length` characters on one line, with an ellipsis where something was left out."""
    line = " ".join(text[:_CLIPPED].split())
    return line if len(line) <= length and len(text) <= _CLIPPED else line[: length - 1].rstrip() + "…"


def file_name(uri: str) -> str:
    """The last part of a uri, which people know a document by."""
    return PurePosixPath(uri.split(":", 1)[-1].rstrip("/")).name or uri


def size(count: int) -> str:
    """Bytes: 812 B, 3.4 kB, 1.2 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def whole_number(text: str | None, default: int, name: str, most: int = 10**9) -> int:
    """A number of a query string; ValueError that names it when it is none, or is larger than `most`."""
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > most:
        raise ValueError(f"{name} is a whole number up to {most:,}, got {text[:40]!r}")
    return int(text)
