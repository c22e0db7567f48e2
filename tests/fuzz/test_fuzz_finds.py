"""What fuzzing found, as small as it goes: each of these once raised, hung, or ended the process."""

import pytest
import reader_samples as samples
from fuzz_targets import TARGETS

from kit.tables import for_each
from lmworks.corpus.extract.charset import decode, text_codec
from lmworks.corpus.sources.docstrings import extract_docstrings

PAGE = b"<page><title>a</title><revision><text>b</text></revision></page>"
ELIF = b"if a:\n pass\n" + b"elif a:\n pass\n" * 1000 + b"else:\n def f(): 'Deep.'\n"

FINDS = [
    # UnicodeError, which is no UnicodeDecodeError, of codecs that are for names of hosts, or for nothing
    ("html", b"<meta charset=undefined><p>a</p>"),
    ("html", b"<meta charset=punycode><p>a</p>"),
    ("source", b"# coding: undefined\nx = 1\n"),
    # halves of surrogate pairs, which no file of ours can hold
    ("source", b'# coding: unicode_escape\nx = "\\ud800"\n'),
    ("texts", b'{"text": "\\ud800"}\n'),
    ("jsonl", b'{"\\ud800": 1}\n'),
    # RecursionError of the parser of JSON
    ("texts", b"[" * 100_000),
    # RecursionError in Python's syntax trees; ValueError of a number that is too long to be written in decimals
    ("docstrings", ELIF),
    ("docstrings", b"def f(x=1" + b"+1" * 900 + b"): 'a'\n"),
    ("docstrings", b"def f(x=0x" + b"f" * 6000 + b"): 'a'\n"),
    # LookupError and ValueError of expat, which are no ExpatError
    ("mediawiki", b"<?xml version='1.0' encoding='x'?><mediawiki>"),
    ("mediawiki", b"<?xml version='1.0' encoding='big5'?><mediawiki>"),
    # one name for two records
    ("mediawiki", b"<mediawiki>" + PAGE * 2 + b"</mediawiki>"),
]


@for_each(("name", "raw"), FINDS)
def test_it_is_read_or_refused(name: str, raw: bytes) -> None:
    TARGETS[name].run(raw)


def test_documentation_below_a_long_chain_of_conditions_is_found() -> None:
    assert extract_docstrings(ELIF, "m").text == "# module m\n\n## f()\n\nDeep.\n"


def test_an_expression_that_cannot_be_written_is_left_out_of_the_signature() -> None:
    source = b"def f(x: int = 0x" + b"f" * 6000 + b"): 'Doc.'\n"
    assert extract_docstrings(source, "m").text == "# module m\n\n## f(...)\n\nDoc.\n"


@for_each("name", ["idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"])
def test_what_is_no_encoding_of_texts_is_not_believed(name: str) -> None:
    assert text_codec(name) is None
    assert decode(b"plain words", name).text == "plain words"


@pytest.mark.slow
def test_a_parquet_footer_with_any_bit_changed_costs_no_more_than_its_file() -> None:
    """pyarrow ends the process at some of them."""
    raw = samples.parquet()
    start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    for bit in range(8 * start, 8 * start + 1000, 13):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        TARGETS["parquet"].run(bytes(changed))
