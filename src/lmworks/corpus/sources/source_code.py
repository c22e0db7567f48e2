"""Source code as a text of its own: what its files are called, and the text as its author wrote it."""

import io
import re
import tokenize
from pathlib import PurePath

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode

EXTRACTOR = "source-code"
EXTRACTOR_VERSION = "1"

# Suffix -> language, which makes the media type. Formats of data (.json, .xml, .csv) are no source code.
_LANGUAGES = {
    "adb": "ada", "ads": "ada", "asm": "asm", "s": "asm",
    "bash": "sh", "sh": "sh", "zsh": "sh", "fish": "fish", "bat": "bat", "ps1": "powershell", "awk": "awk",
    "c": "c", "h": "c", "cc": "c++", "cpp": "c++", "cxx": "c++", "hh": "c++", "hpp": "c++", "hxx": "c++", "inl": "c++",
    "cl": "opencl", "cu": "cuda", "cuh": "cuda", "glsl": "glsl", "wgsl": "wgsl", "metal": "metal",
    "clj": "clojure", "cljs": "clojure", "el": "lisp", "lisp": "lisp", "rkt": "scheme", "scm": "scheme",
    "cmake": "cmake", "mk": "makefile", "gradle": "groovy", "groovy": "groovy", "bzl": "starlark", "nix": "nix",
    "cs": "csharp", "fs": "fsharp", "vb": "vb", "css": "css", "less": "less", "sass": "sass", "scss": "scss",
    "d": "d", "dart": "dart", "erl": "erlang", "ex": "elixir", "exs": "elixir",
    "f": "fortran", "f03": "fortran", "f90": "fortran", "f95": "fortran", "go": "go",
    "hs": "haskell", "java": "java", "jl": "julia", "kt": "kotlin", "kts": "kotlin", "scala": "scala",
    "cjs": "javascript", "js": "javascript", "jsx": "javascript", "mjs": "javascript",
    "cts": "typescript", "mts": "typescript", "ts": "typescript", "tsx": "typescript",
    "svelte": "svelte", "vue": "vue", "lua": "lua", "m": "objective-c", "mm": "objective-c",
    "ml": "ocaml", "mli": "ocaml", "nim": "nim", "pas": "pascal", "php": "php", "pl": "perl", "pm": "perl",
    "proto": "protobuf", "thrift": "thrift", "graphql": "graphql", "tf": "terraform",
    "py": "python", "pyi": "python", "pyx": "cython", "pxd": "cython", "r": "r", "rb": "ruby", "rs": "rust",
    "sol": "solidity", "sql": "sql", "sv": "verilog", "v": "verilog", "vhd": "vhdl", "vhdl": "vhdl",
    "swift": "swift", "tcl": "tcl", "tex": "tex", "zig": "zig",
    "cfg": "ini", "ini": "ini", "toml": "toml", "yaml": "yaml", "yml": "yaml",
}  # fmt: skip
_NAMES = {
    "cmakelists.txt": "cmake", "dockerfile": "docker", "gemfile": "ruby", "gnumakefile": "makefile",
    "makefile": "makefile", "rakefile": "ruby",
}  # fmt: skip
_FIRST_LINE = re.compile(rb"#![ \t]*/[^\s]{1,100}/(?:env[ \t]+(?:-S[ \t]+)?)?([A-Za-z]{1,20})")
_INTERPRETERS = {
    "awk": "awk", "bash": "sh", "dash": "sh", "fish": "fish", "ksh": "sh", "lua": "lua", "node": "javascript",
    "perl": "perl", "php": "php", "python": "python", "Rscript": "r", "ruby": "ruby", "sh": "sh", "tclsh": "tcl",
    "zsh": "sh",
}  # fmt: skip


def source_code_type(path: PurePath) -> str | None:
    """The media type of a file of source code, by its name; None for a file that is none."""
    language = _NAMES.get(path.name.lower()) or _LANGUAGES.get(path.suffix.lower().removeprefix("."))
    return f"text/x-{language}" if language else None


def script_type(head: bytes) -> str | None:
    """The media type of a program by the interpreter that its first line names; None where that names none."""
    found = _FIRST_LINE.match(head)
    language = _INTERPRETERS.get(found[1].decode()) if found else None
    return f"text/x-{language}" if language else None


def extract_source_code(raw: bytes, media_type: str) -> Extracted:
    """The whole file, decoded. UnusableError when it is binary, or nothing but white space.

    A Python file is read in the encoding that it declares, as Python reads it.
    """
    decoded = decode(raw, _declared(raw) if media_type == "text/x-python" else None)
    if not decoded.text.strip():
        raise UnusableError("empty")
    return Extracted(decoded.text, EXTRACTOR, EXTRACTOR_VERSION, metadata=decoded.metadata)


def _declared(raw: bytes) -> str | None:
    try:
        return tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
    except SyntaxError:  # an encoding that does not exist
        return None
