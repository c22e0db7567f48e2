"""The settings of a server. Free of FastAPI and torch, like every `config.py`."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from lmworks.config import at_least, positive, within

PROMPTS = 128  # of one text completion, all of which may be scored
_MOST_SLOTS = 1024
_LEAST_CONTEXT = 16  # tokens: less holds no rendered message


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The `[serve]` table of a recipe, and the options of `lmworks serve`, whose help shows the first sentences.

    host                 where to listen. Anything but loopback needs `keys`.
    port                 where to listen, 0 for a free one.
    slots                completions that a language model makes at a time. At most 1024; more wait in line.
    context_length       tokens of prompt and completion, 0: all that the model has. As far as half of the free memory
                         holds them. At least 16.
    weights              auto, float32, bfloat16, float16, int8 or int4. How language models are held, see `Engine`.
    device               of language models: auto, cpu, cuda, cuda:1 or mps. auto is a CUDA GPU where there is one, but
                         the CPU for int8 and int4, which run there alone; encoders stay on the CPU.
    cache_dtype          of keys and values: auto, float32, bfloat16 or int8. See `Engine`.
    cache_tokens         that the cache of a model holds, 0: slots x context_length. Of all requests together; as far as
                         half of the free memory holds them.
    speculation          guess what was seen before: auto, lookup or off. Only where it pays, see `Engine`.
    adapters             name -> folder of an adapter, served as a model of that name. LoRA runs next to the language
                         model that it fits, in one engine; any other kind in an engine of its own.
    events_per_second    of all streams of a model, 0: no limit. Where more tokens are made, an event carries several;
                         the first token of an answer never waits.
    query_embeddings     keep in the log the vector of what each chat asked. By the embedder that is served; a chat
                         waits for it only where it takes longer than the answer. Without an embedder there is none.
    max_waiting          requests that may wait for each model. The next is refused with 429 and Retry-After.
    deadline_seconds     after which a request is ended.
    receive_seconds      in which a request must have come. Or 500 bytes of it a second; else its connection is closed.
    requests_per_minute  of each API key, 0: no limit. Of each address where no keys are asked for.
    max_body_bytes       of the largest request. A larger one is refused with 413 before it is read.
    runs                 folder of the runs that `lmworks eval` made, "": `runs` next to the workspace.
    keys                 file of API keys, "": none are asked for. `lmworks keys add` makes it.
    allowed_hosts        other names of this server. Besides loopback and `host`, it may be addressed under these:
                         without scheme, port or path, such as "models.example.org".
    drain_seconds        that a shutdown waits for what is running.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    slots: int = 8
    context_length: int = 0
    weights: Literal["auto", "float32", "bfloat16", "float16", "int8", "int4"] = "auto"
    device: str = "auto"
    cache_dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    cache_tokens: int = 0
    speculation: Literal["auto", "lookup", "off"] = "auto"
    adapters: Mapping[str, str] = field(default_factory=dict, hash=False)
    events_per_second: float = 100.0
    query_embeddings: bool = True
    max_waiting: int = 64
    deadline_seconds: float = 120.0
    receive_seconds: float = 30.0
    requests_per_minute: int = 0
    max_body_bytes: int = 1_000_000
    runs: str = ""
    keys: str = ""
    allowed_hosts: tuple[str, ...] = ()
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must lie in [0, 65535] (0 takes a free one), got {self.port}")
        within(1, _MOST_SLOTS, slots=self.slots)
        at_least(0, max_waiting=self.max_waiting, requests_per_minute=self.requests_per_minute)
        if self.context_length != 0 and self.context_length < _LEAST_CONTEXT:
            raise ValueError(
                f"context_length must be at least {_LEAST_CONTEXT} tokens, or 0 for the model's own, got "
                f"{self.context_length}"
            )
        if not 0 <= self.events_per_second < float("inf"):
            raise ValueError(f"events_per_second must be 0 (no limit) or positive, got {self.events_per_second}")
        if self.cache_tokens < 0:
            raise ValueError(f"cache_tokens must be 0 (the default) or positive, got {self.cache_tokens}")
        positive(deadline_seconds=self.deadline_seconds, receive_seconds=self.receive_seconds)
        positive(max_body_bytes=self.max_body_bytes)
        if not 0 <= self.drain_seconds < float("inf"):
            raise ValueError("drain_seconds must be at least 0 and finite")
        if not all(name.strip() and folder for name, folder in self.adapters.items()):
            raise ValueError(f"an adapter has a name and a folder, name = folder, got {dict(self.adapters)}")
        for host in self.allowed_hosts:
            _check_host(host)


def _check_host(host: str) -> None:
    """A Host header is compared by its name alone, so an entry with more would never be met."""
    try:
        ipaddress.ip_address(host)
        return
    except ValueError:
        if host and not set(host) & set(":/\\@?#[] "):
            return
    try:
        name = urlsplit(host if "//" in host else f"//{host}").hostname
    except ValueError:
        name = None
    advice = f"write {name!r}" if name else 'write a name such as "models.example.org"'
    raise ValueError(f"allowed_hosts holds {host!r}: {advice}, without scheme, port or path")
