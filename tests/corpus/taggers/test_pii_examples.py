"""Examples of all families: what is found stands in brackets, behind its rule or its score; ⏎ is a newline."""

import random
import re
import string

import phonenumbers
from pii_texts import finds

from kit.tables import for_each
from lmworks.corpus.taggers.pii.scan import find_personal_data

FOUND = """
Write to ⟦email ann.b+c@mail.acme.org⟧, please ¦ <⟦email a@b.co⟧> ¦ mailto:⟦email o'neil@acme.com⟧?subject=x
'⟦email jo@acme.com⟧' ¦ ⟦email ünal@bücher.de⟧ ¦ 联系⟦email foo@acme.cn⟧。 ¦ ⟦email jo@acme.co.uk⟧.
Ask ⟦email jo@acme.com⟧.This is the next sentence ¦ user=⟦email jo@acme.com⟧&x ¦ ⟦email JO@ACME.COM⟧
⟦email jo@xn--bcher-kva.example2.xn--p1ai⟧ ¦ ⟦email jo [at] acme [dot] org⟧ ¦ ⟦email jo(at)mail.acme(dot)org⟧!
⟦email jo (AT) acme.org⟧ ¦ https://acme.com/?to=⟦email jo@acme.com⟧ ¦ https://user:⟦email password@host.org⟧/x
dev ⟦mac 00:1A:2B:3C:4D:5E⟧! ¦ dev ⟦mac 00-1A-2B-3C-4D-5E⟧! ¦ dev ⟦mac de:ad:be:ef:00:01⟧!
http://[⟦ip 2606:2800:220:1::1⟧]:80/x ¦ http://⟦ip 93.184.216.34⟧/x ¦ #### ⟦ip 93.184.216.34⟧. Pipelines
## 32.5.1 Pipelines⏎⏎⟦ip 93.184.216.34⟧ Queries ¦ library-⟦ip 93.184.216.34⟧.tar.gz
10.0.0.1 ¦ 192.168.1.20 ¦ 127.0.0.1 ¦ 192.0.2.1 ¦ 203.0.113.9 ¦ 2001:db8::1 ¦ versions 93.184.216.34 and later
#### 32.5.1.12. Pipelines⏎⏎See 32.5.1.12 again. ¦ - [32.5.1.12. Pipelines](#pipelines) ¦ library-32.5.1.12.tar.gz
Siehe Abschnitt 32.5.1.12 dazu. ¦ ## 32.5.1 Pipelines⏎⏎32.5.1.12 Queries
postgres://⟦password admin:hunter2x⟧@db.acme.com/x ¦ password: ⟦password jo@acme1.com⟧
password = "⟦password hunter2!⟧"
PASSWORD: ⟦password hunter22⟧. ¦ {"db_password": "⟦password S3cr3t#99⟧"} ¦ 'secret' => '⟦password Zx81spectrum⟧'
config['api_key'] = '⟦password a8f5f167f44f4964e6c998dee827110c⟧' ¦ pwd=⟦password tr0ub4dor&3⟧
aws_secret_access_key=⟦password wJalrXUtnFEMI/K7MDENG/bPxRfiCY⟧ ¦ Authorization: Bearer ⟦password abc123DEF456ghi789JKL⟧
password = getpass.getpass() ¦ token = self.tokens[1] ¦ token: user-defined ¦ the password: required ¦ token: sha256
secret = settings.SECRET_1 ¦ password="your_password1" ¦ api_key = <YOUR-KEY-1> ¦ password: ********
max_tokens=4096123
password = "${DB_PASSWORD1}" ¦ some_long_function_name_2_with_parts ¦ 550e8400-e29b-41d4-a716-446655440000
d41d8cd98f00b204e9800998ecf8427e ¦ sk-spinner-three-bounce-1-and-more ¦ a.eyJ.b and eyJ0eXAi.x
it is ⟦ssn 536-90-4399⟧. ¦ his SSN: ⟦ssn 536904399⟧ ¦ social security number ⟦ssn 536 90 4399⟧ ¦ ITIN ⟦ssn 912-90-3456⟧
SSN 000-12-3456 ¦ SSN 666-12-3456 ¦ SSN 900-12-3456 ¦ SSN 123-00-4567 ¦ SSN 123-45-0000 ¦ SSN 078-05-1120
Aadhaar ⟦national_id 2341 2341 2346⟧ ¦ ⟦national_id 54362315-K⟧ ¦ ⟦national_id x2482300w⟧
⟦national_id X-2482300-W⟧ ¦ ⟦national_id 36 574 261 809⟧ ¦ IdNr ⟦national_id 36574261809⟧
⟦national_id 2 95 10 99 126 111 93⟧ ¦ ⟦national_id 295109912611193⟧
⟦national_id RCCMNL83S18D969H⟧ ¦ NI number ⟦national_id AB 12 34 56 C⟧ ¦ ⟦national_id AB123456C⟧
id 536904399 and 111222333 ¦ no. 2 ⟦card 4111 1111 1111 1111⟧ 12/27 ¦ ⟦card 5500-0000-0000-0004⟧ 123
no. 2 ⟦card 3782 822463 10005⟧ 12/27 ¦ ⟦card 3056 930902 5904⟧ 123 ¦ ⟦card 4111 1111 1111 1111⟧
1234 ⟦card 4111 1111 1111 1111⟧ ¦ AB12 ⟦iban DE89 3704 0044 0532 0130 00⟧ 42 EUR
⟦card 4111 1111 1111 1111⟧ ⟦phone (212) 736-5000⟧ ¦ ⟦card 4111111111111111⟧ ⟦phone 0341 8387176⟧
⟦phone 212-736-5000⟧ ⟦phone 212-736-5001⟧ ¦ ⟦phone +41446681800⟧⟦phone +41446681801⟧
⟦phone +41 44 668 18 00⟧ / ⟦phone +41 44 668 18 01⟧ ¦ Invoice ⟦phone +41 44 668 18 00⟧
call on 2024-05-06 or 06.05.2024 ¦ call in 2019-2020 ¦ call 12345678901234567890 ¦ pi is 3.14159265358979
0.05123456789
1 2 3 4 5 6 7 8 9 ¦ call 1234567.89 now ¦ call A1234567 ¦ call 1234567th ¦ dial $ 1 234 567 ¦ +999 1234 5678 ¦ +1 234
x+12 ¦ ISBN 0-306-40615-2 ¦ 978-3-16-148410-0 ¦ 05/06/2019 10:30 ¦ 1987 45 612 3 ¦ order no. 0341 8387176
"""
NOTHING = """
256.1.1.1 ¦ 1.2.3.4.5 ¦ 192.168.001.001 ¦ 1.2.3 ¦ a[1::2] ¦ x[::2] ¦ std::string ¦ abc::def ¦ 12:30:45 ¦ 2024:05:06
16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48 ¦ 00-1A-2B-3C-4D ¦ 12001:db8::1
icon@2x.png ¦ react@18.2.0 ¦ @decorator.name ¦ meet @ noon ¦ a@b ¦ jo@-acme.com ¦ held (at) noon ¦ foo@@acme ¦ jo@acme.c
http:// ¦ ://x.org ¦ foo://x.org ¦ nohttp://x.org ¦ awww.cute ¦ www. ¦ http:/x
GB123456A ¦ QQ123456C ¦ AB123456E ¦ RCCMNL83S18D969I ¦ PO12345678
A file that begins with -----BEGIN PRIVATE KEY----- is one.
"""
SCORED = """
from ⟦0.9 93.184.216.34⟧, version ⟦0.3 93.184.216.35⟧ and ⟦0.3 91.4.12.0⟧ and § ⟦0.3 3.1.2.4⟧
dev ⟦0.1 ff:ff:ff:ff:ff:ff⟧ ¦ dev ⟦0.1 01:00:5e:00:00:fb⟧ ¦ dev ⟦0.1 00:00:5e:00:53:af⟧ ¦ dev ⟦0.1 00:00:00:00:00:00⟧
⟦0.2 jo@example.com⟧ ¦ ⟦0.2 jo@mail.example.org⟧ ¦ ⟦0.2 jo@host.test⟧ ¦ ⟦0.2 jo@x.invalid⟧ ¦ ⟦0.2 jo@printer.local⟧
⟦0.6 info@acme.com⟧, ⟦0.95 jo@acme.com⟧, ⟦0.2 git@acme.com⟧:x
see ⟦0.2 http://x.org/a_(b)⟧. ¦ (⟦0.2 https://x.org/a?b=c#d⟧) ¦ [text](⟦0.2 http://x.org/a⟧) ¦ <⟦0.2 http://x.org/⟧>
⟦0.2 HTTP://X.ORG/⟧ ¦ ⟦0.2 www.acme.com⟧, and ¦ ⟦0.2 http://müller.de/straße⟧。 ¦ '⟦0.2 ftp://x.org/a⟧'
⟦0.2 https://github.com/pytorch/pytorch⟧ ¦ ⟦0.2 https://x.com/johndoe/⟧
⟦0.2 AKIAIOSFODNN7EXAMPLE⟧ ¦ ⟦0.2 212-555-0123⟧ ¦ ⟦0.2 +1 212 555 0123⟧ ¦ id ⟦0.3 36574261809⟧
⟦0.5 4111 1111 1111 1111⟧ 2024 2025 ¦ Visa: ⟦0.95 4111 1111 1111 1111⟧ 2024 2025
my credit card ⟦0.6 8111111111111112⟧ is lost ¦ my credit card ⟦0.6 8111 1111 1111 1112⟧ is lost
"""


def rows(table: str) -> list[str]:
    return [each.strip() for line in table.strip().split("\n") for each in line.split("¦")]


def read(row: str) -> tuple[str, list[tuple[str, str]]]:
    """The text of a row, and what is in its brackets."""
    row = row.replace("⏎", "\n")
    return re.sub(r"⟦\S+ (.*?)⟧", r"\1", row), re.findall(r"⟦(\S+) (.*?)⟧", row)


@for_each("row", rows(FOUND))
def test_what_is_found_and_what_is_not(row):
    text, expected = read(row)
    assert finds(text) == expected


@for_each("row", rows(NOTHING))
def test_what_is_nothing_at_any_score(row):
    assert [find for find in finds(row, 0.0) if find[0] != "phone"] == []


@for_each("row", rows(SCORED))
def test_what_scores_less(row):
    text, expected = read(row)
    scores = {text[span.start : span.end]: span.score for span in find_personal_data(text, 0.0)}
    assert scores == {found: float(score) for score, found in expected}


PHONES = """
+41 44 668 18 00 ¦ +41 (0)44 668 18 00 ¦ (+41) 44 668 18 00 ¦ +41446681800 ¦ +1 201-555-0723 ¦ +1 (201) 555 0723
+44 20 7946 0018 ¦ +49-30-901820 ¦ +683 7012 ¦ (212) 736-5000 ¦ 212-736-5000 ¦ 212.736.5000 ¦ 1-800-466-4411
(898)666-3621x0135 ¦ 212-736-5000 ext. 12 ¦ 0044 20 7946 0018 ¦ 001-253-366-9781 ¦ (08) 8747 6301 ¦ 01.84.17.61.18
0341 8387176 ¦ 079 0442 1744
"""


@for_each("number", rows(PHONES))
def test_telephones_are_found_by_their_form(number):
    assert finds(f"See {number}. 20 people came") == finds(f"({number})") == [("phone", number)]


@for_each("number", ["450 0840", "374 780 163", "28-64-66-98", "3660170548", "21 253 109 8211"])
def test_telephones_without_a_form_are_found_by_a_word(number):
    for sentence in ("Call me at {}!", "You reach us at {}.", "Phone:\n{}\n", "Tel. {}", "{} (office)"):
        assert finds(sentence.format(number)) == [("phone", number)]
    assert finds(f"There were {number} of them") == []


@for_each("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_example_of_each_country_is_found_whole(region):
    example = phonenumbers.example_number(region)
    assert example is not None
    for written in (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164):
        number = phonenumbers.format_number(example, written)
        assert finds(f"reach us: {number}, any time", 0.0) == [("phone", number)]


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


@for_each(
    "token",
    [made("ghp_", 36), made("github_" + "pat_11AAAAAAA0", 60), made("glpat-1", 20, URL) + "a", made("AKIA", 16, UPPER),
     made("AIza", 34, URL) + "a", made("ya29.", 60, URL) + "a", made("sk-", 48), made("sk-ant-api03-A1", 90),
     made("hf_", 34), made("npm_", 36), made("pypi-AgEIcHlwaS5vcmc", 80), made("xoxb-248163264128-5122048409681-", 24),
     made("sk_live_", 24), made("shpat_", 32, HEX), made("SG.", 22) + made(".", 43), made("hvs.", 24),
     made("987654321:AA", 33), JWT, JWT.rpartition(".")[0], PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", ""),
     PEM.replace("PRIVATE", "RSA PRIVATE")],
)  # fmt: skip
def test_credentials_are_found_whole(token):
    for text in (token, f"run with {token}, then stop", f"<{token}>", f"a\n{token}\n"):
        assert finds(text) == [("key", token)]


def test_what_is_public_is_no_key():
    assert finds("-----BEGIN PUBLIC KEY-----\n" + "A" * 64, 0.0) == finds("-" * 80 + "1") == []
