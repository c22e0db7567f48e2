"""Measure what the quick suite notices: change one expression of the source at a time and run the tests that reach it.

    python tests/mutants.py record                which tests reach which lines (once; minutes)
    python tests/mutants.py run --sample 300      the share of mutants that a test kills

Each mutant lives in memory alone: a forked process loads the changed module in place of the file's. Tests that run
lmworks in another process do not see it, so the share is a lower bound. A mutant that hangs counts as killed.
Method: DeMillo, Lipton and Sayward 1978, "Hints on test data selection".
"""

import argparse
import ast
import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "lmworks"
PACKAGES = ("model", "train", "generate", "ground", "monitor")
SECONDS = 90  # a mutant's tests; then it counts as hanging
MOST_TESTS = 60  # the fastest that reach a mutant's line

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    path: str  # below the source folder
    line: int
    before: str
    after: str
    source: str  # of the whole changed module


class Recorder:
    """A pytest plugin that tells coverage which test runs, and keeps each test's seconds."""

    def __init__(self, measure: Any) -> None:
        self.measure = measure
        self.seconds: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measure.switch_context(item.nodeid)
        start = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] += time.perf_counter() - start
        return result


def record(folder: Path, tests: list[str]) -> None:
    """Run the quick tests of the folders in two processes and write `coverage.N` and `seconds.json` into the folder."""
    files = sorted(
        str(path.relative_to(REPOSITORY)) for name in tests for path in (REPOSITORY / name).rglob("test_*.py")
    )
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as processes:
        halves = processes.map(_record, [folder / "coverage.0", folder / "coverage.1"], [files[0::2], files[1::2]])
    (folder / "seconds.json").write_text(json.dumps({test: took for half in halves for test, took in half.items()}))


def _record(data: Path, files: list[str]) -> dict[str, float]:
    import coverage

    measure = coverage.Coverage(data_file=str(data), source=[str(SOURCE)], config_file=False)
    measure.start()
    recorder = Recorder(measure)
    pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", "-m", "not slow", *files], plugins=[recorder])
    measure.stop()
    measure.save()
    return dict(recorder.seconds)


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a file: a swapped operator, a negated condition, a constant plus one, or a call left out."""
    text = path.read_text()
    mutants = []
    module = ast.parse(text)
    for definition in ast.walk(module):  # `frozen`, `slots` and the like change nothing that a test could see
        if isinstance(definition, ast.ClassDef):
            definition.decorator_list = []
    for node in ast.walk(module):
        if not isinstance(node, ast.expr | ast.stmt) or not hasattr(node, "end_col_offset"):
            continue
        changed = _changed(node)
        if changed is not None:
            before = ast.get_source_segment(text, node) or ""
            source = _replaced(text, node, changed)
            mutants.append(Mutant(str(path.relative_to(SOURCE)), node.lineno, before, changed, source))
    return mutants


def _changed(node: ast.expr | ast.stmt) -> str | None:
    match node:
        case ast.Compare(ops=[operator], left=left, comparators=right) if type(operator) in SWAPS:
            return f"({ast.unparse(ast.Compare(left, [SWAPS[type(operator)]()], right))})"
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in SWAPS and not _is_text(left, right):
            return f"({ast.unparse(ast.BinOp(left, SWAPS[type(operator)](), right))})"
        case ast.BoolOp(op=operator, values=values):
            return f"({ast.unparse(ast.BoolOp(SWAPS[type(operator)](), values))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand) | ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"({ast.unparse(operand)})"
        case ast.IfExp(test=test, body=body, orelse=other):
            return f"({ast.unparse(ast.IfExp(test, other, body))})"
        case ast.Constant(value=bool() as value):
            return str(not value)
        case ast.Constant(value=int() as value):
            return str(value + 1)
        case ast.Expr(value=ast.Call()):
            return "pass"
    return None


def _is_text(*operands: ast.expr) -> bool:
    return any(isinstance(part, ast.JoinedStr) or isinstance(getattr(part, "value", None), str) for part in operands)


def _replaced(text: str, node: ast.expr | ast.stmt, changed: str) -> str:
    lines = text.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or node.lineno) - 1])) + (node.end_col_offset or 0)
    return (text.encode()[:start] + changed.encode() + text.encode()[end:]).decode()


class MutantFinder(MetaPathFinder):
    """Finds one module of lmworks with a mutant's source."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = ".".join(("lmworks", *Path(mutant.path).with_suffix("").parts)).removesuffix(".__init__")
        self.mutant = mutant

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        sys.meta_path.insert(0, self)
        assert spec is not None and spec.origin is not None
        spec.loader = MutantLoader(fullname, spec.origin)
        spec.loader.source = self.mutant.source
        return spec


class MutantLoader(SourceFileLoader):
    source = ""

    def get_code(self, fullname: str) -> Any:
        return compile(self.source, self.path, "exec")


def outcome(mutant: Mutant, tests: list[str]) -> str:
    """`killed`, `hangs` or `survived`, by a forked process that runs the tests up to the first failure."""
    child = os.fork()
    if child == 0:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.alarm(SECONDS)
        sys.meta_path.insert(0, MutantFinder(mutant))
        code = 1
        try:
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0", *tests]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hangs" if os.WTERMSIG(status) == signal.SIGALRM else "killed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


def run(folder: Path, packages: list[str], sample: int, seed: int) -> None:
    """Draw the sample, run it in two processes, print a line a mutant and a table, and write `mutants.json`."""
    import coverage

    seconds = json.loads((folder / "seconds.json").read_text())
    reached: dict[tuple[str, int], set[str]] = defaultdict(set)
    of_file: dict[str, Counter[str]] = defaultdict(Counter)
    for path in folder.glob("coverage.*"):
        data = coverage.CoverageData(str(path))
        data.read()
        for name in data.measured_files():
            for line, tests in data.contexts_by_lineno(name).items():
                short = str(Path(name).relative_to(SOURCE))
                reached[short, line].update(test for test in tests if test)
                of_file[short].update(test for test in tests if test)
    draw = random.Random(seed)
    drawn = []
    for package in packages:
        candidates = [mutant for path in sorted((SOURCE / package).rglob("*.py")) for mutant in mutants_of(path)]
        drawn += draw.sample(candidates, sample // len(packages))
    work = []
    for mutant in drawn:
        # A module's own level runs at import, in no test: the tests that use the file most see its effect.
        tests = reached[mutant.path, mutant.line] or {test for test, _ in of_file[mutant.path].most_common(20)}
        work.append((mutant, sorted(tests, key=lambda test: seconds.get(test, 0.0))[:MOST_TESTS]))
    results = []
    with ProcessPoolExecutor(2) as processes:
        for (mutant, _), verdict in zip(work, processes.map(_outcome, work), strict=True):
            results.append(asdict(mutant) | {"outcome": verdict, "source": ""})
            change = f"{' '.join(mutant.before.split())[:60]} -> {mutant.after[:60]}"
            print(f"{verdict:9} {mutant.path}:{mutant.line}  {change}", flush=True)
    (folder / "mutants.json").write_text(json.dumps(results, indent=1))
    for package in packages:
        outcomes = Counter(row["outcome"] for row in results if row["path"].startswith(f"{package}/"))
        caught = outcomes["killed"] + outcomes["hangs"]
        print(f"{package:10} {caught} of {outcomes.total()} ({caught / outcomes.total():.0%})  {dict(outcomes)}")


def _outcome(work: tuple[Mutant, list[str]]) -> str:
    mutant, tests = work
    return outcome(mutant, tests) if tests else "no test"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "run"])
    parser.add_argument("--folder", type=Path, default=Path(".mutants"), help="of the recording and the results")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="folders of tests to record")
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--sample", type=int, default=300, help="mutants, divided among the packages")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.chdir(REPOSITORY)
    if given.action == "record":
        record(given.folder, given.tests)
    else:
        import torch  # before the processes divide, which then need not import it

        torch.set_num_threads(1)
        run(given.folder, given.packages, given.sample, given.seed)
