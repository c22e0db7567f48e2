"""Attacks that come through a person's own browser."""

import socket

from kit.tables import for_each
from lmworks.serve.api_keys import add
from lmworks.serve.security import CONTENT_SECURITY_POLICY

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@for_each("host", ["localhost", "LOCALHOST", "127.0.0.1:80", "[::1]:8000", "localhost:1"])
def test_names_of_this_machine_are_known(language, host):
    assert language.http().get("/health", headers={"Host": host}).status_code == 200


@for_each(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil.example",
     "evil.example#localhost", "0.0.0.0", "192.168.0.7", "[::1", "user@localhost", "local host"],
)  # fmt: skip
@for_each("path", ["/health", "/", "/v1/models", "/static/favicon.svg"])
def test_a_rebound_name_reaches_nothing(language, host, path):
    answer = language.http().get(path, headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert "tiny" not in answer.text


def test_further_names_can_be_allowed(start):
    with start(allowed_hosts=("Models.Example",)) as running:
        assert running.http().get("/health", headers={"Host": "models.example:443"}).status_code == 200
        assert running.http().get("/health", headers={"Host": "other.example"}).status_code == 421


def test_a_server_on_all_addresses_takes_addresses_but_no_names(start, tmp_path):
    secret = add(tmp_path / "keys.json", "one")
    with start(host="0.0.0.0", keys=str(tmp_path / "keys.json")) as running:
        assert running.http().get("/v1/models").status_code == 401 and running.client(secret).models.list().data
        assert running.http().get("/health", headers={"Host": "192.168.0.7:8000"}).status_code == 200
        assert running.http().get("/health", headers={"Host": "evil.example"}).status_code == 421


@for_each(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, 403),
        ({"Origin": "{own}"}, 200),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "{own}.evil.example"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_what_changes_something_must_come_from_this_site(language, headers, status):
    filled = {name: value.format(own=language.url) for name, value in headers.items()}
    assert language.http().post("/v1/chat/completions", json=CHAT, headers=filled).status_code == status
    assert (
        language.http().get("/v1/models", headers=filled).status_code == 200
    )  # reading is kept from others by no CORS


@for_each("path", ["/", "/log", "/v1/models", "/health", "/nothing", "/static/favicon.svg", "/v1/nothing"])
def test_every_answer_carries_the_headers(language, path):
    answer = language.http().get(path, headers={"Origin": "https://evil.example"})
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert ("no-store" in answer.headers["cache-control"]) == (not path.startswith("/static/"))
    assert not any(name.startswith("access-control-") for name in answer.headers)
    assert "server" not in answer.headers


def test_a_preflight_is_answered_without_leave(language):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = language.http().options("/v1/chat/completions", headers=headers)
    assert answer.status_code == 405
    assert not any(name.startswith("access-control-") for name in answer.headers)


@for_each("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2fapp.py"])
def test_static_files_are_all_that_is_served(language, path):
    import http.client

    connection = http.client.HTTPConnection(language.url.removeprefix("http://"))  # httpx would tidy the path
    connection.request("GET", path)
    assert connection.getresponse().status == 404


def test_versioned_static_files_may_be_kept(language):
    assert "immutable" in language.http().get("/static/favicon.svg?v=1").headers["cache-control"]
    assert language.http().get("/static/favicon.svg").headers["cache-control"] == "no-cache"


@for_each(
    ("path", "status", "kind"),
    [
        ("/nothing", 404, "text/html; charset=utf-8"),
        ("/v1/nothing", 404, "application/json"),
        ("/api/nothing", 404, "application/json"),
        ("/v1/chat/completions", 405, "application/json"),
    ],
)
def test_errors_speak_the_language_of_their_path(language, path, status, kind):
    answer = language.http().get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    if kind == "application/json":
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_who_forgets_the_prefix_is_told(language):
    answer = language.http().post("/chat/completions", json={"model": "tiny", "messages": []})
    assert answer.status_code in (404, 405)
    assert "the API is under /v1" in answer.json()["error"]["message"]
    assert "/v1" not in language.http().post("/nothing", json={}).json()["error"]["message"]


def test_a_path_is_not_markup(language):
    answer = language.http().get("/<script>alert(1)</script>")
    assert answer.status_code == 404 and "<script>alert" not in answer.text


@for_each("path", ["/", "/log", "/system", "/health", "/ready", "/metrics", "/static/favicon.svg", "/no"])
def test_head_is_answered_like_get_without_a_body(language, path):
    with language.http() as http:
        got, head = http.get(path), http.head(path)
        assert head.status_code == got.status_code and head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert http.get("/health").json() == {"status": "ok"}  # on the same connection: no body was left on it


def test_head_is_counted_under_its_path(language):
    language.http().head("/log")
    assert 'http_requests_total{method="HEAD",path="/log",status="200"}' in language.http().get("/metrics").text


def raw(running, request: bytes) -> int:
    """The status of the answer to a request that no client would write."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        return int(connection.recv(4096).split(b" ")[1])


@for_each("path", [b"/health", b"/ready", b"/metrics"])
def test_old_probes_of_this_machine_are_answered(language, path):
    assert raw(language, b"GET %s HTTP/1.0\r\n\r\n" % path) == 200
    assert raw(language, b"GET %s HTTP/1.0\r\nHost: evil.example\r\n\r\n" % path) == 421
    assert raw(language, b"GET %s HTTP/1.1\r\n\r\n" % path) in (400, 421)
    assert raw(language, b"GET /v1/models HTTP/1.0\r\n\r\n") == 421


@for_each("framing", [b"1.1\r\nContent-Length: 5", b"1.0\r\nConnection: keep-alive"])
def test_a_request_that_a_proxy_may_frame_otherwise_ends_the_connection(language, framing):
    host, port = language.url.removeprefix("http://").split(":")
    second = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = b"GET /health HTTP/%s\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % framing
        connection.sendall(head + second)
        answers = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answers.startswith(b"HTTP/1.1 400 ") and answers.count(b"HTTP/1.1 ") == 1
