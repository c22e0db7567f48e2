"""Encodings: the bytes decide, not what is declared; and every byte is accounted for."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import decode, decode_html, iso_date, normalise_newlines

# The first article of the Universal Declaration of Human Rights.
ARTICLES = {
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με "
    "λογική και συνείδηση.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا وعليهم أن يعامل بعضهم بعضا "
    "بروح الإخاء.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられている。",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "tw": "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. "
    "인간은 천부적으로 이성과 양심을 부여받았으며",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison "
    "– « à l’été ».",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt "
    "– „für größere“",
}


LEGACY = (
    "pl cp1250, pl iso8859-2, ru cp1251, ru koi8-r, el cp1253, tr cp1254, ar cp1256, ja cp932, ja euc_jp, "
    "zh gb18030, tw big5, ko cp949, fr cp1252, de cp1252"
)


@for_each("case", LEGACY.split(", "))
def test_a_legacy_encoding_is_found_without_a_declaration(case: str) -> None:
    language, codec = case.split()
    decoded = decode(ARTICLES[language].encode(codec))
    assert decoded.text == ARTICLES[language]
    assert not decoded.false_declaration


def test_it_is_found_where_almost_all_lines_are_ascii() -> None:
    text = ("plain English words on a line\n" * 20_000).join(["", ARTICLES["ru"], ""])
    assert decode(text.encode("cp1251")).text == text


@for_each("text", ["“naïve” – 5 €", "It’s a café", "Zoë"])
def test_a_few_western_characters_are_windows_1252(text: str) -> None:
    assert decode(text.encode("cp1252")).text == text


@for_each(("text", "codec", "declared", "told"), [
    (ARTICLES["fr"], "cp1252", "utf-8", {"encoding": "cp1252", "encoding_declared": "utf-8"}),
    (ARTICLES["de"], "utf-8", "latin-1", {"encoding": "utf-8", "encoding_declared": "latin-1"}),
    ("Привет", "koi8-r", "KOI8-R", {"encoding": "koi8-r"}), ("①髙", "cp932", "Shift_JIS", {"encoding": "cp932"}),
    ("日本語", "iso2022_jp", "iso-2022-jp", {"encoding": "iso2022_jp"}),
    ("abc", "ascii", "utf-16", {"encoding": "ascii", "encoding_declared": "utf-16"}),
])  # fmt: skip
def test_what_is_declared_counts_where_it_is_true(text: str, codec: str, declared: str, told: dict[str, str]) -> None:
    decoded = decode(text.encode(codec), declared)
    assert (decoded.text, decoded.metadata) == (text, told)


@for_each(
    ("page", "codec"),
    [
        ('<?xml version="1.0" encoding="windows-1251"?><p>Да</p>', "cp1251"),
        ("<meta http-equiv=x content='text/html; charset=koi8-r'>Да", "koi8-r"),
    ],
)
def test_xml_and_html_declare_their_encoding(page: str, codec: str) -> None:
    assert decode_html(page.encode(codec)).text == page
    assert decode_html("Да".encode("cp866"), header="cp866").text == "Да"


def test_stray_bytes_do_not_spoil_utf8() -> None:
    decoded = decode(ARTICLES["ru"].encode() + b" \x93quoted\x94", "utf-8")
    assert (decoded.text, decoded.encoding) == (ARTICLES["ru"] + " “quoted”", "utf-8+cp1252")


@for_each(("raw", "reason"), [
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary data"), (bytes(range(256)) * 4, "binary data"),
    (b"\x80\x01\x02\x03\x04\x05\x06" * 9, "binary data"), (b"\xff\xfea", "not decodable as utf-16"),
    ("plain".encode("utf-16-le"), "binary data"),
])  # fmt: skip
def test_what_is_no_text_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        decode(raw)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff\x1b"), min_size=1)


@given(TEXTS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_unicode_is_read_back(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).text == text


@given(st.binary(max_size=200), st.none() | st.sampled_from(["utf-8", "latin-1", "big5", "cp037", "rot13", "\0"]))
def test_what_is_decoded_are_the_bytes_in_that_encoding(raw: bytes, declared: str | None) -> None:
    try:
        decoded = decode(raw, declared)
    except UnusableError:
        return
    if "+" not in decoded.encoding:
        marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8))
        read = raw.decode("utf-8-sig" if marked and decoded.encoding == "utf-8" else decoded.encoding)
        assert normalise_newlines(read) == decoded.text


@for_each(("stated", "date"), [
    ("2024-01-31T10:00:00Z", "2024-01-31"), ("D:20240131120000+01'00'", "2024-01-31"), (" 1901", "1901"),
    ("2024-02-30", ""), ("January 2024", ""),
])  # fmt: skip
def test_dates_are_iso_8601_as_exact_as_they_are_stated(stated: str, date: str) -> None:
    assert iso_date(stated) == date
