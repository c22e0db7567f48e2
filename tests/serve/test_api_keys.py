"""API keys: the file, the bearer, the session behind the sign-in form."""

import json
import stat

import openai
import pytest
from scripted import scripted

from kit.tables import for_each
from lmworks.serve.api_keys import KeyRing, add, digest, read, revoke

MESSAGES = [{"role": "user", "content": "hello"}]


def test_a_key_is_shown_once_and_kept_as_a_hash(tmp_path):
    file = tmp_path / "private" / "keys.json"
    secret = add(file, "laptop")
    assert secret.startswith("lmw-") and len(secret) == 4 + 43
    content = file.read_text()
    assert secret not in content and digest(secret) in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = read(file)
    assert (key.name, key.hint) == ("laptop", secret[-4:])
    assert KeyRing(file).verify(secret) == key
    assert KeyRing(file).verify(secret[:-1]) is None and KeyRing(file).verify("") is None


def test_names_are_unique_and_can_be_revoked(tmp_path):
    file = tmp_path / "keys.json"
    one, two = add(file, "one"), add(file, "two")
    with pytest.raises(ValueError, match="revoke"):
        add(file, "one")
    for name in ("", " ", "a\nb", "x" * 200):
        with pytest.raises(ValueError, match="name"):
            add(file, name)
    ring = KeyRing(file)
    revoke(file, "one")
    assert ring.verify(one) is None
    assert ring.verify(two) is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="two"):
        revoke(file, "one")


def test_a_file_that_is_missing_or_broken_lets_nobody_in(tmp_path):
    file = tmp_path / "keys.json"
    with pytest.raises(FileNotFoundError, match="lmworks keys add"):
        KeyRing(file)
    secret = add(file, "one")
    ring = KeyRing(file)
    content = file.read_text()
    for broken in ("{", json.dumps({"keys": [{"name": "one"}]}), "[]"):
        file.write_text(broken)
        assert ring.verify(secret) is None
    file.write_text(content)
    assert ring.verify(secret) is not None
    file.unlink()
    assert ring.verify(secret) is None


@pytest.fixture(scope="module")
def locked(start, tmp_path_factory):
    """A server that asks for keys, and its file of keys with a key in it."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    secret = add(file, "tester")
    with start(keys=str(file)) as running:
        yield running, file, secret


def test_the_time_of_a_model_is_shared_among_keys(locked):
    running, _, secret = locked
    client = running.client(secret)
    with scripted(running, ["x"]) as requests:
        client.chat.completions.create(model="tiny", messages=MESSAGES, user="somebody")
        client.responses.create(model="tiny", input="x")
        client.completions.create(model="tiny", prompt="x", extra_body={"priority": -3})
    assert [request.client for request in requests] == ["tester"] * 3
    assert [request.priority for request in requests] == [0, 0, -3]


def test_the_api_asks_for_a_key(locked):
    running, _, secret = locked
    assert running.client(secret).chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=2)
    for wrong in ("wrong", "lmw-", secret + "x", secret.upper()):
        with pytest.raises(openai.AuthenticationError) as caught:
            running.client(wrong).chat.completions.create(model="tiny", messages=MESSAGES)
        assert caught.value.code == "invalid_api_key"
    for path in ("/v1/models", "/api/interactions/0", "/openapi.json"):
        answer = running.http().get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/responses", "/v1/rerank", "/tokenize"):
        assert running.http().post(path, json={}).status_code == 401
    assert running.http(headers={"Authorization": f"Basic {secret}"}).get("/v1/models").status_code == 401


def test_operations_are_open_to_this_machine(locked):
    running, _, _ = locked
    assert [running.http().get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200] * 3


def test_pages_lead_to_the_sign_in_form_and_back(locked):
    running, _, secret = locked
    with running.http() as browser:
        answer = browser.get("/log?filter=a b&x=1")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Flog%3Ffilter%3Da%2520b%26x%3D1"
        form = browser.get(answer.headers["location"])
        assert form.status_code == 200 and 'action="/sign-in"' in form.text
        refused = browser.post("/sign-in", data={"key": "wrong", "next": "/log"})
        assert refused.status_code == 401 and "set-cookie" not in refused.headers
        answer = browser.post("/sign-in", data={"key": secret, "next": "/log"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/log")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and secret not in cookie
        assert browser.get("/v1/models").status_code == 200
        browser.headers["Authorization"] = "Bearer wrong"
        assert browser.get("/v1/models").status_code == 401  # a wrong key is not rescued by the cookie
        del browser.headers["Authorization"]
        token = browser.cookies["lmworks_session"]
        assert browser.post("/sign-out").status_code == 303
        browser.cookies.set("lmworks_session", token)
        assert browser.get("/v1/models").status_code == 401  # the session is over, not only the cookie


@for_each("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(locked, target):
    running, _, secret = locked
    answer = running.http().post("/sign-in", data={"key": secret, "next": target})
    assert answer.headers["location"] == "/"


def test_revoking_a_key_ends_its_sessions(locked):
    running, file, _ = locked
    secret = add(file, "guest")
    with running.http() as browser:
        browser.post("/sign-in", data={"key": secret, "next": "/"})
        assert browser.get("/v1/models").status_code == 200
        revoke(file, "guest")
        assert browser.get("/v1/models").status_code == 401
    with pytest.raises(openai.AuthenticationError):
        running.client(secret).models.list()


@for_each("cookie", ["lmworks_session=forged", "lmworks_session=", "=;;\x01", "lmworks_session=\xff"])
def test_a_forged_cookie_signs_nobody_in(locked, cookie):
    running, _, _ = locked
    answer = running.http().get("/v1/models", headers={"Cookie": cookie.encode("latin-1")})
    assert answer.status_code in (400, 401)


@for_each("before", ['prefs={"dark":1}', "a b=c", "odd", 'x="', "=", "lmworks_session_old=1"])
def test_cookies_of_other_servers_hide_no_session(locked, before):
    """All ports of a machine share their cookies."""
    running, _, secret = locked
    signed = running.http().post("/sign-in", data={"key": secret, "next": "/"})
    token = signed.cookies["lmworks_session"]
    headers = {"Cookie": f"{before}; lmworks_session={token}; after={{"}
    assert running.http().get("/v1/models", headers=headers).status_code == 200


def test_many_wrong_keys_are_refused_and_lock_no_right_one_out(start, tmp_path):
    secret = add(tmp_path / "keys.json", "one")
    with start(keys=str(tmp_path / "keys.json")) as running, running.http(follow_redirects=False) as http:
        assert http.get("/v1/models", headers={"Authorization": "Bearer lmw-0"}).status_code == 401
        formed = [http.post("/sign-in", data={"key": f"lmw-{number}"}) for number in range(12)]
        assert formed[0].status_code == 401
        for refused in (formed[-1], http.get("/v1/models", headers={"Authorization": "Bearer lmw-0"})):
            assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 7
        assert http.get("/v1/models", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert http.post("/sign-in", data={"key": secret}).status_code == 303
