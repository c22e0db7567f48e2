"""Credentials: the examples of documentation, strings made to the published form, and code that holds none."""

import math
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pii_finds import finds, scores

from lmworks.corpus.taggers.pii.keys import entropy

_RANDOM = random.Random(0)


def made(prefix: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A string of the published form; joined here, so that no file holds one."""
    return prefix + "".join(_RANDOM.choice(alphabet) for _ in range(length))


HEX, UPPER, URL = "0123456789abcdef", string.ascii_uppercase + "234567", string.ascii_letters + string.digits + "_-"
JWT = (  # RFC 7519, section 3.1
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
PEM = (  # RFC 8410, section 10.3
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    "token",
    [made("ghp_", 36), made("github_" + "pat_11AAAAAAA0", 60), made("glpat-1", 20, URL) + "a", made("AKIA", 16, UPPER),
     made("AIza", 34, URL) + "a", made("ya29.", 60, URL) + "a", made("sk-", 48), made("sk-ant-api03-A1", 90),
     made("hf_", 34), made("npm_", 36), made("pypi-AgEIcHlwaS5vcmc", 80), made("xoxb-248163264128-5122048409681-", 24),
     made("sk_live_", 24), made("shpat_", 32, HEX), made("SG.", 22) + made(".", 43), made("hvs.", 24),
     made("987654321:AA", 33)],
)  # fmt: skip
def test_tokens_are_found_whole(token):
    for text in (token, f"run with {token}, then stop", f"<{token}>", f"x={token}\n"):
        assert finds(text) == [("key", token)]


def test_web_tokens_are_found_whole():
    assert finds(f"Cookie {JWT}; path=/") == [("key", JWT)]
    assert finds(JWT.rpartition(".")[0]) == [("key", JWT.rpartition(".")[0])]
    assert finds("a.eyJ.b and eyJ0eXAi.x") == []


@pytest.mark.parametrize(
    "text", [PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", ""), PEM.replace("PRIVATE", "RSA PRIVATE")]
)
def test_private_keys_are_found_with_their_lines(text):
    assert finds(f"a\n{text}\nb") == [("key", text)]


def test_a_private_key_without_its_end():
    cut = PEM.rpartition("-----END")[0]
    assert finds(f"{cut}\nand so on") == [("key", cut.rstrip())]


def test_talk_of_private_keys_is_no_key():
    text = "A file that begins with -----BEGIN PRIVATE KEY----- is one.\n-----BEGIN PUBLIC KEY-----\n" + "A" * 64
    assert finds(text, 0.0) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [('password = "hunter2!"', "hunter2!"), ("PASSWORD: hunter22.", "hunter22"),
     ('{"db_password": "S3cr3t#99"}', "S3cr3t#99"),
     ("config['api_key'] = 'a8f5f167f44f4964e6c998dee827110c'", "a8f5f167f44f4964e6c998dee827110c"),
     ("aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"),
     ("Authorization: Bearer abc123DEF456ghi789JKL", "abc123DEF456ghi789JKL"),
     ("'secret' => 'Zx81spectrum'", "Zx81spectrum"), ("pwd=tr0ub4dor&3", "tr0ub4dor&3")],
)  # fmt: skip
def test_assigned_secrets_are_found_without_their_names(text, secret):
    assert finds(text) == [("password", secret)]


@pytest.mark.parametrize(
    "text",
    ["password = getpass.getpass()", "token = self.tokens[1]", "token: user-defined", "the password: required",
     "secret = settings.SECRET_1", 'password="your_password1"', "api_key = <YOUR-KEY-1>", "password: ********",
     "token: sha256", "max_tokens=4096123", 'password = "${DB_PASSWORD1}"', "some_long_function_name_2_with_parts",
     "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "-" * 80 + "1",
     "sk-spinner-three-bounce-1-and-more"],
)  # fmt: skip
def test_what_is_no_credential(text):
    assert finds(text) == []


def test_the_documentation_s_own_key_scores_less():
    assert scores("AKIAIOSFODNN7EXAMPLE") == {"AKIAIOSFODNN7EXAMPLE": 0.2}


@given(st.text(min_size=1, max_size=50))
def test_entropy_lies_between_none_and_all_different(text):
    assert -1e-12 <= entropy(text) <= math.log2(len(text)) + 1e-12
    assert entropy(text * 3) == pytest.approx(entropy(text))


def test_entropy_of_equal_shares():
    assert entropy("abcd") == pytest.approx(2)
    assert entropy("") == entropy("aaaa") == 0
