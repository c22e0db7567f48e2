"""What a response was given, as items of a list that is read page by page."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lmworks.records import Message
from lmworks.serve.openai.errors import ApiError
from lmworks.serve.openai.responses_api.answers import (
    InputItem,
    InputMessage,
    InputText,
    ItemList,
    OutputCall,
    OutputText,
    ResultOfCall,
)
from lmworks.serve.openai.responses_api.events import item_id


class PageOfItems(BaseModel):
    """What can be said of a page in the query; anything else is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field(default="desc", description="asc: as they were given")
    after: str | None = Field(default=None, max_length=128, description="the id of the item before the page")


def page(messages: Sequence[Message], identifier: str, wanted: PageOfItems) -> ItemList:
    """The items of a conversation that a response answered, named after it; ApiError for an unknown `after`."""
    items = list(_items(messages, f"{identifier}_in"))
    if wanted.order == "desc":
        items.reverse()
    if wanted.after is not None:
        places = [number for number, item in enumerate(items) if item.id == wanted.after]
        if not places:
            raise ApiError(404, f"the response has no input item {wanted.after!r}", "after", "item_not_found")
        items = items[places[0] + 1 :]
    shown = items[: wanted.limit]
    first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
    return ItemList(data=shown, first_id=first, last_id=last, has_more=len(shown) < len(items))


def _items(messages: Sequence[Message], identifier: str) -> Iterator[InputItem]:
    """As the model got them: the parts of a content are one text, and "developer" is "system"."""
    number = 0

    def named(kind: str) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"id": item_id(kind, identifier, number - 1), "status": "completed"}

    for message in messages:
        if message.role == "tool":
            yield ResultOfCall(**named("fco"), call_id=message.tool_call_id or "", output=message.content)
        elif message.role != "assistant":
            yield InputMessage(**named("msg"), role=message.role, content=[InputText(text=message.content)])
        elif message.content or not message.tool_calls:
            yield InputMessage(**named("msg"), role="assistant", content=[OutputText(text=message.content)])
        for call in message.tool_calls:
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            yield OutputCall(**named("fc"), call_id=call["id"], name=function["name"], arguments=arguments)
