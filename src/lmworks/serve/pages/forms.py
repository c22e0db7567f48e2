"""Plain HTML forms: reading them without a further library, and the two that every page with an answer shows."""

import time
from typing import Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from lmworks.records import Feedback
from lmworks.serve.pages.page_templates import error_page
from lmworks.serve.service import Service

MAXIMUM_FIELDS = 64
MAXIMUM_TEXT = 10_000  # characters of a reason or a note


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an `application/x-www-form-urlencoded` body; the last value where a name is given twice.

    Raises ValueError for another content type, and for more fields than a form of ours has.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise ValueError(f"a form is sent as application/x-www-form-urlencoded, got {media_type or 'no content type'}")
    body = (await request.body()).decode("utf-8", "replace")
    fields = parse_qs(body, keep_blank_values=True, max_num_fields=MAXIMUM_FIELDS, errors="replace")
    return {name: values[-1] for name, values in fields.items()}


def local_path(path: str, default: str = "/") -> str:
    """A path of this server to go back to; `default` for anything that would lead elsewhere."""
    is_local = path.startswith("/") and not path.startswith("//")
    return path if is_local and "\\" not in path and path.isprintable() else default


def thumbs(interaction: str, fields: dict[str, str]) -> Feedback:
    """`value` is "up", "down", or "" to take an earlier thumb back; `reason` and `text` say why."""
    value: dict[str, Literal["up", "down"] | None] = {"up": "up", "down": "down", "": None}
    if fields.get("value") not in value:
        raise ValueError(f"value must be up, down or empty, got {fields.get('value')!r}")
    reason = ": ".join(text for text in (fields.get("reason", "").strip(), fields.get("text", "").strip()) if text)
    return Feedback(interaction, time.time(), "thumbs", value[fields["value"]], bounded(reason))


def note(interaction: str, fields: dict[str, str]) -> Feedback:
    """`text` is the note, `author` who wrote it."""
    text = fields.get("text", "").strip()
    if not text:
        raise ValueError("the note is empty")
    return Feedback(interaction, time.time(), "note", None, bounded(text), bounded(fields.get("author", "").strip()))


def router(service: Service) -> APIRouter:
    """The forms on an answer: thumbs and notes; each goes back to the page it came from."""
    routes = APIRouter()

    @routes.post("/log/{identifier}/feedback")
    @routes.post("/log/{identifier}/notes")
    async def attach(identifier: str, request: Request) -> Response:
        try:
            fields, kind = await read_form(request), note if request.url.path.endswith("/notes") else thumbs
            await service.feedback(kind(identifier, fields))
        except KeyError:
            return error_page(service, 404, "No such interaction", f"The log holds no interaction {identifier}.")
        except ValueError as error:
            return error_page(service, 400, "This form cannot be read", str(error))
        return RedirectResponse(local_path(fields.get("back", ""), f"/log/{identifier}"), 303)

    return routes


def bounded(text: str) -> str:
    """The text itself; ValueError where it is longer than is kept."""
    if len(text) > MAXIMUM_TEXT:
        raise ValueError(f"the text has {len(text)} characters; at most {MAXIMUM_TEXT} are kept")
    return text
