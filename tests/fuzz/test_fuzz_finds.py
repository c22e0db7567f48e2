"""What fuzzing found, as small as it goes: each of these once raised, hung, or ended the process."""

import io
import subprocess
import sys

import pytest
import reader_samples as samples
from fuzz_targets import TARGETS

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import decode, text_codec
from lmworks.corpus.read.mediawiki import read_mediawiki
from lmworks.corpus.read.parquet_footer import row_groups
from lmworks.corpus.read.record import Limits, Record, Refused
from lmworks.corpus.read.streams import DamagedError
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


@pytest.mark.parametrize(("name", "raw"), FINDS)
def test_it_is_read_or_refused(name: str, raw: bytes) -> None:
    TARGETS[name].run(raw)


def test_documentation_below_a_long_chain_of_conditions_is_found() -> None:
    assert extract_docstrings(ELIF, "m").text == "# module m\n\n## f()\n\nDeep.\n"


def test_an_expression_that_cannot_be_written_is_left_out_of_the_signature() -> None:
    source = b"def f(x: int = 0x" + b"f" * 6000 + b"): 'Doc.'\n"
    assert extract_docstrings(source, "m").text == "# module m\n\n## f(...)\n\nDoc.\n"


def test_python_of_megabytes_is_refused() -> None:
    """The tree of it would take a gigabyte."""
    with pytest.raises(UnusableError, match=r"Python of more than 2,000,000 bytes"):
        extract_docstrings(b"a;" * 1_000_001, "m")


@pytest.mark.parametrize("name", ["idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"])
def test_what_is_no_encoding_of_texts_is_not_believed(name: str) -> None:
    assert text_codec(name) is None
    assert decode(b"plain words", name).text == "plain words"


def test_pages_of_one_title_have_names_of_their_own() -> None:
    items = read_mediawiki(io.BytesIO(b"<mediawiki>" + PAGE * 2 + b"</mediawiki>"), Limits())
    assert [item.name for item in items if isinstance(item, Record)] == ["a", "a (2)"]


# ---------------------------------------------------------------------------------------------------------------------
# Parquet: pyarrow ends the process when it is asked for a column of these footers

_EACH_BIT = """
import io, sys
from lmworks.corpus.read.record import Limits
from lmworks.corpus.read.tables import read_parquet
raw = sys.stdin.buffer.read()
start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
for bit in range(8 * start, 8 * start + int(sys.argv[1])):
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    assert list(read_parquet(io.BytesIO(bytes(changed)), Limits())) is not None
"""


def test_a_footer_with_any_bit_changed_ends_nothing() -> None:
    """In a process of its own, which it would end. The first of the footer's bytes describe the schema."""
    command = [sys.executable, "-c", _EACH_BIT, "1000"]
    done = subprocess.run(command, input=samples.parquet(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_footer_is_read_as_pyarrow_reads_it(compression: str) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {
        "nested": pyarrow.array([{"x": 1, "y": ["a"]}] * 500),
        "nothing": pyarrow.nulls(500),
        "pairs": pyarrow.array([[("k", 1.5)]] * 500, pyarrow.map_(pyarrow.string(), pyarrow.float64())),
        "truth": pyarrow.array([True, None] * 250),
    }
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink, row_group_size=30, compression=compression, write_page_index=True)
    theirs = parquet.ParquetFile(io.BytesIO(sink.getvalue())).metadata
    ours = row_groups(io.BufferedReader(io.BytesIO(sink.getvalue())))
    assert len(ours) == theirs.num_row_groups
    for number, group in enumerate(ours):
        declared = theirs.row_group(number)
        assert (group.rows, group.unpacked) == (declared.num_rows, declared.total_byte_size)
        assert [(column.path, column.packed, column.unpacked) for column in group.columns] == [
            (column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size)
            for column in map(declared.column, range(declared.num_columns))
        ]


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\x15",  # ends in a number
        b"\x49\xfc\xff\xff\xff\xff\x0f",  # a list of four billion structures
        b"\x49" + b"\x1c" * 1000,  # structures without end
        b"\x49\x1c\x15" + b"\xff" * 20,  # a number without end
        b"\x49\x1e",  # a value of an unknown kind
        b"\x49\x1c\x19\x0c\x16\x00\x16\x01\x00\x00",  # less than no rows
        b"\x49\x1c\x00\x00",  # a row group without anything
    ],
)
def test_a_footer_that_lies_is_damaged(footer: bytes) -> None:
    raw = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(DamagedError):
        row_groups(io.BufferedReader(io.BytesIO(raw)))


def test_a_footer_longer_than_its_file_is_damaged() -> None:
    raw = samples.parquet()
    for length in (2**32 - 1, len(raw), len(raw) - 11):
        with pytest.raises(DamagedError, match="without a footer"):
            row_groups(io.BufferedReader(io.BytesIO(raw[:-8] + length.to_bytes(4, "little") + b"PAR1")))


def test_refusals_of_dumps_say_what_is_wrong() -> None:
    raw = b"<?xml version='1.0' encoding='big5'?><mediawiki>"
    assert [type(item) for item in read_mediawiki(io.BytesIO(raw), Limits())] == [Refused]
