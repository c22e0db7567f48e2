"""Verifiers and environments of a user's, in a file that imports little: processes of their own import it anew."""

from collections.abc import Sequence

from lmworks.align import environments
from lmworks.evaluate.metric import Item, Response
from lmworks.records import Message


def unsteady(item: Item, response: Response) -> float:
    """A verifier of a user's that does not like some responses."""
    return {"nan": float("nan")}.get(response.text, 0.5) / (response.text != "raise")


def in_stock(item: Item, response: Response) -> float:
    return float(response.text in item.fields["stock"])


def knows(messages: Sequence[Message], completion: str, item: Item) -> tuple[tuple[Message, ...], float | None, bool]:
    """Rewards the number in a row's column; does not like some completions."""
    while completion == "hang":
        pass
    return (), float(int(completion) == item.fields["secret"]), True


SEARCH = {"search": (environments.CALCULATOR, str.upper)}
