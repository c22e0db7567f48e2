"""How far constrained JSON agrees with JSON-Schema-Test-Suite, beside llguidance alone.

    python benchmarks/json_schema_suite.py FOLDER

FOLDER has the files of a draft (`tests/draft2020-12`), or an archive of them. Each instance is written compactly, its
keys in the order in which they come, and agrees when the compiled schema accepts its text exactly where the suite has
it valid. An instance whose keys come in another order than the schema's properties counts as wrongly rejected, for
both. A schema that is not compiled refuses its instances; wrongly accepted are those that constrained decoding could
write though they are not valid. llguidance gets the schema as it stands, and its own defaults.

The core keywords are the 18 files named in `constrained_cases.py`: 492 instances of draft 2020-12. `format` is an
annotation in the suite, and an assertion in lmworks.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint_sandbox import Vocabulary

sys.path.append(str(Path(__file__).parents[1] / "tests" / "generate"))

from constrained_cases import (  # pyright: ignore[reportMissingImports]
    CORE,
    agreement,
    read_suite,
    sentence_piece_tokenizer,
    suite_compiler,
)

COLUMNS = ("agree", "wrongly accepted", "wrongly rejected", "refused")


def llguidance_alone(tokenizer: LLTokenizer) -> Callable[[Any], Callable[[str], bool] | None]:
    def compiled(schema: Any) -> Callable[[str], bool] | None:
        fresh = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
        if fresh.is_error():
            return None

        def accepts(text: str) -> bool:
            matcher, tokens = fresh.deep_copy(), list(text.encode("utf-8", "surrogatepass"))
            whole = matcher.validate_tokens(tokens) == len(tokens) and matcher.consume_tokens(tokens)
            return whole and matcher.is_accepting()

        return accepts

    return compiled


def row(name: str, *results: Counter[str]) -> None:
    cells = ("".join(f"{counts[column]:10}" for column in COLUMNS) for counts in results)
    print(f"{name:24}{results[0].total():6}  {'  |'.join(cells)}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description="How far constrained JSON agrees with JSON-Schema-Test-Suite")
    arguments.add_argument("folder", type=Path, help="the suite's tests/draft2020-12, or a folder with its archive")
    files = read_suite(arguments.parse_args().folder)
    tokenizer = sentence_piece_tokenizer()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocabulary_size, tokenizer.eos_ids)
    ours = suite_compiler(compiler)
    theirs = llguidance_alone(Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256]).native())
    print(f"{'':32}{'lmworks':40}  | llguidance alone")
    print(f"{'file':24}{'tests':>6}  {'  |'.join(['     agree  accepted  rejected   refused'] * 2)}")
    totals = {"core keywords": (Counter[str](), Counter[str]()), "all": (Counter[str](), Counter[str]())}
    for name, groups in files.items():
        results = agreement(groups, ours), agreement(groups, theirs)
        row(name + (" *" if name in CORE else ""), *results)
        for total in ("core keywords", "all") if name in CORE else ("all",):
            for sums, counts in zip(totals[total], results, strict=True):
                sums.update(counts)
    for name, results in totals.items():
        row(name + (" *" if name == "core keywords" else ""), *results)
    compiler.close()


if __name__ == "__main__":
    main()
