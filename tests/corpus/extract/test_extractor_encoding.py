"""Encodings: the bytes decide, not what is declared; and every byte is accounted for."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import decode_html, decode_text, normalise_newlines

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
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון.",
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


@pytest.mark.parametrize(
    ("language", "codec"),
    [
        ("pl", "cp1250"),
        ("pl", "iso8859-2"),
        ("ru", "cp1251"),
        ("ru", "koi8-r"),
        ("el", "cp1253"),
        ("tr", "cp1254"),
        ("he", "cp1255"),
        ("ar", "cp1256"),
        ("ja", "cp932"),
        ("ja", "euc_jp"),
        ("zh", "gb18030"),
        ("tw", "big5"),
        ("ko", "cp949"),
        ("fr", "cp1252"),
        ("de", "cp1252"),
    ],
)
def test_a_legacy_encoding_is_found_without_a_declaration(language: str, codec: str) -> None:
    decoded = decode_text(ARTICLES[language].encode(codec))
    assert decoded.text == ARTICLES[language]
    assert not decoded.false_declaration


def test_it_is_found_where_almost_all_lines_are_ascii() -> None:
    lines = "plain English words on a line\n" * 20_000
    text = lines + ARTICLES["ru"] + "\n" + lines
    assert decode_text(text.encode("cp1251")).text == text


@pytest.mark.parametrize("text", ["“naïve” – 5 €", "It’s a café", "Zoë"])
def test_a_few_western_characters_are_windows_1252(text: str) -> None:
    decoded = decode_text(text.encode("cp1252"))
    assert (decoded.text, decoded.encoding) == (text, "cp1252")


def test_declared_utf8_that_is_windows_1252_is_told() -> None:
    decoded = decode_text(ARTICLES["fr"].encode("cp1252"), "utf-8")
    assert decoded.text == ARTICLES["fr"]
    assert decoded.metadata == {"encoding": "cp1252", "encoding_declared": "utf-8"}


def test_declared_latin_1_that_is_utf8_is_told() -> None:
    page = f'<html><head><meta charset="iso-8859-1"></head><body>{ARTICLES["de"]}</body></html>'
    decoded = decode_html(page.encode())
    assert decoded.text == page
    assert decoded.metadata == {"encoding": "utf-8", "encoding_declared": "iso-8859-1"}


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("KOI8-R", "koi8-r", "koi8-r"),
        ("latin-1", "cp1252", "cp1252"),
        ("gb2312", "gb18030", "gb18030"),
        ("Shift_JIS", "cp932", "cp932"),
    ],
)
def test_a_true_declaration_counts_in_the_superset_that_browsers_read(declared: str, codec: str, name: str) -> None:
    text = {"koi8-r": "Привет", "cp1252": "„ä“", "gb18030": "中文", "cp932": "①髙"}[codec]
    decoded = decode_text(text.encode(codec), declared)
    assert (decoded.text, decoded.metadata) == (text, {"encoding": name})


def test_xml_and_html_declare_their_encoding() -> None:
    xml = '<?xml version="1.0" encoding="windows-1251"?><p>Да</p>'
    assert decode_html(xml.encode("cp1251")).text == xml
    assert decode_html("<meta http-equiv=x content='text/html; charset=koi8-r'>Да".encode("koi8-r")).text.endswith("Да")
    assert decode_html("Да".encode("cp866"), header="cp866").text == "Да"


def test_stray_bytes_do_not_spoil_utf8() -> None:
    text = ARTICLES["ru"]
    decoded = decode_text(text.encode() + b" \x93quoted\x94", "utf-8")
    assert (decoded.text, decoded.encoding) == (text + " “quoted”", "utf-8+cp1252")


def test_utf16_without_a_mark_and_iso_2022_are_read() -> None:
    assert decode_text("plain words".encode("utf-16-le")).text == "plain words"
    assert decode_text("plain words".encode("utf-16-be")).encoding == "utf-16-be"
    assert decode_text("日本語".encode("iso2022_jp"), "iso-2022-jp").metadata == {"encoding": "iso2022_jp"}
    assert decode_text("日本語".encode("iso2022_jp")).text == "日本語"


@pytest.mark.parametrize(
    "raw", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(range(256)) * 4, b"\x80\x01\x02\x03\x04\x05\x06" * 9, b"\0" * 99]
)
def test_binary_data_is_refused(raw: bytes) -> None:
    with pytest.raises(UnusableError, match="binary data"):
        decode_text(raw)


def test_ascii_is_no_evidence_against_a_declaration() -> None:
    assert decode_text(b"abc", "utf-8").metadata == decode_text(b"abc", "big5").metadata == {"encoding": "ascii"}
    assert decode_text(b"abc", "utf-16").metadata["encoding_declared"] == "utf-16"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff\x1b")))
def test_utf8_is_read_back(text: str) -> None:
    assert decode_text(text.encode()).text == text


@given(st.binary(max_size=200), st.none() | st.sampled_from(["utf-8", "latin-1", "big5", "cp037", "rot13", "\0"]))
def test_what_is_decoded_are_the_bytes_in_that_encoding(raw: bytes, declared: str | None) -> None:
    try:
        decoded = decode_text(raw, declared)
    except UnusableError:
        return
    if "+" not in decoded.encoding:
        marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8))
        read = raw.decode("utf-8-sig" if marked and decoded.encoding == "utf-8" else decoded.encoding)
        assert normalise_newlines(read) == decoded.text
