"""Who is signed in: a table in memory, behind a cookie that scripts cannot read."""

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from lmworks.serve.api_keys import Key, KeyRing

COOKIE = "lmworks_session"
SECONDS = 7 * 24 * 3600
_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Session:
    key: Key
    expires: float


class Sessions:
    """Signing in with a key starts a session, which ends after a week, with its key, or with the server."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._table: OrderedDict[str, _Session] = OrderedDict()  # by hash, so that a dump of memory signs nobody in

    def start(self, key: Key) -> str:
        """A new token for the cookie. The oldest session ends when there are too many."""
        token = secrets.token_urlsafe(32)
        self._table[_hash(token)] = _Session(key, time.monotonic() + SECONDS)
        while len(self._table) > _MOST:
            self._table.popitem(last=False)
        return token

    def key(self, token: str) -> Key | None:
        """The key that the session was started with, while both last."""
        session = self._table.get(_hash(token))
        if session is None:
            return None
        if session.expires < time.monotonic() or session.key not in self._ring.current():
            self.end(token)
            return None
        return session.key

    def end(self, token: str) -> None:
        self._table.pop(_hash(token), None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
