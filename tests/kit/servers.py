"""A real server in a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
import openai

from lmworks.serve.app import create_app
from lmworks.serve.listener import listen
from lmworks.serve.server import Server
from lmworks.serve.service import Service


@dataclass(frozen=True)
class Running:
    """The server, and the service behind it."""

    url: str
    service: Service
    server: Server

    def client(self, key: str = "none", **options) -> openai.OpenAI:
        """The official client; it does not retry, so that a test sees every answer."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **options)

    def http(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def interaction(self, answer):
        """What the log holds of a chat, a completion or a response."""
        return self.service.log.reader.get(answer.id.partition("-")[2] or answer.id.removeprefix("resp_"))


@contextmanager
def serving(service: Service, load: bool = False) -> Iterator[Running]:
    """Serve on a free port until the block ends; the service is closed then, and what it logged is committed."""
    if load:
        service.load()
    listener = listen(replace(service.config, port=0))
    server = Server(create_app(service), service)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", service, server)
    finally:
        server.stop()
        thread.join(timeout=60)
        service.close()
        assert not thread.is_alive(), "the server did not stop"
