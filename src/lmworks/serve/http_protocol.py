"""HTTP/1.1 as uvicorn speaks it with h11, for clients that never end their request (slowloris)."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lmworks.serve.openai.errors import ApiError

_LEAST_RATE = 500  # bytes a second of a request that may take longer, as in Apache's mod_reqtimeout


def timed_protocol(seconds: float) -> type[H11Protocol]:
    """The protocol in which a request comes within `seconds`, or at `_LEAST_RATE`; else its connection is closed.

    uvicorn itself waits forever for the rest of a head or a body. Answers may take as long as they do.
    """

    class TimedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _received = 0  # bytes of the request since the timer was set

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._set_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # the request is complete
                self._stop_timer()
                return
            if not self._received:
                self._set_timer()
            self._received += len(data)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.their_state is h11.SEND_BODY:  # the rest of a request that came together with the last one
                self._unset_keepalive_if_required()
                self._set_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._received = None, 0

        def _set_timer(self) -> None:
            self._stop_timer()
            self._timer = self.loop.call_later(seconds, self._check)

        def _check(self) -> None:
            """At the end of `seconds`: as many more for who sends, or whom we do not read at the moment."""
            if self._received >= seconds * _LEAST_RATE or self.flow.read_paused:
                self._set_timer()
                return
            if self._received and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                message = f"the request did not come within {seconds:g} s (serve.receive_seconds)"
                answer = ApiError(408, message, None, "request_timeout", {"Connection": "close"}).response()
                head = h11.Response(status_code=408, headers=answer.raw_headers, reason=b"Request Timeout")
                events = (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage())
                self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
            self.transport.close()

    return TimedProtocol
