"""Metrics for Prometheus, with vLLM's names and shapes under our prefix: its dashboards need one replacement."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmworks.records import Interaction
from lmworks.serve.asgi import HttpMiddleware
from lmworks.serve.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_MODEL = ("model_name",)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """One registry for each app. `observe` counts an interaction; gauges are read from the service when scraped."""

    def __init__(self, service: Service) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(_Gauges(service))

        def counter(name: str, text: str, labels: tuple[str, ...] = _MODEL) -> Counter:
            return Counter(f"lmworks:{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"lmworks:{name}", text, _MODEL, buckets=buckets, registry=registry)

        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = counter("generation_tokens", "Tokens generated.")
        self.requests = counter(
            "request_success", "Interactions by how they ended; also cancelled and error.", (*_MODEL, "finished_reason")
        )
        self.abstentions = counter("abstentions", "Questions to which the assistant said that it does not know.")
        self.writer_failures = counter("writer_failures", "Answers to whose end the model that writes did not come.")
        self.http = counter("http_requests", "HTTP requests.", ("method", "path", "status"))
        self.first_token = histogram("time_to_first_token_seconds", "From arrival to the first text.")
        self.inter_token = histogram(
            "inter_token_latency_seconds",
            "Between two tokens: the mean of an interaction, once for each of its gaps.",
            _TOKEN_SECONDS,
        )
        self.total = histogram("e2e_request_latency_seconds", "From arrival to the end.")
        self.queued = histogram("request_queue_time_seconds", "Waiting in line.")
        self.prefill = histogram("request_prefill_time_seconds", "Reading the prompt, up to the first token.")
        self.decode = histogram("request_decode_time_seconds", "From the first token to the last.")
        self.request_prompt = histogram("request_prompt_tokens", "Tokens of the prompt.", _TOKENS)
        self.request_generation = histogram("request_generation_tokens", "Tokens generated.", _TOKENS)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def observe(self, interaction: Interaction) -> None:
        """Count an interaction that was committed to the log."""
        name, timings = interaction.route, interaction.timings
        self.requests.labels(name, interaction.finish_reason).inc()
        self.prompt_tokens.labels(name).inc(interaction.input_tokens)
        self.generation_tokens.labels(name).inc(interaction.output_tokens)
        if interaction.abstained:
            self.abstentions.labels(name).inc()
        if interaction.error and interaction.finish_reason == "stop":
            self.writer_failures.labels(name).inc()
        if interaction.finish_reason in ("cancelled", "error"):
            return  # its times say how patient the client was
        self.request_prompt.labels(name).observe(interaction.input_tokens)
        self.total.labels(name).observe(timings.get("total", 0.0))
        if "queued" in timings:
            self.queued.labels(name).observe(timings["queued"])
        if interaction.operation != "embeddings":
            self.request_generation.labels(name).observe(interaction.output_tokens)
            self._observe_generation(interaction)

    def _observe_generation(self, interaction: Interaction) -> None:
        name, timings = interaction.route, interaction.timings
        if "prefill" not in timings:  # a grounded answer is decided as a whole
            self.first_token.labels(name).observe(timings.get("total", 0.0))
            return
        self.prefill.labels(name).observe(timings["prefill"])
        self.first_token.labels(name).observe(timings.get("queued", 0.0) + timings["prefill"])
        if "decode" in timings:
            self.decode.labels(name).observe(timings["decode"])
            gaps = interaction.output_tokens - 1
            for _ in range(gaps):
                self.inter_token.labels(name).observe(timings["decode"] / gaps)


class _Gauges(Collector):
    """The gauges, read at the moment of the scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        running = GaugeMetricFamily("lmworks:num_requests_running", "Requests that run.", labels=_MODEL)
        waiting = GaugeMetricFamily("lmworks:num_requests_waiting", "Requests that wait in line.", labels=_MODEL)
        usage = GaugeMetricFamily("lmworks:kv_cache_usage_perc", "Share of the cache in use, 1 is all.", labels=_MODEL)
        for model in self._service.models:
            now = self._service.models.occupancy(model.name)
            for family, value in zip((running, waiting, usage), now, strict=True):
                family.add_metric([model.name], value)
        yield from (running, waiting, usage)
        yield GaugeMetricFamily("lmworks:log_pending", "Interactions not yet on disk.", self._service.log.pending)


class CountRequests(HttpMiddleware):
    """Middleware, outermost: counts requests by method, by the template of their path, and by status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        super().__init__(app)
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = "499"  # nothing was answered: the client left

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # A client may send any word as its method; only the usual ones become a label.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http.labels(method, _template(scope), status).inc()


def _template(scope: Scope) -> str:
    """Such as /log/{id}: there are as many labels as routes, whatever clients ask for."""
    if scope["path"].startswith("/static/"):
        return "/static/{path}"
    route = scope.get("route")
    return getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched"
